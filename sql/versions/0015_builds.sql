-- Builds of the read models beside each other: one is live (schema core), the others have schemas build_<id>.
-- This schema is no read model: it outlives every swap.
CREATE SCHEMA IF NOT EXISTS replay;
REVOKE ALL ON SCHEMA replay FROM PUBLIC;

CREATE TABLE IF NOT EXISTS replay.builds (
    id              integer PRIMARY KEY,
    state           text NOT NULL CHECK (state IN ('planned', 'loading', 'indexing', 'ready', 'live', 'kept', 'dropped')),
    wanted          text CHECK (wanted IN ('pause', 'cancel')),  -- what whoever runs it is asked to do
    held            text NOT NULL DEFAULT '',  -- why the load holds back just now
    plan            jsonb NOT NULL,            -- cluster, offsets, estimates: chimera.replay.plan
    models          jsonb NOT NULL DEFAULT '{}',  -- read model -> digest of the code that made its rows
    indexes         jsonb NOT NULL DEFAULT '[]',  -- definitions of the indexes that are made when the load is done
    error           text NOT NULL DEFAULT '',
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    loaded_at       timestamptz,
    swapped_at      timestamptz                -- when it last became live or ceased to be
);
CREATE UNIQUE INDEX IF NOT EXISTS builds_live ON replay.builds (state) WHERE state = 'live';

-- The first tables are build 0, whoever makes the next ones.
INSERT INTO replay.builds (id, state, plan, swapped_at) VALUES (0, 'live', '{}', clock_timestamp()) ON CONFLICT DO NOTHING;

-- Who did what and why. Append-only.
CREATE TABLE IF NOT EXISTS replay.acts (
    n               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    build           integer,                   -- NULL: a repair of rows in place
    act             text NOT NULL,             -- plan, apply, pause, resume, cancel, swap, rollback, gc, repair
    actor           text NOT NULL,
    reason          text NOT NULL,
    detail          jsonb NOT NULL DEFAULT '{}'
);
