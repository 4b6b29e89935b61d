-- What does a published minute of video cost?
-- platform, tool_name, tier: who made it, with what; videos: published ones; minutes: of them together
-- cost_usd: of making these and everything that they were made from; usd_per_minute: cost_usd / minutes
-- returns: platform, tool_name, tier, videos, minutes, cost_usd, usd_per_minute
WITH published AS MATERIALIZED (
    SELECT DISTINCT agent_id, sha256 FROM analytics_v1.publishing_state WHERE state = 'published' AND role = 'final'
)
SELECT a.platform, a.tool_name, a.tier, count(*) AS videos, round((sum(a.duration_s) / 60)::numeric, 2) AS minutes,
       sum(a.total_cost_usd) AS cost_usd, round(sum(a.total_cost_usd) / (sum(a.duration_s) / 60)::numeric, 4) AS usd_per_minute
FROM published
JOIN analytics_v1.asset_facts a USING (agent_id, sha256)
WHERE a.duration_s > 0
GROUP BY a.platform, a.tool_name, a.tier
ORDER BY usd_per_minute
