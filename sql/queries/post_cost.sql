-- What does a post cost, and what does a view?
-- posts: published; making_usd, publishing_usd: means; usd_per_1000_views: over all posts with views together
-- returns: tenant, platform, posts, making_usd, publishing_usd, usd_per_1000_views
SELECT tenant, platform, count(*) AS posts, round(avg(making_cost_usd), 5) AS making_usd, round(avg(publishing_cost_usd), 5) AS publishing_usd,
       round((1000 * sum(cost_usd) FILTER (WHERE views > 0) / nullif(sum(views)::numeric, 0)), 5) AS usd_per_1000_views
FROM analytics_v1.post_facts
GROUP BY tenant, platform
ORDER BY tenant, platform
