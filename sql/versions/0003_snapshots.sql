-- Snapshots of folded partitions (chimera.snapshots). A projection like any other: dropping a row costs a refold, nothing else.
-- root, law, format, code say whose state it is: another log, law, state format or fold keeps rows of its own beside these.

CREATE SCHEMA IF NOT EXISTS snapshots;

CREATE TABLE IF NOT EXISTS snapshots.partitions (
    root            text NOT NULL,             -- key id of the pinned root key
    law             smallint NOT NULL,
    format          smallint NOT NULL,
    code            text NOT NULL,             -- digest of the code that folded
    partition       smallint NOT NULL,
    next_offset     bigint NOT NULL,           -- every agent's row is the state before this record
    last_append_ts  bigint NOT NULL,
    unreadable      bigint NOT NULL,
    law_in_force    bytea NOT NULL,
    agents          integer NOT NULL,          -- how many rows of snapshots.agents belong to it
    saved_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (root, law, format, code, partition)
);

CREATE TABLE IF NOT EXISTS snapshots.agents (
    root            text NOT NULL,
    law             smallint NOT NULL,
    format          smallint NOT NULL,
    code            text NOT NULL,
    partition       smallint NOT NULL,
    agent_id        text NOT NULL,
    next_offset     bigint NOT NULL,           -- the cut that wrote this row; later cuts left it because nothing had touched the agent
    state           bytea NOT NULL,
    PRIMARY KEY (root, law, format, code, partition, agent_id)
);
