-- Which posts were published, and why were they allowed to?
-- agent, account, published_at: who, as whom, when
-- text, url: what, and where it stands
-- worker_confidence, judge_confidence: as stated by the worker, as voted by the content judge (calibrated)
-- why: 'automatic', or why people were asked
-- approved_by: the people whose votes counted
-- effect_hash: what was voted on, claimed and called
SELECT p.agent, p.account, p.published_at, p.text, p.url, p.confidence AS worker_confidence, v.confidence AS judge_confidence,
       coalesce(r.why, 'automatic') AS why, d.people AS approved_by, p.effect_hash
FROM core.posts p
LEFT JOIN core.reviews r USING (agent_id, campaign, ordinal, attempt)
LEFT JOIN LATERAL (
    SELECT confidence FROM core.verdicts v
    WHERE (v.agent_id, v.campaign, v.ordinal, v.attempt, v.edit) = (p.agent_id, p.campaign, p.ordinal, p.attempt, p.edit)
      AND v.judge = 'content' AND v.ruling = 'applied'
    ORDER BY v."offset" DESC LIMIT 1
) v ON true
LEFT JOIN LATERAL (
    SELECT string_agg(DISTINCT reviewer, ', ' ORDER BY reviewer) AS people FROM core.decisions d
    WHERE (d.agent_id, d.campaign, d.ordinal, d.attempt, d.edit) = (p.agent_id, p.campaign, p.ordinal, p.attempt, p.edit)
      AND d.decision IN ('approved', 'edited') AND d.ruling = 'applied'
) d ON true
ORDER BY p.published_at, p.agent, p.campaign, p.ordinal
