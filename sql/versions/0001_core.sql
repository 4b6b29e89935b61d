-- The read models of one fold. Every row says which record wrote it last (partition, "offset" of chimera.log) and every
-- time is the broker's append time, so that a refold gives the same bytes.

CREATE TABLE agents (
    agent_id        text PRIMARY KEY,          -- stream key, agent/<uuid>
    tenant          text NOT NULL,
    name            text NOT NULL,
    status          text NOT NULL CHECK (status IN ('active', 'paused', 'retired')),
    quarantined     boolean NOT NULL,
    state_version   bigint NOT NULL CHECK (state_version >= 0),
    command_no      bigint NOT NULL,
    policy_edition  bigint,
    open_tasks      integer NOT NULL,
    open_campaigns  integer NOT NULL,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL
);
CREATE INDEX agents_tenant_name ON agents (tenant, name);

CREATE TABLE campaigns (
    agent_id        text NOT NULL REFERENCES agents,
    campaign        integer NOT NULL,
    campaign_id     text NOT NULL,
    name            text NOT NULL,
    requester       text NOT NULL,
    status          text NOT NULL CHECK (status IN ('running', 'paused', 'cancelled', 'completed', 'closed')),
    reason          text NOT NULL DEFAULT '',
    brief_edition   integer NOT NULL,
    brief           jsonb NOT NULL,
    brief_hash      text NOT NULL,
    plan_round      integer NOT NULL DEFAULT 0,
    plan_status     text CHECK (plan_status IN ('adopted', 'rejected')),
    plan_reason     text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, campaign)
);
CREATE INDEX campaigns_open ON campaigns (status) WHERE status IN ('running', 'paused', 'cancelled');
CREATE INDEX campaigns_campaign_id ON campaigns (campaign_id);

CREATE TABLE tasks (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    kind            text NOT NULL,
    title           text NOT NULL,
    status          text NOT NULL CHECK (status IN ('planned', 'open', 'started', 'produced', 'done', 'closed', 'dropped')),
    reason          text NOT NULL DEFAULT '',
    attempt         integer NOT NULL DEFAULT 0,
    failures        integer NOT NULL DEFAULT 0,
    plan_round      integer NOT NULL,
    reads           text[] NOT NULL,
    max_cost_usd    numeric(20, 8) NOT NULL,
    criteria        jsonb NOT NULL,
    inputs          jsonb NOT NULL,
    costly          boolean NOT NULL,
    input_state_version bigint,
    created_at      timestamptz NOT NULL,
    opened_at       timestamptz,
    finished_at     timestamptz,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, campaign, ordinal),
    FOREIGN KEY (agent_id, campaign) REFERENCES campaigns
);
CREATE INDEX tasks_waiting ON tasks (status, updated_at) WHERE status IN ('planned', 'open', 'started', 'produced');
CREATE INDEX tasks_agent_created ON tasks (agent_id, created_at);

CREATE TABLE task_dependencies (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    depends_on      integer NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, campaign, ordinal, depends_on),
    FOREIGN KEY (agent_id, campaign, ordinal) REFERENCES tasks
);

-- What workers (edit 0) and editors (edit 1, 2 ...) made.
CREATE TABLE artifacts (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    edit            integer NOT NULL,
    kind            text NOT NULL,
    artifact_hash   text NOT NULL,
    content         jsonb NOT NULL,
    confidence      double precision,
    risk_tags       text[] NOT NULL,
    disclosure_level text NOT NULL,
    taint           text,
    sources         jsonb NOT NULL,
    provenance      jsonb NOT NULL,
    cost_usd        numeric(20, 8) NOT NULL,
    input_state_version bigint NOT NULL,
    actor           text NOT NULL,
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset"),
    UNIQUE (agent_id, campaign, ordinal, attempt, edit),
    FOREIGN KEY (agent_id, campaign, ordinal) REFERENCES tasks
);
CREATE INDEX artifacts_agent_created ON artifacts (agent_id, created_at);

