-- Where do tasks stand, per campaign?
-- agent, campaign, name: whose
-- status, reason: of the tasks; tasks: how many; oldest: since when the longest waits
SELECT a.name AS agent, t.campaign, c.name, t.status, t.reason, count(*) AS tasks, min(t.updated_at) AS oldest
FROM core.tasks t
JOIN core.agents a USING (agent_id)
JOIN core.campaigns c USING (agent_id, campaign)
GROUP BY a.name, t.campaign, c.name, t.status, t.reason
ORDER BY a.name, t.campaign, tasks DESC, t.status, t.reason
