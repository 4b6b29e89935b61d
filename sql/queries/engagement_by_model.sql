-- Which model and tool version brings what, in the last 30 days?
-- posts: published; views, likes: mean of the last observed cumulative numbers; likes_per_1000_views: over all that have both, together
-- usd_per_post: what making and publishing one cost on average
-- returns: model, tool_name, tool_version, posts, views, likes, likes_per_1000_views, usd_per_post
SELECT model, tool_name, tool_version, count(*) AS posts, round(avg(views)::numeric, 1) AS views, round(avg(likes)::numeric, 1) AS likes,
       round((1000 * sum(likes) FILTER (WHERE views > 0) / nullif(sum(views) FILTER (WHERE likes IS NOT NULL), 0))::numeric, 1) AS likes_per_1000_views, round(avg(cost_usd), 5) AS usd_per_post
FROM analytics_v1.post_facts
WHERE published_at >= now() - interval '30 days'
GROUP BY model, tool_name, tool_version
ORDER BY views DESC NULLS LAST, model, tool_version
