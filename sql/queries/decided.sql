-- What did people make of each text, and how sure were worker and judge of it before?
-- raw: the lower of the worker's and the judge's confidence, before calibration
-- approved: approved as it stood; false where it was rejected or edited (rejections for their time alone are left out)
-- returns: agent, campaign, ordinal, attempt, raw, approved, reviewer, code, created_at
SELECT d.agent, d.campaign, d.ordinal, d.attempt, round(v.confidence_raw::numeric, 4) AS raw, d.decision = 'approved' AS approved,
       d.reviewer, d.reason_code AS code, d.created_at
FROM analytics_v1.decisions d
JOIN (
    SELECT DISTINCT ON (agent_id, campaign, ordinal, attempt) agent_id, campaign, ordinal, attempt, confidence_raw
    FROM analytics_v1.verdicts
    WHERE judge = 'content' AND edit = 0 AND ruling = 'applied'
    ORDER BY agent_id, campaign, ordinal, attempt, partition, "offset"
) v USING (agent_id, campaign, ordinal, attempt)
WHERE v.confidence_raw IS NOT NULL AND d.ruling = 'applied' AND (d.edit = 0 OR (d.decision = 'edited' AND d.edit = 1))
  AND d.reason_code IS DISTINCT FROM 'timing'
ORDER BY d.created_at, d.agent, d.campaign, d.ordinal, d.attempt
