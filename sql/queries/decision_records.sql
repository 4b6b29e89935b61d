-- Who decided what on which exact bytes, under which policy, knowing what (the newest thousand decisions)?
-- effect_hash, artifact_hash: the bytes decided on; for an edit those that took their place
-- shown_hash: digest of exactly what the reviewer saw
-- policy_digest: content address of the policy edition in force
-- judged: what the judges said of the bytes that were shown (decision, confidence, tags, reasons, redacted trace)
-- returns: agent, campaign, ordinal, attempt, edit, decision, reviewer, code, comment, created_at, effect_hash, artifact_hash, shown_hash, policy_edition, policy_digest, judged, ruling, partition, offset
WITH newest AS (
    SELECT * FROM analytics_v1.decisions ORDER BY created_at DESC, partition, "offset" DESC LIMIT 1000
)
SELECT d.agent, d.campaign, d.ordinal, d.attempt, d.edit, d.decision, d.reviewer, d.reason_code AS code, d.comment, d.created_at,
       d.effect_hash, coalesce(d.artifact_hash, v.artifact_hash) AS artifact_hash, d.shown_hash, d.policy_edition,
       d.policy_digest, v.judged, d.ruling, d.partition, d."offset"
FROM newest d
LEFT JOIN LATERAL (
    SELECT max(v.artifact_hash) AS artifact_hash,
           jsonb_object_agg(v.judge, jsonb_build_object('decision', v.decision, 'confidence', v.confidence, 'tags', v.tags,
                                                        'reasons', v.reasons, 'trace', v.trace) ORDER BY v."offset") AS judged
    FROM analytics_v1.verdicts v
    WHERE (v.agent_id, v.campaign, v.ordinal, v.attempt) = (d.agent_id, d.campaign, d.ordinal, d.attempt)
      AND v.edit = CASE WHEN d.decision = 'edited' THEN d.edit - 1 ELSE d.edit END
      AND v.policy_edition = d.policy_edition AND v."offset" < d."offset"
) v ON true
ORDER BY d.created_at, d.agent, d.campaign, d.ordinal, d.attempt
