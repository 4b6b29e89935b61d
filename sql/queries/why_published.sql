-- Why did the newest posts publish: who voted what, and what was the commit?
-- judges: each judge's decision and calibrated confidence on the published bytes
-- people: each person's decision; null = nobody was asked
-- committed_by: type of the record that completed the quorum; from_version, to_version: of the agent's state
-- returns: card, published_at, judges, people, committed_by, from_version, to_version, effect_hash, partition, offset
WITH newest AS (
    SELECT * FROM analytics_v1.posts WHERE published_at >= now() - interval '7 days' ORDER BY published_at DESC LIMIT 50
)
SELECT p.card, p.published_at, v.judges, d.people, c.completed_by AS committed_by, c.input_state_version AS from_version,
       c.output_state_version AS to_version, p.effect_hash, p.partition, p."offset"
FROM newest p
LEFT JOIN (
    SELECT n.agent_id, n.campaign, n.ordinal, n.attempt,
           string_agg(v.judge || ': ' || v.decision || ' ' || round(v.confidence::numeric, 2), ', ' ORDER BY v.judge) AS judges
    FROM newest n
    JOIN analytics_v1.verdicts v USING (agent_id, campaign, ordinal, attempt, edit)
    WHERE v.ruling = 'applied'
    GROUP BY n.agent_id, n.campaign, n.ordinal, n.attempt
) v USING (agent_id, campaign, ordinal, attempt)
LEFT JOIN (
    SELECT n.agent_id, n.campaign, n.ordinal, n.attempt, string_agg(d.reviewer || ': ' || d.decision, ', ' ORDER BY d.created_at) AS people
    FROM newest n
    JOIN analytics_v1.decisions d USING (agent_id, campaign, ordinal, attempt)
    WHERE d.ruling = 'applied'
    GROUP BY n.agent_id, n.campaign, n.ordinal, n.attempt
) d USING (agent_id, campaign, ordinal, attempt)
LEFT JOIN analytics_v1.commits c USING (agent_id, campaign, ordinal, attempt)
ORDER BY p.published_at DESC, p.card
