-- Does the money tie out: calls, their daily sums, executed effects and the ledger?
-- calls_usd: sum of tool_calls; spend_usd: sum of spend, which must be the same; difference_usd: calls_usd - spend_usd, 0 or an alarm
-- executed_usd, settled_usd: what executed effects cost and what the ledger settled; unsettled_usd: their difference
-- returns: tenant, calls_usd, spend_usd, difference_usd, executed_usd, settled_usd, unsettled_usd
SELECT tenant, c.usd AS calls_usd, s.usd AS spend_usd, c.usd - s.usd AS difference_usd, coalesce(e.usd, 0) AS executed_usd,
       coalesce(l.usd, 0) AS settled_usd, coalesce(e.usd, 0) - coalesce(l.usd, 0) AS unsettled_usd
FROM (SELECT tenant, sum(cost_usd) AS usd FROM analytics_v1.tool_calls GROUP BY tenant) c
JOIN (SELECT tenant, sum(cost_usd) AS usd FROM analytics_v1.spend GROUP BY tenant) s USING (tenant)
LEFT JOIN (SELECT tenant, sum(cost_usd) AS usd FROM analytics_v1.effects WHERE status = 'executed' AND max_cost_usd > 0 GROUP BY tenant) e
    USING (tenant)
LEFT JOIN (SELECT tenant, sum(amount_usd) AS usd FROM analytics_v1.ledger WHERE entry = 'settled' GROUP BY tenant) l USING (tenant)
ORDER BY tenant
