-- Functions and triggers name the schema of the table that they are asked from: a swap of builds renames it.

-- Posts of which numbers were told in several sets of names. They are few, and only of them the newest of each number is looked for.
CREATE TABLE engagement_apart (
    agent_id        text NOT NULL,
    platform        text NOT NULL,
    platform_id     text NOT NULL,
    PRIMARY KEY (agent_id, platform, platform_id)
);
CREATE FUNCTION engagement_told_apart() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM made) THEN
        EXECUTE format(
            'INSERT INTO %1$I.engagement_apart SELECT DISTINCT m.agent_id, m.platform, m.platform_id FROM made m'
            ' JOIN %1$I.engagement_latest o USING (agent_id, platform, platform_id) WHERE o.metrics <> m.metrics ON CONFLICT DO NOTHING',
            TG_TABLE_SCHEMA);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER told_apart AFTER INSERT ON engagement_latest REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION engagement_told_apart();
INSERT INTO engagement_apart SELECT agent_id, platform, platform_id FROM engagement_latest GROUP BY 1, 2, 3 HAVING count(*) > 1;

-- Whose media sums are to be made anew: what assets were made from always, what happened to them from `day` on (NULL: that is right).
CREATE TABLE media_unsettled (
    agent_id        text PRIMARY KEY,
    day             date
) WITH (fillfactor = 80);

-- What made a file, what all of its making cost, and where it began: each ancestor counted once.
CREATE TABLE asset_facts (
    agent_id        text NOT NULL,
    sha256          text NOT NULL,
    role            text NOT NULL,
    media_type      text NOT NULL,
    tier            text NOT NULL,
    duration_s      double precision,
    platform        text NOT NULL,             -- who made it, and with what
    profile         text NOT NULL,
    tool_name       text NOT NULL,
    tool_version    text NOT NULL,
    model           text NOT NULL,
    cost_usd        numeric(20, 8),
    ancestors       integer NOT NULL,
    origins_cost_usd numeric NOT NULL,         -- of making the ancestors
    origin          text,                      -- where the way along first parents ends
    origin_role     text,
    steps           text[] NOT NULL,           -- of this way, the newest first
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, sha256)
) WITH (fillfactor = 80);

-- What artifacts and orders say of media, by agent and UTC day of the record.
CREATE TABLE asset_daily (
    agent_id        text NOT NULL,
    day             date NOT NULL,
    event           text NOT NULL,
    assets          bigint NOT NULL,           -- different files
    events          bigint NOT NULL,
    partition       smallint NOT NULL,         -- of the newest record
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, day, event)
) WITH (fillfactor = 80);
CREATE INDEX asset_daily_day ON asset_daily (day);

-- The row of who is marked stays locked until the end of the transaction, so nobody takes its sums for right before.
CREATE FUNCTION media_unsettle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM changed) THEN
        EXECUTE format(
            'INSERT INTO %I.media_unsettled AS t SELECT agent_id, min(%s) FROM changed GROUP BY agent_id ORDER BY agent_id'
            ' ON CONFLICT (agent_id) DO UPDATE SET day = EXCLUDED.day WHERE EXCLUDED.day < coalesce(t.day, ''infinity'')',
            TG_TABLE_SCHEMA, TG_ARGV[0]);
    END IF;
    RETURN NULL;
END $$;
DO $$
DECLARE
    what text[];
    change text;
BEGIN
    FOREACH what SLICE 1 IN ARRAY ARRAY[
        ['assets', 'NULL::date'], ['asset_lineage', 'NULL::date'], ['asset_provenance', 'NULL::date'], ['asset_uses', 'NULL::date'],
        ['asset_events', '(created_at AT TIME ZONE ''UTC'')::date']
    ] LOOP
        FOREACH change IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE'] LOOP
            EXECUTE format('CREATE TRIGGER %I AFTER %s ON %I REFERENCING %s TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION media_unsettle(%L)',
                'unsettle_on_' || lower(change), change, what[1], CASE change WHEN 'DELETE' THEN 'OLD' ELSE 'NEW' END, what[2]);
        END LOOP;
    END LOOP;
END $$;
INSERT INTO media_unsettled SELECT DISTINCT agent_id, NULL::date FROM assets;
INSERT INTO media_unsettled AS t SELECT agent_id, min(created_at AT TIME ZONE 'UTC')::date FROM asset_events GROUP BY agent_id
    ON CONFLICT (agent_id) DO UPDATE SET day = EXCLUDED.day;

