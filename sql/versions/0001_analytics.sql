-- The analysts' contract, version 1: columns are added, never changed or removed; a breaking change is analytics_v2.
-- Each row ends with the coordinates of the record that wrote it last.

CREATE VIEW analytics_v1.posts AS
SELECT tenant, agent, agent_id, campaign, ordinal, attempt, card, platform, account, thread, platform_id, url, mode, text, confidence,
       disclosure, cost_usd, proposed_at, approved_at, published_at, effect_hash, artifact_hash,
       'chimera.log' AS topic, partition, "offset"
FROM {schema}.posts;
COMMENT ON VIEW analytics_v1.posts IS 'Posts, replies and messages that reached a platform.';

CREATE VIEW analytics_v1.reviews AS
SELECT a.tenant, a.name AS agent, v.agent_id, v.campaign, v.ordinal, v.attempt,
       a.name || '/' || v.campaign || '.' || v.ordinal || '.' || v.attempt AS card,
       v.status, v.why, v.edit, v.approvals, v.reason, v.decided_by, v.first_opened_at, v.opened_at, v.decided_at,
       v.decided_at - v.opened_at AS took, 'chimera.log' AS topic, v.partition, v."offset"
FROM {schema}.reviews v
JOIN {schema}.agents a USING (agent_id);
COMMENT ON VIEW analytics_v1.reviews IS 'Effects that people were asked about: why, how long, what was decided.';

CREATE VIEW analytics_v1.effects AS
SELECT a.tenant, a.name AS agent, e.agent_id, e.campaign, e.ordinal, e.attempt, e.effect_class, e.tool_class, e.profile, e.mode, e.tool,
       e.platform, e.account, e.status, e.reason, e.claim, e.max_cost_usd, e.cost_usd, e.proposed_at, e.approved_at, e.claimed_at,
       e.ended_at, e.effect_hash, 'chimera.log' AS topic, e.partition, e."offset"
FROM {schema}.effects e
JOIN {schema}.agents a USING (agent_id);
COMMENT ON VIEW analytics_v1.effects IS 'Every proposed act on the outside world and what became of it.';

CREATE VIEW analytics_v1.rejections AS
SELECT a.tenant, a.name AS agent, r.agent_id, r.campaign, r.ordinal, r.attempt, r.type, r.reason, r.actor, r.state_version, r.created_at,
       'chimera.log' AS topic, r.partition, r."offset"
FROM {schema}.rejections r
JOIN {schema}.agents a USING (agent_id);
COMMENT ON VIEW analytics_v1.rejections IS 'Answers that did not count, and why.';

CREATE VIEW analytics_v1.stale_rate AS
SELECT a.tenant, a.name AS agent, a.agent_id,
       count(*) FILTER (WHERE v.ruling = 'rejected' AND v.reason = 'stale') AS stale,
       count(*) AS verdicts,
       round(count(*) FILTER (WHERE v.ruling = 'rejected' AND v.reason = 'stale')::numeric / count(*), 4) AS rate,
       'chimera.log' AS topic, max(v.partition) AS partition, max(v."offset") AS "offset"
FROM {schema}.verdicts v
JOIN {schema}.agents a USING (agent_id)
GROUP BY a.tenant, a.name, a.agent_id;
COMMENT ON VIEW analytics_v1.stale_rate IS 'Share of judged work that was stale when it was to be committed, per agent; coordinates of its last verdict.';

CREATE VIEW analytics_v1.tool_calls AS
SELECT tenant, agent_id, profile, mode, capability, tool, account, result_class, reason, latency_ms, cost_usd, correlation, created_at,
       'chimera.calls' AS topic, partition, "offset"
FROM {schema}.tool_calls;
COMMENT ON VIEW analytics_v1.tool_calls IS 'One row per MCP call: cost, latency and how it ended; never its content.';

CREATE VIEW analytics_v1.freshness AS
SELECT model_set, topic, partition, next_offset AS "offset", law, last_append_at, moved_at, unmoved_for, stopped
FROM {schema}.freshness;
COMMENT ON VIEW analytics_v1.freshness IS 'How far each partition is projected; stopped says why one stands still.';
