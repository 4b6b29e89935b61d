-- In which campaigns is work stale before it counts?
-- verdicts: all votes; stale: rejected as stale; rate: stale / verdicts
-- returns: tenant, campaign_id, name, verdicts, stale, rate
SELECT c.tenant, c.campaign_id, c.name, count(*) AS verdicts, count(*) FILTER (WHERE v.ruling = 'rejected' AND v.reason = 'stale') AS stale,
       round(count(*) FILTER (WHERE v.ruling = 'rejected' AND v.reason = 'stale')::numeric / count(*), 4) AS rate
FROM analytics_v1.verdicts v
JOIN analytics_v1.campaigns c USING (agent_id, campaign)
GROUP BY c.tenant, c.campaign_id, c.name
ORDER BY rate DESC, c.tenant, c.campaign_id
