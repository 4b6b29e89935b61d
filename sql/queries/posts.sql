-- Which posts were published (the newest thousand), and why were they allowed to?
-- agent, account, published_at: who, as whom, when
-- text, url: what, and where it stands
-- worker_confidence, judge_confidence: as stated by the worker, as voted by the content judge (calibrated)
-- why: 'automatic', or why people were asked
-- approved_by: the people whose votes counted
-- effect_hash: what was voted on, claimed and called
-- returns: agent, account, published_at, text, url, worker_confidence, judge_confidence, why, approved_by, effect_hash
WITH newest AS (
    SELECT * FROM analytics_v1.posts ORDER BY published_at DESC, agent_id, campaign, ordinal LIMIT 1000
)
SELECT p.agent, p.account, p.published_at, p.text, p.url, p.confidence AS worker_confidence, v.confidence AS judge_confidence,
       coalesce(r.why, 'automatic') AS why, d.people AS approved_by, p.effect_hash
FROM newest p
LEFT JOIN analytics_v1.reviews r USING (agent_id, campaign, ordinal, attempt)
LEFT JOIN (
    SELECT DISTINCT ON (agent_id, campaign, ordinal, attempt) agent_id, campaign, ordinal, attempt, v.confidence
    FROM newest
    JOIN analytics_v1.verdicts v USING (agent_id, campaign, ordinal, attempt, edit)
    WHERE v.judge = 'content' AND v.ruling = 'applied'
    ORDER BY agent_id, campaign, ordinal, attempt, v."offset" DESC
) v USING (agent_id, campaign, ordinal, attempt)
LEFT JOIN (
    SELECT agent_id, campaign, ordinal, attempt, string_agg(DISTINCT d.reviewer, ', ' ORDER BY d.reviewer) AS people
    FROM newest
    JOIN analytics_v1.decisions d USING (agent_id, campaign, ordinal, attempt, edit)
    WHERE d.decision IN ('approved', 'edited') AND d.ruling = 'applied'
    GROUP BY agent_id, campaign, ordinal, attempt
) d USING (agent_id, campaign, ordinal, attempt)
ORDER BY p.published_at, p.agent, campaign, ordinal
