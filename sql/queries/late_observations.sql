-- How late do observations come, over the last hour?
-- source: who told; observations: how many numbers; p50_s, p95_s: seconds from the observation until it was on the log
-- returns: source, observations, p50_s, p95_s
SELECT source, observations, round(late_s[1]::numeric, 1) AS p50_s, round(late_s[2]::numeric, 1) AS p95_s
FROM (
    SELECT source, count(*) AS observations,
           percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY date_part('epoch', created_at - observed_at)) AS late_s
    FROM analytics_v1.engagement_metrics
    WHERE created_at >= now() - interval '1 hour'
    GROUP BY source
) told
ORDER BY observations DESC, source
