-- At which hour do posts do best?
-- hour: of publishing, UTC; posts: published then; views: their mean, last observed
-- returns: hour, platform, posts, views
SELECT extract(hour FROM published_at)::int AS hour, platform, count(*) AS posts, round(avg(views)::numeric, 1) AS views
FROM analytics_v1.post_facts
WHERE views IS NOT NULL
GROUP BY hour, platform
ORDER BY views DESC, hour, platform
