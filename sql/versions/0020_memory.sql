-- Long-term memory is a projection of chimera.notes with builds of its own: it lies beside the read models, and swapping these leaves
-- it alone. Every schema of read models runs this, and the first one makes it.
CREATE SCHEMA IF NOT EXISTS memory;
CREATE TABLE IF NOT EXISTS memory.builds (
    build           integer PRIMARY KEY,
    store           text NOT NULL,             -- postgres, weaviate
    embedder        text NOT NULL,             -- whose vectors it holds
    status          text NOT NULL CHECK (status IN ('building', 'live')),
    made_at         timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX IF NOT EXISTS builds_live ON memory.builds (status) WHERE status = 'live';
CREATE TABLE IF NOT EXISTS memory.checkpoints (
    model_set       text NOT NULL,             -- notes/<build>
    topic           text NOT NULL,
    partition       smallint NOT NULL,
    next_offset     bigint NOT NULL CHECK (next_offset >= 0),
    law             integer NOT NULL,
    last_append_at  timestamptz,
    moved_at        timestamptz NOT NULL DEFAULT now(),
    stopped         text,
    unreadable      bigint NOT NULL DEFAULT 0,
    unknown_types   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (model_set, topic, partition)
);
