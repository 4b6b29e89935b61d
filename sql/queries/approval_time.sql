-- How long do people take to decide?
-- tenant, status: what became of the card
-- cards: how many; p50_s, p95_s, longest_s: seconds from the question to the decision
-- returns: tenant, status, cards, p50_s, p95_s, longest_s
SELECT tenant, status, count(*) AS cards,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM took))::numeric, 1) AS p50_s,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM took))::numeric, 1) AS p95_s,
       round(max(extract(epoch FROM took))::numeric, 1) AS longest_s
FROM analytics_v1.reviews
WHERE decided_at IS NOT NULL
GROUP BY tenant, status
ORDER BY tenant, cards DESC, status
