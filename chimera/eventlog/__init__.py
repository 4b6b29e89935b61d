"""The only door to Kafka: append, read, read_at, the partitioner, topics as code.

Bytes and coordinates go through here, never meaning: records enter and leave as `chimera.events.raw` tuples. The rule
not to break: no other room creates a Kafka producer or consumer of its own (Faust's consumer runtime excepted).
"""
