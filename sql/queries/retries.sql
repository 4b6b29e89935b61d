-- What was tried again, and why?
-- agent, campaign, ordinal, attempt: the attempt that ended; title: of the task
-- reason: what the law said; cause: type of the record that ended it
-- said: what the judge gave as reasons
-- failures: of the task so far; status: of the task now
SELECT a.name AS agent, r.campaign, r.ordinal, r.attempt, t.title, r.reason, r.cause, v.reasons AS said, r.failures, t.status,
       r.created_at
FROM core.retries r
JOIN core.agents a USING (agent_id)
JOIN core.tasks t USING (agent_id, campaign, ordinal)
LEFT JOIN core.verdicts v ON (v.partition, v."offset") = (r.partition, r."offset")
ORDER BY r.created_at, agent, r.campaign, r.ordinal, r.attempt
