-- How much of each tenant's limit is spent?
-- limit_usd: of the scope tenant; null = none; settled_usd: by the ledger so far; held_usd: not yet settled
-- returns: tenant, limit_usd, settled_usd, held_usd
SELECT b.tenant, b.limit_usd, coalesce(sum(l.settled_usd), 0) AS settled_usd, coalesce(sum(l.reserved_usd), 0) AS held_usd
FROM analytics_v1.budgets b
LEFT JOIN analytics_v1.ledger_balance l USING (tenant)
WHERE b.scope = 'tenant'
GROUP BY b.tenant, b.limit_usd
ORDER BY b.tenant
