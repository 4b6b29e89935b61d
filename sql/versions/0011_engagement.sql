-- What platforms say of posts (topic chimera.metrics, not part of the fold). Values are cumulative: the last one counts, never a sum.

CREATE TABLE engagement_metrics (
    agent_id        text NOT NULL,
    platform        text NOT NULL,
    platform_id     text NOT NULL,             -- of the post
    metric          text NOT NULL,             -- views, likes, watch_time_s ...
    value           double precision NOT NULL CHECK (value >= 0 AND value < 'infinity'),
    observed_at     timestamptz NOT NULL,      -- when the platform said so
    source          text NOT NULL,             -- the tool, or load:<file>
    created_at      timestamptz NOT NULL,      -- append time
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    n               smallint NOT NULL,         -- one record tells several metrics
    PRIMARY KEY (partition, "offset", n, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX engagement_metrics_agent_created ON engagement_metrics (agent_id, created_at);
CREATE INDEX engagement_metrics_created ON engagement_metrics USING brin (created_at);

-- The last value of each UTC day of observation.
CREATE TABLE engagement_daily (
    agent_id        text NOT NULL,
    platform        text NOT NULL,
    platform_id     text NOT NULL,
    metric          text NOT NULL,
    day             date NOT NULL,
    value           double precision NOT NULL,
    observed_at     timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, platform, platform_id, metric, day)
) WITH (fillfactor = 80);
CREATE INDEX engagement_daily_day ON engagement_daily (day);

-- The last value of all.
CREATE TABLE engagement_latest (
    agent_id        text NOT NULL,
    platform        text NOT NULL,
    platform_id     text NOT NULL,
    metric          text NOT NULL,
    value           double precision NOT NULL,
    observed_at     timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, platform, platform_id, metric)
) WITH (fillfactor = 80);
