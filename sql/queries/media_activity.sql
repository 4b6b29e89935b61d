-- What happened to media in the last week?
-- event: produced, edited, final, proposed, disclosed, scheduled, published, failed, unknown or deleted; assets: different files; events: in all
-- returns: tenant, day, event, assets, events
SELECT tenant, day, event, count(*) AS assets, sum(events)::bigint AS events
FROM (
    SELECT tenant, (created_at AT TIME ZONE 'UTC')::date AS day, event, sha256, count(*) AS events
    FROM analytics_v1.asset_events
    WHERE created_at >= now() - interval '7 days'
    GROUP BY tenant, day, event, sha256
) each
GROUP BY tenant, day, event
ORDER BY day DESC, tenant, event
