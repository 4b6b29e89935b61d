-- What was written to the log in the last day?
-- type, outcome: of the records; records: how many; newest: when the last was appended
-- returns: type, outcome, records, newest
SELECT type, outcome, count(*) AS records, max(created_at) AS newest
FROM analytics_v1.events
WHERE created_at >= now() - interval '1 day'
GROUP BY type, outcome
ORDER BY records DESC, type, outcome
