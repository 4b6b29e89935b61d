-- Which way of making a video wins?
-- steps: what was done to get the published file, the last step first; platform, model: who made it
-- videos: published; views, watch_time_s: mean of the last observed cumulative numbers
-- returns: steps, platform, model, videos, views, watch_time_s
WITH ways AS MATERIALIZED (
    SELECT agent_id, sha256 AS asset_sha256, array_to_string(steps, ' < ') AS steps FROM analytics_v1.asset_lineage WHERE ancestor_role = 'prompt'
), shown AS MATERIALIZED (
    SELECT agent_id, asset_sha256, views, watch_time_s FROM analytics_v1.post_facts WHERE asset_sha256 IS NOT NULL
)
SELECT w.steps, p.platform, p.model, count(*) AS videos, round(avg(f.views)::numeric, 1) AS views, round(avg(f.watch_time_s)::numeric, 1) AS watch_time_s
FROM shown f
JOIN ways w USING (agent_id, asset_sha256)
JOIN analytics_v1.asset_provenance p ON (p.agent_id, p.sha256) = (f.agent_id, f.asset_sha256)
GROUP BY w.steps, p.platform, p.model
ORDER BY watch_time_s DESC NULLS LAST, steps, p.platform
