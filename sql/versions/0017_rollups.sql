-- What all posts of an agent gained on a day, by number: made anew from engagement_daily for what is unsettled, never added to.
CREATE TABLE engagement_growth (
    agent_id        text NOT NULL,
    platform        text NOT NULL,
    day             date NOT NULL,
    metric          text NOT NULL,
    posts           bigint NOT NULL,
    gained          double precision NOT NULL,
    observed_at     timestamptz NOT NULL,      -- the newest observation that is in it
    partition       smallint NOT NULL,         -- and its place
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, platform, day, metric)
) WITH (fillfactor = 80);
CREATE INDEX engagement_growth_day ON engagement_growth (day);

-- Whose growth is to be made anew, and from which day on: written with the observations, in their transaction.
CREATE TABLE engagement_unsettled (
    agent_id        text NOT NULL,
    platform        text NOT NULL,
    day             date NOT NULL,
    PRIMARY KEY (agent_id, platform)
) WITH (fillfactor = 80);
INSERT INTO engagement_unsettled SELECT agent_id, platform, min(day) FROM engagement_daily GROUP BY agent_id, platform;

-- What these sums are. `before`: the post's last earlier day that tells the number, whatever was told with it.
CREATE VIEW engagement_gaining AS
SELECT d.agent_id, d.platform, d.day, d.metric, count(*) AS posts, sum(d.value - coalesce(
           CASE WHEN d.metric = ANY (d.before_metrics) THEN d.before_numbers[array_position(d.before_metrics, d.metric)]
                WHEN d.before_metrics IS NOT NULL THEN (
                    SELECT p.numbers[array_position(p.metrics, d.metric)] FROM engagement_daily p
                    WHERE (p.agent_id, p.platform, p.platform_id) = (d.agent_id, d.platform, d.platform_id) AND p.day < d.day AND d.metric = ANY (p.metrics)
                    ORDER BY p.day DESC, p.observed_at DESC, p."offset" DESC LIMIT 1
                ) END, 0)) AS gained, max(d.observed_at) AS observed_at, max(d.partition) AS partition, max(d."offset") AS "offset"
FROM (
    SELECT DISTINCT ON (t.agent_id, t.platform, t.platform_id, t.day, m.metric) t.agent_id, t.platform, t.platform_id, t.day, m.metric, m.value,
           t.observed_at, t.partition, t."offset", b.metrics AS before_metrics, b.numbers AS before_numbers
    FROM engagement_unsettled u
    JOIN engagement_daily t ON (t.agent_id, t.platform) = (u.agent_id, u.platform) AND t.day >= u.day
    LEFT JOIN LATERAL (
        SELECT p.metrics, p.numbers
        FROM engagement_daily p
        WHERE (p.agent_id, p.platform, p.platform_id) = (t.agent_id, t.platform, t.platform_id) AND p.day < t.day AND p.metrics && t.metrics
        ORDER BY p.day DESC, p.observed_at DESC, p."offset" DESC LIMIT 1
    ) b ON true, unnest(t.metrics, t.numbers) m(metric, value)
    ORDER BY t.agent_id, t.platform, t.platform_id, t.day, m.metric, t.observed_at DESC, t."offset" DESC
) d
GROUP BY d.agent_id, d.platform, d.day, d.metric;

-- What calls cost, by agent, campaign, tool and UTC day: added to in the transaction that writes the calls.
CREATE TABLE spend_daily (
    agent_id        text NOT NULL,
    campaign_id     text NOT NULL,             -- correlation of the calls
    profile         text NOT NULL,
    capability      text NOT NULL,
    tool            text NOT NULL,
    day             date NOT NULL,
    said            text NOT NULL,             -- md5 of the four texts: a stranger's may be longer than an index entry can be
    calls           bigint NOT NULL,
    cost_usd        numeric NOT NULL,
    partition       smallint NOT NULL,         -- of the newest call
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, day, said)
) WITH (fillfactor = 80);
CREATE INDEX spend_daily_day ON spend_daily (day);
INSERT INTO spend_daily
SELECT agent_id, correlation, profile, capability, tool, (created_at AT TIME ZONE 'UTC')::date, md5(concat_ws(E'\x1f', correlation, profile, capability, tool)),
       count(*), sum(cost_usd), max(partition), max("offset")
FROM tool_calls GROUP BY 1, 2, 3, 4, 5, 6, 7;

-- What takes a post down is executed too, and is no post. There are few of them, and an index that knows them all.
CREATE INDEX artifacts_takedowns ON artifacts (agent_id, campaign, ordinal, attempt, edit) WHERE coalesce(content ->> 'takedown', '') <> '';
CREATE OR REPLACE VIEW posts AS
SELECT e.agent_id, a.tenant, a.name AS agent, e.campaign, e.ordinal, e.attempt,
       a.name || '/' || e.campaign || '.' || e.ordinal || '.' || e.attempt AS card,
       e.platform, e.account, e.thread, e.platform_id, e.url, e.mode,
       coalesce(r.content ->> 'text', e.arguments ->> 'text') AS text,
       r.confidence, r.content, r.sources, e.disclosure, e.effect_hash, r.artifact_hash, e.edit, e.cost_usd,
       e.proposed_at, e.approved_at, e.ended_at AS published_at, e.partition, e."offset"
FROM effects e
JOIN agents a USING (agent_id)
LEFT JOIN artifacts r USING (agent_id, campaign, ordinal, attempt, edit)
WHERE e.status = 'executed' AND e.effect_class = 'publish' AND NOT EXISTS (
    SELECT FROM artifacts k
    WHERE (k.agent_id, k.campaign, k.ordinal, k.attempt, k.edit) = (e.agent_id, e.campaign, e.ordinal, e.attempt, e.edit)
      AND coalesce(k.content ->> 'takedown', '') <> ''
);
