-- What did people say to agents, and what answers it?
-- thread, external_id: where on the platform; observed_at: when, as the platform says
-- answered_by: the task that writes the answer; answer_status: how far it is
-- waited: until the answer was planned
-- returns: agent, source, thread, external_id, taint, observed_at, answered_by, answer_status, waited
SELECT agent, source, thread, external_id, taint, observed_at, agent || '/' || campaign || '.' || answered_by AS answered_by, answer_status,
       CASE WHEN answered_by IS NOT NULL THEN date_trunc('second', updated_at - created_at) END AS waited
FROM analytics_v1.signals
ORDER BY observed_at DESC, agent_id, source, number, item
LIMIT 200
