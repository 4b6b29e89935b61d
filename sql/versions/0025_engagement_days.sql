-- What a post's numbers last were is also what they were at the end of that day: it lies in engagement_latest, and moves to
-- engagement_daily when a later day is told. An observation is one row to change instead of two.
ALTER TABLE engagement_latest ADD COLUMN day date NOT NULL GENERATED ALWAYS AS ((observed_at AT TIME ZONE 'UTC')::date) STORED;
CREATE INDEX engagement_latest_day ON engagement_latest (day);
DELETE FROM engagement_daily d USING engagement_latest l
WHERE (d.agent_id, d.platform, d.platform_id, d.metrics, d.day) = (l.agent_id, l.platform, l.platform_id, l.metrics, l.day);

-- The last value of each UTC day, the newest day too.
CREATE VIEW engagement_days AS
SELECT agent_id, platform, platform_id, day, metrics, numbers, observed_at, partition, "offset" FROM engagement_daily
UNION ALL
SELECT agent_id, platform, platform_id, day, metrics, numbers, observed_at, partition, "offset" FROM engagement_latest;

-- As before, over all days.
CREATE OR REPLACE VIEW engagement_gaining AS
SELECT d.agent_id, d.platform, d.day, d.metric, count(*) AS posts, sum(d.value - coalesce(
           CASE WHEN d.metric = ANY (d.before_metrics) THEN d.before_numbers[array_position(d.before_metrics, d.metric)]
                WHEN d.before_metrics IS NOT NULL THEN (
                    SELECT p.numbers[array_position(p.metrics, d.metric)] FROM engagement_days p
                    WHERE (p.agent_id, p.platform, p.platform_id) = (d.agent_id, d.platform, d.platform_id) AND p.day < d.day AND d.metric = ANY (p.metrics)
                    ORDER BY p.day DESC, p.observed_at DESC, p."offset" DESC LIMIT 1
                ) END, 0)) AS gained, max(d.observed_at) AS observed_at, max(d.partition) AS partition, max(d."offset") AS "offset"
FROM (
    SELECT DISTINCT ON (t.agent_id, t.platform, t.platform_id, t.day, m.metric) t.agent_id, t.platform, t.platform_id, t.day, m.metric, m.value,
           t.observed_at, t.partition, t."offset", b.metrics AS before_metrics, b.numbers AS before_numbers
    FROM engagement_unsettled u
    JOIN engagement_days t ON (t.agent_id, t.platform) = (u.agent_id, u.platform) AND t.day >= u.day
    LEFT JOIN LATERAL (
        SELECT p.metrics, p.numbers
        FROM engagement_days p
        WHERE (p.agent_id, p.platform, p.platform_id) = (t.agent_id, t.platform, t.platform_id) AND p.day < t.day AND p.metrics && t.metrics
        ORDER BY p.day DESC, p.observed_at DESC, p."offset" DESC LIMIT 1
    ) b ON true, unnest(t.metrics, t.numbers) m(metric, value)
    ORDER BY t.agent_id, t.platform, t.platform_id, t.day, m.metric, t.observed_at DESC, t."offset" DESC
) d
GROUP BY d.agent_id, d.platform, d.day, d.metric;