-- Every vote of a judge that counted or was rejected.
CREATE TABLE verdicts (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    edit            integer NOT NULL,
    judge           text NOT NULL CHECK (judge IN ('content', 'cfo')),
    decision        text NOT NULL CHECK (decision IN ('pass', 'people', 'fail')),
    confidence_raw  double precision,
    confidence      double precision,
    tags            text[] NOT NULL,
    failed_rules    text[] NOT NULL,
    reasons         text[] NOT NULL,
    policy_edition  bigint NOT NULL,
    input_state_version bigint NOT NULL,
    artifact_hash   text NOT NULL,
    effect_hash     text,
    trace           jsonb NOT NULL,
    ruling          text NOT NULL CHECK (ruling IN ('applied', 'rejected')),
    reason          text NOT NULL,
    actor           text NOT NULL,
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset"),
    FOREIGN KEY (agent_id, campaign, ordinal) REFERENCES tasks
);
CREATE INDEX verdicts_task ON verdicts (agent_id, campaign, ordinal, attempt);
CREATE INDEX verdicts_created ON verdicts USING brin (created_at);

-- Cards: effects that wait or waited for people. One row per attempt; opened_at is the last time that people were asked.
CREATE TABLE reviews (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    status          text NOT NULL CHECK (status IN ('waiting', 'approved', 'rejected', 'edited', 'expired', 'withdrawn', 'reopened', 'stale', 'closed')),
    why             text NOT NULL,
    edit            integer NOT NULL,
    approvals       integer NOT NULL DEFAULT 0,
    reason          text NOT NULL DEFAULT '',
    decided_by      text,
    first_opened_at timestamptz NOT NULL,
    opened_at       timestamptz NOT NULL,
    decided_at      timestamptz,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, campaign, ordinal, attempt),
    FOREIGN KEY (agent_id, campaign, ordinal) REFERENCES tasks
);
CREATE INDEX reviews_waiting ON reviews (opened_at) WHERE status = 'waiting';
CREATE INDEX reviews_decided ON reviews (decided_at) WHERE decided_at IS NOT NULL;

-- What people said, whether it counted or was rejected.
CREATE TABLE decisions (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    edit            integer NOT NULL,
    decision        text NOT NULL CHECK (decision IN ('approved', 'rejected', 'edited')),
    reviewer        text NOT NULL,
    reason_code     text,
    comment         text NOT NULL,
    policy_edition  bigint NOT NULL,
    effect_hash     text,
    artifact_hash   text,
    shown_hash      text NOT NULL,
    ruling          text NOT NULL CHECK (ruling IN ('applied', 'rejected')),
    reason          text NOT NULL,
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset"),
    FOREIGN KEY (agent_id, campaign, ordinal) REFERENCES tasks
);
CREATE INDEX decisions_task ON decisions (agent_id, campaign, ordinal, attempt);
CREATE INDEX decisions_reviewer ON decisions (reviewer, created_at);

CREATE TABLE commits (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    input_state_version bigint NOT NULL,
    output_state_version bigint NOT NULL,
    commit_hash     text NOT NULL,
    completed_by    text NOT NULL,              -- type of the record that completed the quorum
    actor           text NOT NULL,
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset"),
    UNIQUE (agent_id, output_state_version),
    FOREIGN KEY (agent_id, campaign, ordinal) REFERENCES tasks
);
CREATE INDEX commits_task ON commits (agent_id, campaign, ordinal, attempt);

CREATE TABLE effects (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    effect_hash     text NOT NULL,
    effect_class    text NOT NULL CHECK (effect_class IN ('publish', 'paid', 'financial')),
    tool_class      text NOT NULL,
    profile         text NOT NULL,
    mode            text NOT NULL CHECK (mode IN ('sandbox', 'dry_run', 'live')),
    tool            text NOT NULL,
    platform        text NOT NULL,
    account         text NOT NULL,
    thread          text,
    arguments       jsonb NOT NULL,
    max_cost_usd    numeric(20, 8) NOT NULL,
    disclosure      text NOT NULL,
    edit            integer NOT NULL,
    status          text NOT NULL CHECK (status IN ('proposed', 'people', 'approved', 'claimed', 'submitted', 'unknown', 'executed',
                                                    'refused', 'withdrawn', 'expired', 'rejected', 'stale', 'closed')),
    reason          text NOT NULL DEFAULT '',
    claim           integer NOT NULL DEFAULT 0,
    platform_id     text,
    url             text,
    cost_usd        numeric(20, 8),
    proposed_at     timestamptz NOT NULL,
    approved_at     timestamptz,
    claimed_at      timestamptz,
    ended_at        timestamptz,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, campaign, ordinal, attempt),
    FOREIGN KEY (agent_id, campaign, ordinal) REFERENCES tasks
);
CREATE INDEX effects_pending ON effects (status, updated_at)
    WHERE status IN ('proposed', 'people', 'approved', 'claimed', 'submitted', 'unknown');
