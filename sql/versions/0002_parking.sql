-- A (model, stream) that does not flow: the first record whose rows could not be written, why, and what was passed over since.
CREATE TABLE parked (
    model           text NOT NULL,
    stream          text NOT NULL,              -- stream key, agent/<uuid>
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,            -- of the record that could not be written
    reason          text NOT NULL,
    since           timestamptz NOT NULL DEFAULT clock_timestamp(),
    skipped         bigint NOT NULL DEFAULT 0,  -- later records of the stream that this model would have written
    last_offset     bigint NOT NULL,            -- of the last of them
    PRIMARY KEY (model, stream, partition)
);

-- Records whose rows in one model were given up by a person. A rebuild leaves them out as well.
CREATE TABLE discarded (
    model           text NOT NULL,
    stream          text NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    failed_with     text NOT NULL,              -- why the row could not be written
    reason          text NOT NULL,              -- why it was given up
    discarded_by    text NOT NULL,
    discarded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, partition, "offset")
);

-- Records that no rule could read, counted where the checkpoint moves past them.
ALTER TABLE checkpoints ADD COLUMN unreadable bigint NOT NULL DEFAULT 0, ADD COLUMN unknown_types bigint NOT NULL DEFAULT 0;
UPDATE checkpoints c SET unreadable = v.unreadable, unknown_types = v.unknown_types
FROM (
    SELECT partition, count(*) FILTER (WHERE reason = 'unreadable') AS unreadable,
           count(*) FILTER (WHERE reason = 'unknown_type') AS unknown_types
    FROM voids GROUP BY partition
) v
WHERE c.topic = 'chimera.log' AND c.partition = v.partition;

CREATE OR REPLACE VIEW freshness AS
SELECT c.model_set, c.topic, c.partition, c.next_offset, c.law, c.last_append_at, c.moved_at, now() - c.moved_at AS unmoved_for, c.stopped,
       c.unreadable, c.unknown_types,
       CASE WHEN c.model_set = 'core' THEN (SELECT count(*) FROM parked p WHERE p.partition = c.partition) ELSE 0 END AS parked
FROM checkpoints c;

-- Healing replaces the rows that others refer to: references are then looked at when it has finished.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.conname, t.relname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
        WHERE c.contype = 'f' AND c.conparentid = 0 AND c.connamespace = current_schema()::regnamespace
    LOOP
        EXECUTE 'ALTER TABLE ' || quote_ident(found.relname) || ' ALTER CONSTRAINT ' || quote_ident(found.conname)
                || ' DEFERRABLE INITIALLY IMMEDIATE';
    END LOOP;
END $$;