-- What they are, agent by agent: of those that are unsettled.
CREATE VIEW asset_facts_anew AS
SELECT s.agent_id, s.sha256, s.role, s.media_type, s.tier, s.duration_s,
       coalesce(nullif(p.platform, ''), e.platform, '') AS platform, coalesce(nullif(p.profile, ''), e.profile, '') AS profile,
       coalesce(nullif(p.tool_name, ''), e.tool, '') AS tool_name, coalesce(p.tool_version, '') AS tool_version,
       coalesce(nullif(p.model, ''), e.arguments ->> 'model', '') AS model, s.cost_usd,
       coalesce(t.ancestors, 0) AS ancestors, coalesce(t.cost_usd, 0) AS origins_cost_usd, t.origin, t.origin_role, coalesce(t.steps, '{}') AS steps,
       s.created_at, s.partition, s."offset"
FROM media_unsettled w
JOIN assets s USING (agent_id)
LEFT JOIN asset_provenance p USING (agent_id, sha256)
LEFT JOIN effects e ON (e.agent_id, e.campaign, e.ordinal, e.attempt) = (s.agent_id, s.campaign, s.ordinal, s.attempt) AND e.effect_class = 'paid'
LEFT JOIN (
    SELECT w.agent_id, t.* FROM media_unsettled w, LATERAL (
    WITH RECURSIVE edge AS (
        SELECT l.sha256, l.parent, l.step FROM asset_lineage l WHERE l.agent_id = w.agent_id AND l.parent <> l.sha256
        UNION  -- what an order brought is made from what it was ordered from
        SELECT s.sha256, u.sha256, e.tool
        FROM asset_uses u
        JOIN effects e USING (agent_id, campaign, ordinal, attempt)
        JOIN assets s ON (s.agent_id, s.campaign, s.ordinal, s.attempt) = (u.agent_id, u.campaign, u.ordinal, u.attempt)
        WHERE u.agent_id = w.agent_id AND u.use = 'source' AND NOT EXISTS (
            SELECT FROM asset_uses o WHERE (o.agent_id, o.campaign, o.ordinal, o.attempt, o.sha256) = (s.agent_id, s.campaign, s.ordinal, s.attempt, s.sha256)
        ) AND NOT EXISTS (SELECT FROM asset_lineage l WHERE (l.agent_id, l.sha256, l.parent) = (s.agent_id, s.sha256, u.sha256))
    ), up AS (
        SELECT sha256, parent AS ancestor FROM edge
        UNION  -- each ancestor once, so circles and many ways to one end by themselves
        SELECT u.sha256, e.parent FROM up u JOIN edge e ON e.sha256 = u.ancestor WHERE e.parent <> u.sha256
    ), first AS (
        SELECT DISTINCT ON (e.sha256) e.sha256, e.parent, e.step
        FROM edge e LEFT JOIN assets b ON b.agent_id = w.agent_id AND b.sha256 = e.parent
        ORDER BY e.sha256, b.sha256 IS NULL, e.parent COLLATE "C", e.step COLLATE "C"
    ), chain AS (
        SELECT sha256, parent AS origin, ARRAY[step] AS steps, ARRAY[sha256, parent] AS way FROM first
        UNION ALL
        SELECT c.sha256, f.parent, c.steps || f.step, c.way || f.parent
        FROM chain c JOIN first f ON f.sha256 = c.origin WHERE f.parent <> ALL (c.way) AND cardinality(c.steps) < 32
    ), longest AS (
        SELECT DISTINCT ON (sha256) sha256, origin, steps FROM chain ORDER BY sha256, cardinality(steps) DESC
    ), sums AS (
        SELECT u.sha256, count(*)::integer AS ancestors, coalesce(sum(b.cost_usd), 0) AS cost_usd
        FROM up u LEFT JOIN assets b ON b.agent_id = w.agent_id AND b.sha256 = u.ancestor GROUP BY u.sha256
    )
    SELECT s.sha256, s.ancestors, s.cost_usd, c.origin, b.role AS origin_role, c.steps
    FROM sums s JOIN longest c USING (sha256) LEFT JOIN assets b ON b.agent_id = w.agent_id AND b.sha256 = c.origin
    ) t
) t ON (t.agent_id, t.sha256) = (s.agent_id, s.sha256);

CREATE VIEW asset_daily_anew AS
SELECT v.agent_id, (v.created_at AT TIME ZONE 'UTC')::date AS day, v.event, count(DISTINCT v.sha256) AS assets, count(*) AS events,
       max(v.partition) AS partition, max(v."offset") AS "offset"
FROM media_unsettled w
JOIN asset_events v ON v.agent_id = w.agent_id AND v.created_at >= w.day::timestamp AT TIME ZONE 'UTC'
GROUP BY v.agent_id, (v.created_at AT TIME ZONE 'UTC')::date, v.event;

