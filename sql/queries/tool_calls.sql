-- What do MCP calls cost, and how do they end?
-- profile, tool, result: of the calls; calls: how many
-- cost_usd: by the profile's table; p50_ms, p95_ms: latency
-- returns: profile, tool, result, calls, cost_usd, p50_ms, p95_ms
SELECT profile, tool, result_class AS result, count(*) AS calls, sum(cost_usd) AS cost_usd,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms)::numeric, 1) AS p50_ms,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms)::numeric, 1) AS p95_ms
FROM analytics_v1.tool_calls
GROUP BY profile, tool, result_class
ORDER BY calls DESC, profile, tool, result
