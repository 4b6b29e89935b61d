-- Made-up rows, the same at each run with the same numbers. :posts: :days: :observations: :asset_events: :now: are filled in.
-- Post i belongs to agent i % agents; two thirds of the agents are acme's, the others bolt's.

-- step: posts
CREATE TEMP TABLE n AS
SELECT i, i % a.agents AS who, 'agent/' || md5('demo' || i % a.agents) AS agent_id, 1 + (i / a.agents) % 2 AS campaign, i / a.agents AS ordinal,
       (i % 24)::smallint AS partition, i::bigint * 20 AS base,
       :now: - make_interval(secs => ((hashtextextended('t' || i, 0) & 1048575) / 1048576.0) * 86400 * :days:) AS at,
       ((hashtextextended('c' || i, 0) & 1023) / 1023.0)::double precision AS luck,
       CASE WHEN i % 7 = 0 THEN 'instagram' ELSE 'x' END AS platform, (i + i / a.agents) % 3 = 0 AS filmed, i % 5 = 0 AS asked,
       (ARRAY['writer-large', 'writer-small', 'writer-mini'])[1 + i % 3] AS model
FROM generate_series(0, :posts: - 1) i, (SELECT greatest(:posts: / 50, 6) AS agents) a;
CREATE INDEX ON n (i);
ANALYZE n;

-- step: agents
INSERT INTO agents
SELECT agent_id, CASE WHEN min(who) % 3 = 2 THEN 'bolt' ELSE 'acme' END, 'demo' || min(who), 'active', false, count(*) * 4, 5, 2, 0, 2, max(at), min(partition),
       max(base)
FROM n GROUP BY agent_id;
INSERT INTO campaigns
SELECT agent_id, c, 'demo-' || c, (ARRAY['Autumn', 'Winter'])[c], 'kim', 'running', '', 1, '{}', md5('brief' || c), 1, 'adopted', '',
       :now: - make_interval(days => :days:), :now:, partition, "offset"
FROM agents, generate_series(1, 2) c;
INSERT INTO accounts SELECT agent_id, p, name || '_' || p, 'linked', updated_at, partition, "offset" FROM agents, unnest(ARRAY['x', 'instagram']) p;
INSERT INTO policies
SELECT agent_id, e, md5('policy' || e), 'mo', e = 2, '{"quorum": 1}', 'Be kind.', :now: - make_interval(days => :days: / e), partition, "offset"
FROM agents, generate_series(1, 2) e;
INSERT INTO tenants
SELECT 'tenant/' || tenant, tenant, 9, count(*), 0, sum(open_tasks), 0, 0, 0, :now:, 0, 1 FROM agents GROUP BY tenant;
INSERT INTO tenant_members SELECT 'tenant/' || tenant, agent_id, name, '{}', 'joined', :now:, partition, "offset" FROM agents;
INSERT INTO budgets SELECT tenant_id, s, 100, NULL, :now:, 0, 1 FROM tenants, unnest(ARRAY['tenant', 'day', 'campaign/demo-1']) s;

-- step: tasks and effects
INSERT INTO tasks
SELECT agent_id, campaign, ordinal, CASE WHEN filmed THEN 'video' ELSE 'post' END, 'Post number ' || i,
       CASE WHEN i % 40 = 39 THEN 'produced' ELSE 'done' END, '', 1 + (i % 11 = 0)::int, (i % 11 = 0)::int, 1, '{}', 1, '[]', '[]', filmed, 3,
       at - interval '3 hours', at - interval '2 hours', CASE WHEN i % 40 <> 39 THEN at END, at, partition, base
FROM n;
INSERT INTO task_dependencies
SELECT agent_id, campaign, ordinal, ordinal - 2, partition, base FROM n WHERE i % 13 = 0 AND ordinal >= 2;
INSERT INTO artifacts
SELECT agent_id, campaign, ordinal, 1 + (i % 11 = 0)::int, 0, CASE WHEN filmed THEN 'video' ELSE 'post' END, md5('a' || i),
       jsonb_build_object('text', 'Made-up post number ' || i), 0.5 + luck / 2, CASE WHEN asked THEN ARRAY['health'] ELSE '{}' END, 'automated', 'owner', '[]',
       jsonb_build_object('model', model, 'tool', 'complete', 'server_version', '1.' || i % 2), (0.001 + luck / 100)::numeric(20, 8), 3, 'worker',
       at - interval '90 minutes', partition, base + 1
