-- How sure are workers and judges, per agent?
-- votes: of the content judge on the worker's own bytes; worker: mean of what the worker states; judge: mean of its calibrated votes
-- automatic, asked, failed: judged attempts above the threshold, shown to people, and not good enough
-- returns: agent, votes, worker, judge, automatic, asked, failed
SELECT v.agent, count(*) AS votes, round(avg(r.confidence)::numeric, 3) AS worker, round(avg(v.confidence)::numeric, 3) AS judge,
       count(*) FILTER (WHERE v.decision = 'pass' AND e.status <> 'rejected' AND c.status IS NULL) AS automatic,
       count(*) FILTER (WHERE c.status IS NOT NULL) AS asked,
       count(*) FILTER (WHERE e.status = 'rejected' AND c.status IS NULL) AS failed
FROM analytics_v1.verdicts v
JOIN analytics_v1.effects e USING (agent_id, campaign, ordinal, attempt)
LEFT JOIN analytics_v1.artifacts r ON (r.agent_id, r.campaign, r.ordinal, r.attempt, r.edit)
                                   = (v.agent_id, v.campaign, v.ordinal, v.attempt, v.edit)
LEFT JOIN analytics_v1.reviews c ON (c.agent_id, c.campaign, c.ordinal, c.attempt) = (v.agent_id, v.campaign, v.ordinal, v.attempt)
WHERE v.judge = 'content' AND v.edit = 0
GROUP BY v.agent
ORDER BY v.agent
