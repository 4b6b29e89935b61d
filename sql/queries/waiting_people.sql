-- How many cards wait for people, and how long does the oldest wait?
-- depth: cards; oldest: since when; oldest_age: how long
-- returns: tenant, depth, oldest, oldest_age
SELECT tenant, depth, oldest, date_trunc('second', oldest_age) AS oldest_age
FROM analytics_v1.hitl_queue
ORDER BY oldest_age DESC
