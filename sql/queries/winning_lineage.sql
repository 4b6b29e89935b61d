-- Which way of making a video wins?
-- steps: what was done to get the published file, the last step first; platform, model: who made it
-- videos: published; views, watch_time_s: mean of the last observed cumulative numbers
-- returns: steps, platform, model, videos, views, watch_time_s
SELECT array_to_string(a.steps, ' < ') AS steps, a.platform, a.model, count(*) AS videos, round(avg(f.views)::numeric, 1) AS views,
       round(avg(f.watch_time_s)::numeric, 1) AS watch_time_s
FROM analytics_v1.post_facts f
JOIN analytics_v1.asset_facts a ON (a.agent_id, a.sha256) = (f.agent_id, f.asset_sha256)
WHERE f.asset_sha256 IS NOT NULL AND a.origin_role = 'prompt'
GROUP BY 1, a.platform, a.model
ORDER BY watch_time_s DESC NULLS LAST, steps, a.platform
