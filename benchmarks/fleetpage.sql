-- Made-up rows of a fleet: agents of two tenants, three tasks each, the first of them waiting for people.
INSERT INTO core.agents SELECT 'agent/' || md5('f' || i), CASE WHEN i %% 3 = 0 THEN 'bolt' ELSE 'acme' END, 'agent' || lpad(i::text, 6, '0'),
  CASE WHEN i %% 50 = 0 THEN 'paused' ELSE 'active' END, i %% 500 = 0, 20, 5, 1, 3, 1, now(), (i %% 24)::smallint, i
FROM generate_series(1, %(agents)s) i;
INSERT INTO core.tenants SELECT 'tenant/' || t, t, 1, 1, 0, 0, 0, 0, 0, now(), 0, row_number() OVER () FROM unnest(ARRAY['acme', 'bolt']) t;
INSERT INTO core.tenant_members SELECT 'tenant/' || tenant, agent_id, name, ARRAY['group' || "offset" %% 20, 'all'], 'joined', now(), partition, "offset"
FROM core.agents;
INSERT INTO core.campaigns SELECT agent_id, 1, 'big', 'Big', 'kim', 'running', '', 1, '{}', 'h', 1, 'adopted', '', now(), now(), partition, "offset"
FROM core.agents;
INSERT INTO core.tasks SELECT agent_id, 1, o, 'publish', 'A post', CASE o WHEN 1 THEN 'produced' ELSE 'done' END, '', 1, 0, 1, '{}', 0, '[]', '{}', false, 3,
  now(), now(), CASE o WHEN 1 THEN NULL ELSE now() END, now(), partition, "offset" * 10 + o FROM core.agents, generate_series(1, 3) o;
INSERT INTO core.artifacts SELECT agent_id, 1, ordinal, 1, 0, 'publish', 'h', '{"text": "words"}', 0.8, '{}', 'automated', 'owner', '[]', '{}', 0, 3, 'worker',
  now(), partition, "offset" FROM core.tasks;
INSERT INTO core.effects SELECT agent_id, 1, ordinal, 1, 'e' || "offset", 'publish', 'keyed', 'x', 'sandbox', 'createPosts', 'x', 'a', NULL,
  '{"text": "words"}', 0, 'automated', 0, CASE ordinal WHEN 1 THEN 'people' ELSE 'executed' END, '', 1, 'p' || "offset", NULL, 0, now(), now(), now(), now(),
  now(), partition, "offset" FROM core.tasks;
INSERT INTO core.reviews SELECT agent_id, 1, 1, 1, 'waiting', 'sensitive', 0, 0, '', NULL, now(), now(), NULL, now(), partition, "offset" FROM core.agents;
ANALYZE;
