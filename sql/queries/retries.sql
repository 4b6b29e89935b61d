-- What was tried again, and why?
-- agent, campaign, ordinal, attempt: the attempt that ended; title: of the task
-- reason: what the law said; cause: type of the record that ended it
-- said: what the judge gave as reasons
-- failures: of the task so far; status: of the task now
-- returns: agent, campaign, ordinal, attempt, title, reason, cause, said, failures, status, created_at
SELECT agent, campaign, ordinal, attempt, title, reason, cause, said, failures, task_status AS status, created_at
FROM analytics_v1.retries
ORDER BY created_at, agent, campaign, ordinal, attempt
