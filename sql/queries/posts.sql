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
    SELECT DISTINCT ON (agent_id, campaign, ordinal, attempt, edit) agent_id, campaign, ordinal, attempt, edit, confidence
    FROM analytics_v1.verdicts
    WHERE judge = 'content' AND ruling = 'applied'
    ORDER BY agent_id, campaign, ordinal, attempt, edit, "offset" DESC
) v ON (v.agent_id, v.campaign, v.ordinal, v.attempt, v.edit) = (p.agent_id, p.campaign, p.ordinal, p.attempt, p.edit)
LEFT JOIN (
    SELECT agent_id, campaign, ordinal, attempt, edit, string_agg(DISTINCT reviewer, ', ' ORDER BY reviewer) AS people
    FROM analytics_v1.decisions
    WHERE decision IN ('approved', 'edited') AND ruling = 'applied'
    GROUP BY agent_id, campaign, ordinal, attempt, edit
) d ON (d.agent_id, d.campaign, d.ordinal, d.attempt, d.edit) = (p.agent_id, p.campaign, p.ordinal, p.attempt, p.edit)
ORDER BY p.published_at, p.agent, p.campaign, p.ordinal
