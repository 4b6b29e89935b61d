-- How late do observations come, over the last six hours?
-- source: who told; observations: how many numbers; p50_s, p95_s: seconds from the observation until it was on the log
-- returns: source, observations, p50_s, p95_s
SELECT source, count(*) AS observations,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - observed_at))::numeric, 1) AS p50_s,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - observed_at))::numeric, 1) AS p95_s
FROM analytics_v1.engagement_metrics
WHERE created_at >= now() - interval '6 hours'
GROUP BY source
ORDER BY observations DESC, source
