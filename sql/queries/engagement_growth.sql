-- What did posts gain on each of the last 7 days?
-- metric: the platform's number; posts: that were observed on the day; gained: by all of them together since their last earlier day
-- returns: tenant, day, metric, posts, gained
SELECT tenant, day, metric, sum(posts)::bigint AS posts, sum(gained) AS gained
FROM analytics_v1.engagement_growth
WHERE day >= (now() AT TIME ZONE 'UTC')::date - 6
GROUP BY tenant, day, metric
ORDER BY day DESC, tenant, metric
