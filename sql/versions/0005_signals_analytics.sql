CREATE VIEW analytics_v1.signals AS
SELECT a.tenant, a.name AS agent, s.agent_id, s.source, s.number, s.item, s.thread, s.external_id, s.observed_at, s.created_at, s.taint,
       s.campaign, s.answered_by, t.status AS answer_status, 'chimera.log' AS topic, s.partition, s."offset"
FROM {schema}.signals s
JOIN {schema}.agents a USING (agent_id)
LEFT JOIN {schema}.tasks t ON (t.agent_id, t.campaign, t.ordinal) = (s.agent_id, s.campaign, s.answered_by);
COMMENT ON VIEW analytics_v1.signals IS
    'What outside people said to agents: where, when, and which task answers it. Their words and names are sealed, and not here.';
