-- What does a published minute of video cost?
-- platform, tool_name, tier: who made it, with what; videos: published ones; minutes: of them together
-- cost_usd: of making these and everything that they were made from; usd_per_minute: cost_usd / minutes
-- returns: platform, tool_name, tier, videos, minutes, cost_usd, usd_per_minute
WITH origins AS MATERIALIZED (
    SELECT agent_id, sha256, sum(ancestor_cost_usd) AS cost_usd FROM analytics_v1.asset_lineage GROUP BY agent_id, sha256
), published AS MATERIALIZED (
    SELECT agent_id, sha256 FROM analytics_v1.publishing_state WHERE state = 'published' AND role = 'final' GROUP BY agent_id, sha256
), video AS (
    SELECT a.agent_id, a.sha256, a.tier, a.duration_s, a.cost_usd + coalesce(o.cost_usd, 0) AS cost_usd
    FROM published s
    JOIN analytics_v1.assets a USING (agent_id, sha256)
    LEFT JOIN origins o USING (agent_id, sha256)
    WHERE a.duration_s > 0
)
SELECT p.platform, p.tool_name, v.tier, count(*) AS videos, round((sum(v.duration_s) / 60)::numeric, 2) AS minutes, sum(v.cost_usd) AS cost_usd,
       round(sum(v.cost_usd) / (sum(v.duration_s) / 60)::numeric, 4) AS usd_per_minute
FROM video v
JOIN analytics_v1.asset_provenance p USING (agent_id, sha256)
GROUP BY p.platform, p.tool_name, v.tier
ORDER BY usd_per_minute
