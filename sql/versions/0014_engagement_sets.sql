-- Numbers that a platform tells together change together: one row holds them all, where there was a row for each.

CREATE TABLE engagement_daily_sets (
    agent_id        text NOT NULL,
    platform        text NOT NULL,
    platform_id     text NOT NULL,
    day             date NOT NULL,
    metrics         text[] NOT NULL,           -- names told together, in order
    numbers         double precision[] NOT NULL CHECK (cardinality(numbers) = cardinality(metrics)),
    observed_at     timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL
) WITH (fillfactor = 80);
INSERT INTO engagement_daily_sets
SELECT agent_id, platform, platform_id, day, array_agg(metric ORDER BY metric), array_agg(value ORDER BY metric), observed_at, partition, "offset"
FROM engagement_daily GROUP BY agent_id, platform, platform_id, day, observed_at, partition, "offset";
DROP TABLE engagement_daily CASCADE;
ALTER TABLE engagement_daily_sets RENAME TO engagement_daily;
ALTER TABLE engagement_daily ADD CONSTRAINT engagement_daily_pkey PRIMARY KEY (agent_id, platform, platform_id, day, metrics);
CREATE INDEX engagement_daily_day ON engagement_daily (day);

CREATE TABLE engagement_latest_sets (
    agent_id        text NOT NULL,
    platform        text NOT NULL,
    platform_id     text NOT NULL,
    metrics         text[] NOT NULL,
    numbers         double precision[] NOT NULL CHECK (cardinality(numbers) = cardinality(metrics)),
    observed_at     timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL
) WITH (fillfactor = 80);
INSERT INTO engagement_latest_sets
SELECT agent_id, platform, platform_id, array_agg(metric ORDER BY metric), array_agg(value ORDER BY metric), observed_at, partition, "offset"
FROM engagement_latest GROUP BY agent_id, platform, platform_id, observed_at, partition, "offset";
DROP TABLE engagement_latest CASCADE;
ALTER TABLE engagement_latest_sets RENAME TO engagement_latest;
ALTER TABLE engagement_latest ADD CONSTRAINT engagement_latest_pkey PRIMARY KEY (agent_id, platform, platform_id, metrics);
