-- Who was told an id (a log line, a cause, a command's answer) looks for that record. Hashed: a third smaller than ids in order.
CREATE INDEX events_record ON events USING hash (record_id);

-- What waits is what has no end. No column of it changes with a task's steps, so that these need no new entries in any index.
DROP INDEX tasks_waiting;
CREATE INDEX tasks_waiting ON tasks (agent_id) WHERE finished_at IS NULL;
CREATE OR REPLACE VIEW task_queue AS
SELECT t.agent_id, a.tenant, a.name AS agent, t.campaign, t.ordinal, t.attempt, t.kind, t.title, t.status, t.reason, t.failures,
       t.updated_at AS since, t.partition, t."offset"
FROM tasks t
JOIN agents a USING (agent_id)
WHERE t.finished_at IS NULL;

-- Room for more changes within a page: agents change with most of their records.
ALTER TABLE agents SET (fillfactor = 60);
ALTER TABLE tasks SET (fillfactor = 80);
