-- What did people make of each text, and how sure were worker and judge of it before?
-- raw: the lower of the worker's and the judge's confidence, before calibration
-- approved: approved as it stood; false where it was rejected or edited (rejections for their time alone are left out)
SELECT a.name AS agent, d.campaign, d.ordinal, d.attempt, round(v.confidence_raw::numeric, 4) AS raw, d.decision = 'approved' AS approved,
       d.reviewer, d.reason_code AS code, d.created_at
FROM core.decisions d
JOIN core.agents a USING (agent_id)
JOIN LATERAL (
    SELECT confidence_raw FROM core.verdicts v
    WHERE (v.agent_id, v.campaign, v.ordinal, v.attempt) = (d.agent_id, d.campaign, d.ordinal, d.attempt)
      AND v.judge = 'content' AND v.edit = 0 AND v.ruling = 'applied'
    ORDER BY v.partition, v."offset" LIMIT 1
) v ON v.confidence_raw IS NOT NULL
WHERE d.ruling = 'applied' AND (d.edit = 0 OR (d.decision = 'edited' AND d.edit = 1)) AND d.reason_code IS DISTINCT FROM 'timing'
ORDER BY d.created_at, a.name, d.campaign, d.ordinal, d.attempt