CREATE INDEX effects_executed ON effects (platform, account, ended_at) WHERE status = 'executed';
CREATE INDEX effects_agent_proposed ON effects (agent_id, proposed_at);

-- A task that is planned again after an attempt, and why.
CREATE TABLE retries (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,           -- the attempt that ended
    reason          text NOT NULL,
    cause           text NOT NULL,              -- type of the record that ended it
    failures        integer NOT NULL,           -- of the task so far
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset", agent_id, campaign, ordinal),
    FOREIGN KEY (agent_id, campaign, ordinal) REFERENCES tasks
);
CREATE INDEX retries_agent_created ON retries (agent_id, created_at);

CREATE TABLE rejections (
    agent_id        text NOT NULL,
    type            text NOT NULL,
    reason          text NOT NULL,
    campaign        integer,
    ordinal         integer,
    attempt         integer,
    actor           text NOT NULL,
    state_version   bigint NOT NULL,
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset")
);
CREATE INDEX rejections_agent_created ON rejections (agent_id, created_at);
CREATE INDEX rejections_reason ON rejections (reason);

-- Records that changed nothing. The key may be any bytes, so nothing here refers to an agent.
CREATE TABLE voids (
    stream          text NOT NULL,
    record_id       text NOT NULL,
    type            text NOT NULL,
    reason          text NOT NULL,
    detail          text NOT NULL,              -- what could not be read
    actor           text NOT NULL,
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset")
);
CREATE INDEX voids_reason ON voids (reason, created_at);

CREATE TABLE policies (
    agent_id        text NOT NULL REFERENCES agents,
    edition         bigint NOT NULL,
    digest          text NOT NULL,
    editor          text NOT NULL,
    stales          boolean NOT NULL,
    inline          jsonb NOT NULL,
    rules           text NOT NULL,
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, edition)
);

CREATE TABLE accounts (
    agent_id        text NOT NULL REFERENCES agents,
    platform        text NOT NULL,
    account         text NOT NULL,
    status          text NOT NULL CHECK (status IN ('linked', 'unlinked')),
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, platform)
);

-- Every record of the log with its ruling. Append-only.
CREATE TABLE events (
    stream          text NOT NULL,
    record_id       text NOT NULL,
    type            text NOT NULL,
    schemaversion   integer NOT NULL,
    tenant          text NOT NULL,
    actor           text NOT NULL,
    causation       text NOT NULL,
    correlation     text NOT NULL,
    campaign        integer,
    ordinal         integer,
    attempt         integer,
    outcome         text NOT NULL CHECK (outcome IN ('applied', 'rejected', 'void')),
    reason          text NOT NULL,
    state_version   bigint NOT NULL,            -- of the stream after the record
    data            jsonb,                      -- null: not readable as JSON
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset")
);
CREATE INDEX events_stream_created ON events (stream, created_at);
CREATE INDEX events_created ON events USING brin (created_at);
CREATE INDEX events_correlation ON events (correlation) WHERE correlation <> '';

-- One per MCP call (topic chimera.calls, not part of the fold).
CREATE TABLE tool_calls (
    agent_id        text NOT NULL,
    tenant          text NOT NULL,
    profile         text NOT NULL,
    mode            text NOT NULL,
    capability      text NOT NULL,
    tool            text NOT NULL,
    account         text,
    result_class    text NOT NULL,
    reason          text NOT NULL,
    latency_ms      double precision,
    cost_usd        numeric(20, 8) NOT NULL,
    arguments_sha256 text NOT NULL,
    argument_shape  jsonb NOT NULL,
    schema_sha256   text NOT NULL,
    correlation     text NOT NULL,
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset")
);
CREATE INDEX tool_calls_agent_created ON tool_calls (agent_id, created_at);
CREATE INDEX tool_calls_created ON tool_calls USING brin (created_at);

-- How far each partition is projected. `stopped` says why a partition stands still.
CREATE TABLE checkpoints (
    model_set       text NOT NULL,
    topic           text NOT NULL,
    partition       smallint NOT NULL,
    next_offset     bigint NOT NULL CHECK (next_offset >= 0),
    law             integer NOT NULL,
    last_append_at  timestamptz,
    moved_at        timestamptz NOT NULL DEFAULT now(),
    stopped         text,
    PRIMARY KEY (model_set, topic, partition)
);
