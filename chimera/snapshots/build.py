"""Whole snapshots of folds that nobody serves: for an upgrade, which builds its own beside the old before it restarts.

The rule not to break: it writes for its own maker only, and never over a later snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable

from chimera.events.partition import PartitionFold
from chimera.snapshots.cutter import Cutter
from chimera.snapshots.state import Saved, SnapshotStore


def save_whole(store: SnapshotStore, folds: Iterable[tuple[PartitionFold, int]]) -> dict[int, Saved]:
    """Save folds as they stand, each with the append time of its last record; what became of each partition's."""
    answers: dict[int, Saved] = {}
    for fold, last_append_ts in folds:
        cutter = Cutter(fold, None, last_append_ts)
        cutter.begin()
        whole = cutter.slice(fold.streams)
        assert whole is not None, "a slice as large as the partition is the whole of it"
        answers[fold.partition] = store.save(whole)
    return answers