-- What becomes of an effect becomes of the media that it shows: records that name no media themselves.
CREATE VIEW asset_steps AS
SELECT u.agent_id, u.sha256, h.event, u.campaign, u.ordinal, u.attempt, u.actor, u.platform, jsonb_build_object('disclosure', u.disclosure) AS detail,
       u.created_at, u.partition, u."offset"
FROM asset_uses u, (VALUES ('final'), ('disclosed')) h(event)
WHERE u.use = 'shown' AND (h.event = 'final' OR u.disclosure <> 'none')
UNION ALL
SELECT u.agent_id, u.sha256, 'scheduled', u.campaign, u.ordinal, u.attempt, c.actor, u.platform, jsonb_build_object('completed_by', c.completed_by), c.created_at, c.partition, c."offset"
FROM asset_uses u
JOIN commits c USING (agent_id, campaign, ordinal, attempt)
WHERE u.use = 'shown'
UNION ALL
SELECT u.agent_id, u.sha256, CASE WHEN r.type = 'EffectUnknown' THEN 'unknown' WHEN r.data ->> 'outcome' = 'executed' THEN 'published' ELSE 'failed' END,
       u.campaign, u.ordinal, u.attempt, r.actor, u.platform, jsonb_build_object('reason', r.data ->> 'reason', 'platform_id', r.data ->> 'platform_id'), r.created_at, r.partition, r."offset"
FROM asset_uses u
JOIN events r ON (r.stream, r.campaign, r.ordinal, r.attempt) = (u.agent_id, u.campaign, u.ordinal, u.attempt)
WHERE u.use = 'shown' AND r.type IN ('EffectEnded', 'EffectUnknown') AND r.outcome = 'applied' AND coalesce(r.data ->> 'outcome', '') <> 'not_executed'
UNION ALL
SELECT u.agent_id, u.sha256, 'failed', u.campaign, u.ordinal, u.attempt, '', u.platform, jsonb_build_object('reason', e.status), e.ended_at, e.partition, e."offset"
FROM asset_uses u
JOIN effects e USING (agent_id, campaign, ordinal, attempt)
WHERE u.use = 'shown' AND e.status IN ('withdrawn', 'expired', 'rejected', 'stale', 'closed') AND e.ended_at IS NOT NULL
UNION ALL
SELECT u.agent_id, u.sha256, 'deleted', u.campaign, u.ordinal, u.attempt, '', u.platform, jsonb_build_object('reason', t.inputs ->> 'reason'), x.ended_at, x.partition, x."offset"
FROM tasks t
JOIN effects x ON (x.agent_id, x.campaign, x.ordinal) = (t.agent_id, t.campaign, t.ordinal) AND x.status = 'executed'
JOIN effects e ON (e.agent_id, e.platform, e.platform_id) = (t.agent_id, t.inputs ->> 'platform', t.inputs ->> 'platform_id') AND e.status = 'executed'
JOIN asset_uses u ON (u.agent_id, u.campaign, u.ordinal, u.attempt) = (e.agent_id, e.campaign, e.ordinal, e.attempt)
WHERE t.kind = 'takedown' AND u.use = 'shown';

-- What was published, with what it took: final with the record that executes the effect. Numbers of platforms are joined by the view.
CREATE TABLE post_facts (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    platform        text NOT NULL,
    account         text NOT NULL,
    platform_id     text,
    url             text,
    mode            text NOT NULL,
    is_reply        boolean NOT NULL,
    published_at    timestamptz,
    model           text,
    tool_name       text,
    tool_version    text,
    worker_confidence double precision,
    judge_confidence double precision,
    why             text NOT NULL,
    was_edited      boolean NOT NULL,
    review_took     interval,
    asset_sha256    text,
    making_cost_usd numeric NOT NULL,
    publishing_cost_usd numeric NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, campaign, ordinal, attempt)
);

-- Posts whose facts are to be made: they have no row in post_facts.
CREATE TABLE posts_unsettled (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    PRIMARY KEY (agent_id, campaign, ordinal, attempt)
);
CREATE FUNCTION posts_unsettle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM changed WHERE status = 'executed' AND effect_class = 'publish') THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        EXECUTE format(
            'INSERT INTO %I.posts_unsettled AS t SELECT agent_id, campaign, ordinal, attempt FROM changed'
            ' WHERE status = %L AND effect_class = %L ORDER BY 1, 2, 3, 4'
            ' ON CONFLICT (agent_id, campaign, ordinal, attempt) DO UPDATE SET attempt = t.attempt WHERE false',
            TG_TABLE_SCHEMA, 'executed', 'publish');
    END IF;
    EXECUTE format(
        'DELETE FROM %I.post_facts f USING changed c'
        ' WHERE (f.agent_id, f.campaign, f.ordinal, f.attempt) = (c.agent_id, c.campaign, c.ordinal, c.attempt) AND c.status = %L',
        TG_TABLE_SCHEMA, 'executed');
    RETURN NULL;
