-- How did the newest post come about, record by record?
-- at, after: when, and how long after the record before
-- type, actor: what, by whom
-- ruling: what the law said; state_version: of the agent after it
-- detail: what it says in a few words
-- place: where it lies in the log
-- returns: at, after, type, actor, ruling, state_version, detail, place
WITH post AS (
    SELECT agent_id, campaign, ordinal FROM analytics_v1.posts ORDER BY published_at DESC, agent_id, campaign, ordinal LIMIT 1
)
SELECT e.created_at AS at, e.created_at - lag(e.created_at) OVER (ORDER BY e."offset") AS after, e.type, e.actor,
       rtrim(e.outcome || ' ' || e.reason) AS ruling, e.state_version,
       coalesce(e.data ->> 'decision', e.data ->> 'outcome', e.data ->> 'comment', e.data ->> 'reason', e.data #>> '{content,text}')
           AS detail,
       'chimera.log[' || e.partition || ']' || e."offset" AS place
FROM analytics_v1.events e
WHERE e.stream = (SELECT agent_id FROM post) AND e.campaign = (SELECT campaign FROM post)
  AND (e.ordinal = (SELECT ordinal FROM post)
       OR (e.type = 'PlanDrafted'
           AND EXISTS (SELECT FROM jsonb_array_elements(e.data -> 'rows') r WHERE (r ->> 'ordinal')::int = (SELECT ordinal FROM post))))
ORDER BY e."offset"
