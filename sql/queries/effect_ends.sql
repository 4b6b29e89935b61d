-- What becomes of what is proposed, by tool?
-- proposed: in all; executed, unknown, refused: ended so; waiting: not ended; unknown_rate: unknown / proposed
-- returns: tenant, platform, tool, proposed, executed, unknown, refused, waiting, unknown_rate
SELECT tenant, platform, tool, count(*) AS proposed, count(*) FILTER (WHERE status = 'executed') AS executed,
       count(*) FILTER (WHERE status = 'unknown') AS unknown, count(*) FILTER (WHERE status = 'refused') AS refused,
       count(*) FILTER (WHERE ended_at IS NULL) AS waiting,
       round(count(*) FILTER (WHERE status = 'unknown')::numeric / count(*), 4) AS unknown_rate
FROM analytics_v1.effects
GROUP BY tenant, platform, tool
ORDER BY unknown_rate DESC, tenant, platform, tool
