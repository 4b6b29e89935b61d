"""Snapshots of a partition's fold, so that a restart does not depend on the length of the log.

What enters: folds and the keys of agents about to change. What leaves: the state of whole partitions, each at one offset.
The rule not to break: a snapshot is a projection. One that is missing, stale, foreign, damaged or out of reach costs time (the
fold starts at offset 0) and nothing but time; Postgres lives in `chimera.snapshots.postgres` alone.
"""