FROM n;
INSERT INTO verdicts
SELECT agent_id, campaign, ordinal, 1 + (i % 11 = 0)::int, 0, 'content', CASE WHEN asked THEN 'people' ELSE 'pass' END, 0.5 + luck / 2, 0.45 + luck / 2,
       CASE WHEN asked THEN ARRAY['health'] ELSE '{}' END, '{}', '{}', 1, 3, md5('a' || i), md5('e' || i), '{}', 'applied', '', 'judge', at - interval '80 minutes',
       partition, base + 2
FROM n;
INSERT INTO verdicts
SELECT agent_id, campaign, ordinal, 1, 0, 'content', 'pass', 0.9, 0.9, '{}', '{}', ARRAY['too late'], 1, 2, md5('o' || i), md5('f' || i), '{}', 'rejected', 'stale', 'judge',
       at - interval '100 minutes', partition, base + 3
FROM n WHERE i % 11 = 0;
INSERT INTO rejections
SELECT agent_id, 'JudgeVerdict', 'stale', campaign, ordinal, 1, 'judge', 3, at - interval '100 minutes', partition, base + 3 FROM n WHERE i % 11 = 0;
INSERT INTO retries
SELECT agent_id, campaign, ordinal, 1, 'stale', 'JudgeVerdict', 0, at - interval '100 minutes', partition, base + 3 FROM n WHERE i % 11 = 0;
INSERT INTO voids
SELECT agent_id, md5('v' || i), 'EffectEnded', 'closed', '', 'executor', at, partition, base + 4 FROM n WHERE i % 17 = 0;
INSERT INTO effects
SELECT agent_id, campaign, ordinal, 1 + (i % 11 = 0)::int, md5('e' || i), CASE WHEN i % 50 = 49 THEN 'financial' WHEN filmed THEN 'paid' ELSE 'publish' END,
       'keyed', platform, 'sandbox', 'createPosts', platform, 'demo' || who || '_' || platform, CASE WHEN i % 6 = 1 THEN platform || ':' || i END,
       jsonb_build_object('text', 'Made-up post number ' || i), 1, 'automated', 0,
       CASE WHEN i % 40 = 39 THEN 'people' WHEN i % 29 = 28 THEN 'refused' WHEN i % 31 = 30 THEN 'unknown' ELSE 'executed' END, '', 1,
       CASE WHEN i % 40 <> 39 THEN 'p' || i END, CASE WHEN i % 40 <> 39 THEN 'https://example.org/p' || i END, (luck / 50)::numeric(20, 8),
       at - interval '90 minutes', at - interval '10 minutes', at - interval '1 minute', CASE WHEN i % 40 <> 39 AND i % 31 <> 30 THEN at END, at, partition, base + 5
FROM n;
UPDATE effects SET effect_class = 'publish' WHERE effect_class = 'paid';
INSERT INTO reviews
SELECT agent_id, campaign, ordinal, 1 + (i % 11 = 0)::int, CASE WHEN i % 40 = 39 THEN 'waiting' WHEN i % 25 = 0 THEN 'edited' ELSE 'approved' END, 'sensitive', 0, 1, '',
       CASE WHEN i % 40 <> 39 THEN (ARRAY['kim', 'lee'])[1 + i % 2] END, at - interval '70 minutes', at - interval '70 minutes',
       CASE WHEN i % 40 <> 39 THEN at - interval '70 minutes' + make_interval(secs => luck * 3000) END, at, partition, base + 6
FROM n WHERE asked OR i % 40 = 39;
INSERT INTO decisions
SELECT agent_id, campaign, ordinal, 1 + (i % 11 = 0)::int, (i % 25 = 0)::int, CASE WHEN i % 25 = 0 THEN 'edited' WHEN i % 35 = 0 THEN 'rejected' ELSE 'approved' END,
       (ARRAY['kim', 'lee'])[1 + i % 2], CASE WHEN i % 35 = 0 AND i % 25 <> 0 THEN 'tone' END, '', 1, md5('e' || i), md5('a' || i), md5('s' || i), 'applied', '',
       at - interval '70 minutes' + make_interval(secs => luck * 3000), partition, base + 7
FROM n WHERE asked AND i % 40 <> 39;
INSERT INTO commits
SELECT agent_id, campaign, ordinal, 1 + (i % 11 = 0)::int, 3, 4 + base, md5('c' || i), 'JudgeVerdict', 'judge', at - interval '10 minutes', partition, base + 8 FROM n;
INSERT INTO signals
SELECT agent_id, base + 9, 0, 'x/social.mentions', 1, platform || ':' || i, 's' || i, at, 'open', at, campaign, ordinal, at + interval '3 minutes', partition, base + 9
FROM n WHERE i % 10 = 0;

