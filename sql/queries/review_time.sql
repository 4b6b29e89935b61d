-- How long do cards lie in review, week by week?
-- week: Monday of the week in which people were asked; cards: decided ones
-- p50_s, p95_s, longest_s: seconds from the question to the decision
-- returns: tenant, week, cards, p50_s, p95_s, longest_s
SELECT tenant, date_trunc('week', opened_at)::date AS week, count(*) AS cards,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM took))::numeric, 1) AS p50_s,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM took))::numeric, 1) AS p95_s,
       round(max(extract(epoch FROM took)), 1) AS longest_s
FROM analytics_v1.reviews
WHERE decided_at IS NOT NULL
GROUP BY tenant, week
ORDER BY week DESC, tenant