END $$;
CREATE TRIGGER unsettle_on_insert AFTER INSERT ON effects REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION posts_unsettle();
CREATE TRIGGER unsettle_on_update AFTER UPDATE ON effects REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION posts_unsettle();
CREATE TRIGGER unsettle_on_delete AFTER DELETE ON effects REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION posts_unsettle();

-- A file that becomes a final one may take another's place in a post that shows both.
CREATE FUNCTION posts_unsettle_by_asset() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM changed) THEN
        EXECUTE format(
            'WITH shown AS ('
            ' SELECT DISTINCT agent_id, u.campaign, u.ordinal, u.attempt FROM changed JOIN %1$I.asset_uses u USING (agent_id, sha256)'
            ' JOIN %1$I.effects e USING (agent_id)'
            ' WHERE (e.campaign, e.ordinal, e.attempt) = (u.campaign, u.ordinal, u.attempt)'
            ' AND u.use = %2$L AND e.status = %3$L AND e.effect_class = %4$L), gone AS ('
            ' DELETE FROM %1$I.post_facts f USING shown s'
            ' WHERE (f.agent_id, f.campaign, f.ordinal, f.attempt) = (s.agent_id, s.campaign, s.ordinal, s.attempt))'
            ' INSERT INTO %1$I.posts_unsettled AS t SELECT * FROM shown ORDER BY 1, 2, 3, 4'
            ' ON CONFLICT (agent_id, campaign, ordinal, attempt) DO UPDATE SET attempt = t.attempt WHERE false',
            TG_TABLE_SCHEMA, 'shown', 'executed', 'publish');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER unsettle_posts_on_insert AFTER INSERT ON assets REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION posts_unsettle_by_asset();
CREATE TRIGGER unsettle_posts_on_update AFTER UPDATE ON assets REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION posts_unsettle_by_asset();
INSERT INTO posts_unsettled SELECT agent_id, campaign, ordinal, attempt FROM effects WHERE status = 'executed' AND effect_class = 'publish';

CREATE VIEW post_facts_anew AS
SELECT e.agent_id, e.campaign, e.ordinal, e.attempt, e.platform, e.account, e.platform_id, e.url, e.mode, e.thread IS NOT NULL AS is_reply,
       e.ended_at AS published_at, r.provenance ->> 'model' AS model, r.provenance ->> 'tool' AS tool_name, r.provenance ->> 'server_version' AS tool_version,
       k.confidence AS worker_confidence, (
           SELECT v.confidence FROM verdicts v
           WHERE (v.agent_id, v.campaign, v.ordinal, v.attempt) = (e.agent_id, e.campaign, e.ordinal, e.attempt)
             AND v.edit = e.edit AND v.judge = 'content' AND v.ruling = 'applied'
           ORDER BY v."offset" DESC LIMIT 1
       ) AS judge_confidence, coalesce(w.why, 'automatic') AS why, e.edit > 0 AS was_edited, w.decided_at - w.opened_at AS review_took, (
           SELECT substr(min((CASE s.role WHEN 'final' THEN '0' ELSE '1' END || u.sha256) COLLATE "C"), 2)
           FROM asset_uses u LEFT JOIN assets s USING (agent_id, sha256)
           WHERE (u.agent_id, u.campaign, u.ordinal, u.attempt) = (e.agent_id, e.campaign, e.ordinal, e.attempt) AND u.use = 'shown'
       ) AS asset_sha256, coalesce(r.cost_usd, 0) AS making_cost_usd, coalesce(e.cost_usd, 0) AS publishing_cost_usd, e.partition, e."offset"
FROM posts_unsettled p
JOIN effects e USING (agent_id, campaign, ordinal, attempt)
LEFT JOIN artifacts k ON (k.agent_id, k.campaign, k.ordinal, k.attempt, k.edit) = (e.agent_id, e.campaign, e.ordinal, e.attempt, e.edit)
LEFT JOIN artifacts r ON (r.agent_id, r.campaign, r.ordinal, r.attempt) = (e.agent_id, e.campaign, e.ordinal, e.attempt) AND r.edit = 0
LEFT JOIN reviews w ON (w.agent_id, w.campaign, w.ordinal, w.attempt) = (e.agent_id, e.campaign, e.ordinal, e.attempt)
WHERE e.status = 'executed' AND e.effect_class = 'publish' AND coalesce(k.content ->> 'takedown', '') = '';

-- Without it the planner takes nearly every artifact for a takedown, and reads them all.
CREATE STATISTICS artifacts_takedown ON (coalesce(content ->> 'takedown', '')) FROM artifacts;
