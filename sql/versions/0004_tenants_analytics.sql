CREATE VIEW analytics_v1.ledger AS
SELECT t.tenant, m.name AS agent, l.agent_id, l.campaign, l.ordinal, l.attempt, l.campaign_id, l.entry, l.reason, l.amount_usd, l.day,
       l.created_at, 'chimera.log' AS topic, l.partition, l."offset"
FROM {schema}.ledger l
JOIN {schema}.tenants t USING (tenant_id)
LEFT JOIN {schema}.tenant_members m USING (tenant_id, agent_id);
COMMENT ON VIEW analytics_v1.ledger IS 'The tenant''s ledger: what was held, refused, left waiting and settled for an effect, and in which day.';

CREATE VIEW analytics_v1.ledger_balance AS
WITH effect AS (
    SELECT tenant_id, agent_id, campaign, ordinal, attempt, campaign_id,
           coalesce(sum(amount_usd) FILTER (WHERE entry = 'held'), 0) AS held_usd,
           sum(amount_usd) FILTER (WHERE entry = 'settled') AS settled_usd,
           max(partition) AS partition, max("offset") AS "offset"
    FROM {schema}.ledger
    GROUP BY tenant_id, agent_id, campaign, ordinal, attempt, campaign_id
), called AS (
    SELECT agent_id, correlation AS campaign_id, sum(cost_usd) AS called_usd
    FROM {schema}.tool_calls c
    WHERE EXISTS (SELECT FROM {schema}.effects e WHERE e.agent_id = c.agent_id AND e.profile = c.profile AND e.tool = c.tool
                                                   AND e.max_cost_usd > 0)
    GROUP BY agent_id, correlation
), summed AS (
    SELECT f.tenant_id, f.agent_id, f.campaign_id,
           coalesce(sum(f.held_usd) FILTER (WHERE f.settled_usd IS NULL), 0) AS reserved_usd,
           coalesce(sum(f.settled_usd), 0) AS settled_usd, coalesce(sum(e.cost_usd), 0) AS executed_usd,
           max(f.partition) AS partition, max(f."offset") AS "offset"
    FROM effect f
    LEFT JOIN {schema}.effects e USING (agent_id, campaign, ordinal, attempt)
    GROUP BY f.tenant_id, f.agent_id, f.campaign_id
)
SELECT t.tenant, m.name AS agent, s.agent_id, s.campaign_id, s.reserved_usd, s.settled_usd, s.executed_usd,
       coalesce(c.called_usd, 0) AS called_usd, s.settled_usd - s.executed_usd AS difference_usd,
       'chimera.log' AS topic, s.partition, s."offset"
FROM summed s
JOIN {schema}.tenants t USING (tenant_id)
LEFT JOIN {schema}.tenant_members m USING (tenant_id, agent_id)
LEFT JOIN called c USING (agent_id, campaign_id);
COMMENT ON VIEW analytics_v1.ledger_balance IS
    'Per agent and campaign: what the ledger settled beside what executed effects and their calls cost. A difference is an open settlement or an alarm.';

CREATE VIEW analytics_v1.budgets AS
SELECT t.tenant, b.scope, b.limit_usd, b.asked_usd, b.updated_at, 'chimera.log' AS topic, b.partition, b."offset"
FROM {schema}.budgets b
JOIN {schema}.tenants t USING (tenant_id);
COMMENT ON VIEW analytics_v1.budgets IS 'Limits in force; asked_usd is voted for and waits for more people.';