-- step: calls and money
INSERT INTO tool_calls
SELECT agent_id, CASE WHEN who % 3 = 2 THEN 'bolt' ELSE 'acme' END, (ARRAY['writer', platform, 'feeds'])[k], 'sandbox', (ARRAY['text.complete', 'social.publish', 'news.search'])[k],
       (ARRAY['complete', 'createPosts', 'search'])[k], NULL, CASE WHEN (i + k) % 23 = 0 THEN 'refused' ELSE 'ok' END, '', 20 + luck * 400,
       CASE k WHEN 1 THEN 0.002 WHEN 2 THEN (luck / 50)::numeric(20, 8) ELSE 0 END, md5('x' || i), '{"text": "string"}', md5('schema'), 'demo-' || campaign,
       at - make_interval(mins => 10 * k), (i % 12)::smallint, i::bigint * 3 + k
FROM n, generate_series(1, 3) k;
INSERT INTO spend_daily
SELECT agent_id, correlation, profile, capability, tool, (created_at AT TIME ZONE 'UTC')::date, md5(concat_ws(E'\x1f', correlation, profile, capability, tool)),
       count(*), sum(cost_usd), max(partition), max("offset")
FROM tool_calls GROUP BY 1, 2, 3, 4, 5, 6, 7;
INSERT INTO security_events
SELECT 'noted-' || i, CASE WHEN i % 9 = 0 THEN '*' WHEN who % 3 = 2 THEN 'bolt' ELSE 'acme' END,
       (ARRAY['login_accepted', 'card_shown', 'login_refused', 'switch_closed'])[1 + i % 4], CASE WHEN i % 4 = 2 THEN 'refused' ELSE 'done' END, 'mission_control',
       (ARRAY['kim', 'lea'])[1 + i % 2], '10.0.0.' || i % 250, '', '', CASE WHEN i % 4 = 2 THEN 'wrong_password' ELSE '' END, '', 1 + i % 3, at, at, at, 0, i::bigint
FROM n WHERE i % 5 = 0;
INSERT INTO ledger
SELECT 'tenant/' || CASE WHEN who % 3 = 2 THEN 'bolt' ELSE 'acme' END, agent_id, campaign, ordinal, 1 + (i % 11 = 0)::int, 'demo-' || campaign, e, '',
       CASE e WHEN 'held' THEN 1 ELSE (luck / 50)::numeric(20, 8) END, (at AT TIME ZONE 'UTC')::date, at, partition, base + 10, CASE e WHEN 'held' THEN 0 ELSE 1 END
FROM n, unnest(ARRAY['held', 'settled']) e WHERE i % 40 <> 39 AND i % 31 <> 30 AND i % 29 <> 28;

-- step: events
INSERT INTO events
SELECT agent_id, md5('r' || i || k), (ARRAY['TaskPlanned', 'ArtifactProduced', 'JudgeVerdict', 'EffectClaimed', 'EffectEnded'])[k], 1,
       CASE WHEN who % 3 = 2 THEN 'bolt' ELSE 'acme' END, (ARRAY['planner', 'worker', 'judge', 'executor', 'executor'])[k], '', 'demo-' || campaign, campaign, ordinal,
       1 + (i % 11 = 0)::int, 'applied', '', i, jsonb_build_object('campaign', campaign, 'ordinal', ordinal), at - make_interval(mins => 20 * (5 - k)), partition, base + 10 + k
FROM n, generate_series(1, 5) k;

-- step: media
INSERT INTO assets
SELECT agent_id, encode(sha256(('m' || i || r)::bytea), 'hex'), r, CASE r WHEN 'prompt' THEN 'text/plain' ELSE 'video/mp4' END, 100000 + i, 1080, 1920,
       CASE r WHEN 'prompt' THEN NULL ELSE 6 + luck * 24 END, campaign, ordinal, 1 + (i % 11 = 0)::int, 0, CASE WHEN r = 'prompt' THEN '' ELSE (ARRAY['draft', 'standard'])[1 + i % 2] END,
       0.5, CASE r WHEN 'prompt' THEN 0 ELSE (0.2 + luck)::numeric(20, 8) END, at - interval '90 minutes', at - interval '90 minutes', partition, base + 1
