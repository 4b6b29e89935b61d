-- Media that an artifact carries, by the hash of their bytes. The bytes themselves lie in the media store.

CREATE TABLE assets (
    agent_id        text NOT NULL REFERENCES agents,
    sha256          text NOT NULL,
    role            text NOT NULL CHECK (role IN ('prompt', 'source', 'render', 'edit', 'final')),
    media_type      text NOT NULL,
    bytes           bigint CHECK (bytes >= 0),
    width           integer,
    height          integer,
    duration_s      double precision CHECK (duration_s >= 0),
    campaign        integer NOT NULL,          -- the task that made it first
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    edit            integer NOT NULL,
    tier            text NOT NULL,
    estimate_usd    numeric(20, 8),
    cost_usd        numeric(20, 8),
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, sha256)
);
CREATE INDEX assets_agent_created ON assets (agent_id, created_at);
CREATE INDEX assets_task ON assets (agent_id, campaign, ordinal, attempt);
ALTER TABLE assets ADD CONSTRAINT assets_task_fkey FOREIGN KEY (agent_id, campaign, ordinal) REFERENCES tasks
    DEFERRABLE INITIALLY IMMEDIATE;
ALTER TABLE assets ALTER CONSTRAINT assets_agent_id_fkey DEFERRABLE INITIALLY IMMEDIATE;
-- As all others since 0002: healing looks at references when it has finished.
ALTER TABLE signals ALTER CONSTRAINT signals_agent_id_fkey DEFERRABLE INITIALLY IMMEDIATE;

-- Parents may be unknown here (another attempt's, a prompt, an owner's file): a soft reference.
CREATE TABLE asset_lineage (
    agent_id        text NOT NULL,
    sha256          text NOT NULL,
    parent          text NOT NULL,
    step            text NOT NULL,             -- what was done to the parent: render, edit ...
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, sha256, parent)
);
CREATE INDEX asset_lineage_parent ON asset_lineage (agent_id, parent);

CREATE TABLE asset_provenance (
    agent_id        text NOT NULL,
    sha256          text NOT NULL,
    platform        text NOT NULL,             -- who made it
    profile         text NOT NULL,
    tool_name       text NOT NULL,
    tool_version    text NOT NULL,
    model           text NOT NULL,
    prompt_sha256   text,
    seed            bigint,
    parameters      jsonb NOT NULL,
    request         jsonb NOT NULL,            -- redacted
    response        jsonb NOT NULL,            -- redacted
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, sha256)
);
CREATE INDEX asset_provenance_tool ON asset_provenance (tool_name, tool_version);

CREATE TABLE asset_events (
    agent_id        text NOT NULL,
    sha256          text NOT NULL,
    event           text NOT NULL CHECK (event IN ('produced', 'edited', 'proposed')),
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    actor           text NOT NULL,
    platform        text NOT NULL,             -- where it is to be published; '' = nowhere yet
    detail          jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    n               smallint NOT NULL,
    PRIMARY KEY (partition, "offset", n, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX asset_events_agent_created ON asset_events (agent_id, created_at);
CREATE INDEX asset_events_created ON asset_events USING brin (created_at);
CREATE INDEX asset_events_sha256 ON asset_events (sha256);
