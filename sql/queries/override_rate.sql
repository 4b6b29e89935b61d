-- How often does each reviewer overrule what the swarm proposed?
-- decisions: that counted; approved, edited, rejected: of these; override_rate: (edited + rejected) / decisions
-- returns: tenant, reviewer, decisions, approved, edited, rejected, override_rate
SELECT tenant, reviewer, count(*) AS decisions, count(*) FILTER (WHERE decision = 'approved') AS approved,
       count(*) FILTER (WHERE decision = 'edited') AS edited, count(*) FILTER (WHERE decision = 'rejected') AS rejected,
       round(count(*) FILTER (WHERE decision <> 'approved')::numeric / count(*), 4) AS override_rate
FROM analytics_v1.decisions
WHERE ruling = 'applied'
GROUP BY tenant, reviewer
ORDER BY override_rate DESC, tenant, reviewer
