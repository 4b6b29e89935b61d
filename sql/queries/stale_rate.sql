-- How much judged work was stale when it was to be committed?
-- stale: rejected as stale; verdicts: all votes; rate: their quotient
-- returns: tenant, agent, stale, verdicts, rate
SELECT tenant, agent, stale, verdicts, rate
FROM analytics_v1.stale_rate
ORDER BY rate DESC, agent
