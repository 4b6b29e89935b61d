-- Does the money tie out: calls, their daily sums, executed effects and the ledger?
-- calls_usd: sum of tool_calls; spend_usd: sum of spend, which must be the same; difference_usd: calls_usd - spend_usd, 0 or an alarm
-- executed_usd, settled_usd: what executed effects cost and what the ledger settled; unsettled_usd: their difference
-- returns: tenant, calls_usd, spend_usd, difference_usd, executed_usd, settled_usd, unsettled_usd
SELECT tenant, sum(calls) AS calls_usd, sum(spend) AS spend_usd, sum(calls) - sum(spend) AS difference_usd, sum(executed) AS executed_usd,
       sum(settled) AS settled_usd, sum(executed) - sum(settled) AS unsettled_usd
FROM (  -- whoever is missing from one of them counts as 0 there: that is the difference to look for
    SELECT tenant, sum(cost_usd) AS calls, 0 AS spend, 0 AS executed, 0 AS settled FROM analytics_v1.tool_calls GROUP BY tenant
    UNION ALL
    SELECT tenant, 0, sum(cost_usd), 0, 0 FROM analytics_v1.spend GROUP BY tenant
    UNION ALL
    SELECT tenant, 0, 0, sum(cost_usd), 0 FROM analytics_v1.effects WHERE status = 'executed' AND max_cost_usd > 0 GROUP BY tenant
    UNION ALL
    SELECT tenant, 0, 0, 0, sum(amount_usd) FROM analytics_v1.ledger WHERE entry = 'settled' GROUP BY tenant
) told
GROUP BY tenant
ORDER BY tenant
