-- Which records did not count, by ruling and reason?
-- ruling: rejected (an answer to an open debt that may not count) or void (changes nothing)
-- reason, type: why, and of what type
-- records: how many; last: the newest
-- example: chimera.log[partition]offset of the newest
-- returns: ruling, reason, type, records, last, example
SELECT ruling, reason, type, count(*) AS records, max(created_at) AS last,
       (array_agg('chimera.log[' || partition || ']' || "offset" ORDER BY created_at DESC, partition, "offset" DESC))[1] AS example
FROM (
    SELECT 'rejected' AS ruling, reason, type, created_at, partition, "offset" FROM analytics_v1.rejections
    UNION ALL
    SELECT 'void', reason, type, created_at, partition, "offset" FROM analytics_v1.voids
) n
GROUP BY ruling, reason, type
ORDER BY records DESC, ruling, reason, type
