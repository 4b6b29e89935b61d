-- How far are the read models, and does a partition stand still?
-- next_offset: of the log, to be projected next; last_append_at: of the newest projected record
-- unmoved_for: since the last transaction of that partition; stopped: why it stands still
-- parked: models of agents that do not flow (`chimera parked list`)
-- unreadable, unknown_types: records so far that nobody could read, or of a type that nobody knows
-- returns: model_set, topic, partition, next_offset, last_append_at, unmoved_for, stopped, parked, unreadable, unknown_types
SELECT model_set, topic, partition, "offset" AS next_offset, last_append_at, date_trunc('second', unmoved_for) AS unmoved_for, stopped,
       parked, unreadable, unknown_types
FROM analytics_v1.freshness
ORDER BY (stopped IS NULL), (parked = 0), model_set DESC, topic, partition
