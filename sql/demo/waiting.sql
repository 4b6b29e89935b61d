-- Cards of every class, reason and platform that wait since some time of the last day, on tasks of their own of made-up agents.
-- :cards: is filled in.
CREATE TEMP TABLE w AS SELECT i, a.agent_id, 1 + i % 2 AS campaign, 100000 + i AS ordinal, (i % 24)::smallint AS partition, 900000000 + i * 10 AS base,
  now() - make_interval(secs => (i * 7919) % 80000) AS at, CASE WHEN i % 3 = 0 THEN 'instagram' ELSE 'x' END AS platform,
  CASE WHEN i % 20 = 7 THEN 'financial' WHEN i % 20 = 3 THEN 'paid' ELSE 'publish' END AS class,
  (ARRAY['confidence', 'shadow', 'audit_sample', 'taint', 'sensitive'])[1 + i % 5] AS why, i % 5 = 4 OR i % 17 = 0 AS tagged
FROM generate_series(1, :cards:) i
JOIN (SELECT agent_id, row_number() OVER (ORDER BY agent_id) - 1 AS n, count(*) OVER () AS agents FROM core.agents) a ON a.n = i % a.agents;
INSERT INTO core.tasks SELECT agent_id, campaign, ordinal, 'post', 'Waits ' || i, 'produced', '', 1, 0, 1, '{}', 1, '[]', '[]', false, 3, at, at, NULL, at, partition, base FROM w;
INSERT INTO core.artifacts SELECT agent_id, campaign, ordinal, 1, 0, 'post', md5('wa' || i), jsonb_build_object('text', 'Waiting post number ' || i || repeat(' and so on', 12)),
  0.7 + (i % 20) / 100.0, CASE WHEN tagged THEN ARRAY['health'] ELSE '{}' END, 'automated', 'allowlisted', '[]', '{}', 0.01, 3, 'worker', at, partition, base + 1 FROM w;
INSERT INTO core.verdicts SELECT agent_id, campaign, ordinal, 1, 0, 'content', 'people', 0.8, 0.8, CASE WHEN i % 17 = 0 THEN ARRAY['politics'] ELSE '{}' END, '{}', '{}', 1, 3,
  md5('wa' || i), md5('we' || i), '{}', 'applied', '', 'judge', at, partition, base + 2 FROM w;
INSERT INTO core.effects SELECT agent_id, campaign, ordinal, 1, md5('we' || i), class, 'keyed', platform, 'sandbox', 'createPosts', platform, 'demo_' || i % 50, NULL,
  jsonb_build_object('text', 'Waiting post number ' || i), i % 9, 'automated', 0, 'people', '', 0, NULL, NULL, NULL, at, NULL, NULL, NULL, at, partition, base + 3 FROM w;
INSERT INTO core.reviews SELECT agent_id, campaign, ordinal, 1, 'waiting', why, 0, 0, '', NULL, at, at, NULL, at, partition, base + 4 FROM w;
