-- What happened to media in the last week?
-- event: produced, edited, final, proposed, disclosed, scheduled, published, failed, unknown or deleted
-- assets: different files of each agent; events: in all
-- returns: tenant, day, event, assets, events
SELECT tenant, day, event, sum(assets)::bigint AS assets, sum(events)::bigint AS events
FROM analytics_v1.asset_daily
WHERE day >= (now() AT TIME ZONE 'UTC')::date - 6
GROUP BY tenant, day, event
ORDER BY day DESC, tenant, event
