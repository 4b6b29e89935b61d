-- What was spent on each of the last 14 days, and on what?
-- capability: what was asked for; calls: how many; cost_usd: of them together
-- returns: tenant, day, capability, calls, cost_usd
SELECT tenant, day, capability, sum(calls)::bigint AS calls, sum(cost_usd) AS cost_usd
FROM analytics_v1.spend
WHERE day >= (now() AT TIME ZONE 'UTC')::date - 13
GROUP BY tenant, day, capability
ORDER BY day DESC, tenant, cost_usd DESC, capability
