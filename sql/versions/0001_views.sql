-- What is asked every day. A card is addressed as <agent name>/<campaign>.<ordinal>.<attempt>.

CREATE VIEW posts AS
SELECT e.agent_id, a.tenant, a.name AS agent, e.campaign, e.ordinal, e.attempt,
       a.name || '/' || e.campaign || '.' || e.ordinal || '.' || e.attempt AS card,
       e.platform, e.account, e.thread, e.platform_id, e.url, e.mode,
       coalesce(r.content ->> 'text', e.arguments ->> 'text') AS text,
       r.confidence, r.content, r.sources, e.disclosure, e.effect_hash, r.artifact_hash, e.edit, e.cost_usd,
       e.proposed_at, e.approved_at, e.ended_at AS published_at, e.partition, e."offset"
FROM effects e
JOIN agents a USING (agent_id)
LEFT JOIN artifacts r USING (agent_id, campaign, ordinal, attempt, edit)
WHERE e.status = 'executed' AND e.effect_class = 'publish';

CREATE VIEW task_queue AS
SELECT t.agent_id, a.tenant, a.name AS agent, t.campaign, t.ordinal, t.attempt, t.kind, t.title, t.status, t.reason, t.failures,
       t.updated_at AS since, t.partition, t."offset"
FROM tasks t
JOIN agents a USING (agent_id)
WHERE t.status IN ('planned', 'open', 'started', 'produced');

CREATE VIEW review_queue AS
SELECT v.agent_id, a.tenant, a.name AS agent, v.campaign, v.ordinal, v.attempt,
       a.name || '/' || v.campaign || '.' || v.ordinal || '.' || v.attempt AS card,
       v.why, v.approvals, v.opened_at, now() - v.opened_at AS waiting, e.effect_class, e.platform, e.account, e.effect_hash, v.edit,
       coalesce(r.content ->> 'text', e.arguments ->> 'text') AS text,
       r.confidence, t.risk_tags, v.partition, v."offset"
FROM reviews v
JOIN agents a USING (agent_id)
JOIN effects e USING (agent_id, campaign, ordinal, attempt)
LEFT JOIN artifacts r ON (r.agent_id, r.campaign, r.ordinal, r.attempt, r.edit) = (v.agent_id, v.campaign, v.ordinal, v.attempt, v.edit)
CROSS JOIN LATERAL (  -- what the worker declared and what the judges found, on any edit of this attempt
    SELECT coalesce(array_agg(DISTINCT tag ORDER BY tag), '{}') AS risk_tags
    FROM (
        SELECT unnest(a.risk_tags) AS tag FROM artifacts a
        WHERE (a.agent_id, a.campaign, a.ordinal, a.attempt) = (v.agent_id, v.campaign, v.ordinal, v.attempt)
        UNION ALL
        SELECT unnest(d.tags) FROM verdicts d
        WHERE (d.agent_id, d.campaign, d.ordinal, d.attempt) = (v.agent_id, v.campaign, v.ordinal, v.attempt)
    ) found
) t
WHERE v.status = 'waiting';

CREATE VIEW hitl_queue AS
SELECT a.tenant, count(*) AS depth, min(v.opened_at) AS oldest, now() - min(v.opened_at) AS oldest_age
FROM reviews v
JOIN agents a USING (agent_id)
WHERE v.status = 'waiting'
GROUP BY a.tenant;

CREATE VIEW freshness AS
SELECT model_set, topic, partition, next_offset, law, last_append_at, moved_at, now() - moved_at AS unmoved_for, stopped
FROM checkpoints;
