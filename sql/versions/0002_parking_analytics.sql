CREATE OR REPLACE VIEW analytics_v1.freshness AS
SELECT model_set, topic, partition, next_offset AS "offset", law, last_append_at, moved_at, unmoved_for, stopped,
       unreadable, unknown_types, parked
FROM {schema}.freshness;
COMMENT ON VIEW analytics_v1.freshness IS
    'How far each partition is projected; stopped says why one stands still; unreadable, unknown_types and parked count what has no rows.';