FROM n, unnest(ARRAY['prompt', 'render', 'final']) r WHERE filmed;
INSERT INTO asset_lineage
SELECT agent_id, encode(sha256(('m' || i || l[1])::bytea), 'hex'), encode(sha256(('m' || i || l[2])::bytea), 'hex'), l[3], at, partition, base + 1
FROM n, (VALUES (ARRAY['final', 'render', 'edit']), (ARRAY['render', 'prompt', 'render'])) v(l) WHERE filmed;
INSERT INTO asset_provenance
SELECT agent_id, sha256, (ARRAY['runway', 'luma'])[1 + bytes % 2], (ARRAY['runway', 'luma'])[1 + bytes % 2], CASE role WHEN 'final' THEN 'edit' ELSE 'generate' END,
       '2.' || bytes % 3, (ARRAY['gen4', 'ray3'])[1 + bytes % 2], encode(sha256(('m' || (bytes - 100000) || 'prompt')::bytea), 'hex'), bytes, '{"ratio": "9:16"}', '{}', '{}', updated_at, partition, "offset"
FROM assets WHERE role <> 'prompt';
INSERT INTO asset_uses
SELECT agent_id, campaign, ordinal, attempt, sha256, 'shown', platform, disclosure, 'worker', proposed_at, e.updated_at, e.partition, e."offset"
FROM assets JOIN effects e USING (agent_id, campaign, ordinal, attempt) WHERE role = 'final';
INSERT INTO asset_events
SELECT agent_id, sha256, (ARRAY['produced', 'proposed', 'edited'])[1 + k % 3], campaign, ordinal, attempt, 'worker', '', '{}', created_at + make_interval(mins => k), partition, "offset",
       (row_number() OVER (PARTITION BY partition, "offset") - 1)::smallint
FROM assets, generate_series(0, :asset_events:) k;

-- step: engagement
INSERT INTO engagement_metrics
SELECT agent_id, platform, 'p' || i, m.metric, floor(o.k * m.size * (0.1 + luck * luck * 3)), at + power(o.k / :observations:.0, 2)::float * (:now: - at) * 0.99,
       platform || '/social.metrics', at + power(o.k / :observations:.0, 2)::float * (:now: - at) * 0.99 + interval '20 seconds', (i % 12)::smallint,
       (i::bigint * 1000 + o.k), m.n
FROM n, generate_series(1, :observations:) o(k), (VALUES ('views', 120, 0), ('likes', 9, 1), ('replies', 2, 2), ('watch_time_s', 600, 3)) m(metric, size, n)
WHERE i % 40 <> 39;
INSERT INTO engagement_daily
SELECT DISTINCT ON (agent_id, platform, platform_id, day) agent_id, platform, 'p' || i AS platform_id, (o.at AT TIME ZONE 'UTC')::date AS day,
       ARRAY['likes', 'replies', 'views', 'watch_time_s'], ARRAY[floor(o.k * 9 * o.size), floor(o.k * 2 * o.size), floor(o.k * 120 * o.size), floor(o.k * 600 * o.size)],
       o.at, (i % 12)::smallint, i::bigint * 1000 + o.k
FROM n, generate_series(1, :observations:) k,
     LATERAL (SELECT k, 0.1 + luck * luck * 3 AS size, at + power(k / :observations:.0, 2)::float * (:now: - at) * 0.99 AS at) o
WHERE i % 40 <> 39
ORDER BY agent_id, platform, platform_id, day, o.k DESC;
INSERT INTO engagement_latest
SELECT DISTINCT ON (agent_id, platform, platform_id) agent_id, platform, platform_id, metrics, numbers, observed_at, partition, "offset"
FROM engagement_daily ORDER BY agent_id, platform, platform_id, day DESC;
DELETE FROM engagement_daily d USING engagement_latest l
WHERE (d.agent_id, d.platform, d.platform_id, d.metrics, d.day) = (l.agent_id, l.platform, l.platform_id, l.metrics, l.day);
INSERT INTO engagement_unsettled SELECT agent_id, platform, min(day) FROM engagement_days GROUP BY agent_id, platform;
INSERT INTO checkpoints (model_set, topic, partition, next_offset, law, last_append_at)
SELECT s, t, p, 1000, 1, :now: FROM (VALUES ('core', 'chimera.log', 24), ('calls', 'chimera.calls', 12), ('metrics', 'chimera.metrics', 12)) v(s, t, c), generate_series(0, c - 1) p;
