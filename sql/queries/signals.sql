-- What did people say to agents, and what answers it?
-- thread, external_id: where on the platform; observed_at: when, as the platform says
-- answered_by: the task that writes the answer; answer_status: how far it is
-- waited: until the answer was planned
SELECT a.name AS agent, s.source, s.thread, s.external_id, s.taint, s.observed_at,
  a.name || '/' || s.campaign || '.' || s.answered_by AS answered_by, t.status AS answer_status,
  CASE WHEN s.answered_by IS NOT NULL THEN date_trunc('second', s.updated_at - s.created_at) END AS waited
FROM core.signals s JOIN core.agents a USING (agent_id)
LEFT JOIN core.tasks t ON (t.agent_id, t.campaign, t.ordinal) = (s.agent_id, s.campaign, s.answered_by)
ORDER BY s.observed_at DESC, s.agent_id, s.heard_at, s.item
LIMIT 200
