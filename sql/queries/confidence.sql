-- How sure are workers and judges, per agent?
-- worker: mean of what the worker states; judge: mean of the content judge's calibrated vote
-- automatic, asked, failed: judged attempts above the threshold, shown to people, and not good enough
SELECT a.name AS agent, count(*) AS votes, round(avg(r.confidence)::numeric, 3) AS worker, round(avg(v.confidence)::numeric, 3) AS judge,
       count(*) FILTER (WHERE v.decision = 'pass' AND e.status <> 'rejected' AND c.status IS NULL) AS automatic,
       count(*) FILTER (WHERE c.status IS NOT NULL) AS asked,
       count(*) FILTER (WHERE e.status = 'rejected' AND c.status IS NULL) AS failed
FROM core.verdicts v
JOIN core.agents a USING (agent_id)
JOIN core.effects e USING (agent_id, campaign, ordinal, attempt)
LEFT JOIN core.artifacts r ON (r.agent_id, r.campaign, r.ordinal, r.attempt, r.edit)
                           = (v.agent_id, v.campaign, v.ordinal, v.attempt, v.edit)
LEFT JOIN core.reviews c ON (c.agent_id, c.campaign, c.ordinal, c.attempt) = (v.agent_id, v.campaign, v.ordinal, v.attempt)
WHERE v.judge = 'content' AND v.edit = 0
GROUP BY a.name
ORDER BY a.name
