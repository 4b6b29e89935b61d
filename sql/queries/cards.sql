-- Which cards wait for people, since when, and why?
-- card: how `chimera review` addresses it
-- why: why people are asked; tags: what was found sensitive
-- opened_at, waiting: since when, how long
-- approvals: votes so far
-- returns: card, agent, why, tags, confidence, opened_at, waiting, approvals, text
SELECT card, agent, why, risk_tags AS tags, confidence, opened_at, date_trunc('second', waiting) AS waiting, approvals, text
FROM analytics_v1.review_queue
ORDER BY opened_at, card
