"""Brings a swarm's partitions up to the end of the log: from their snapshots where there are any, else from offset 0.

The rule not to break: it runs while its partitions are dark, and a snapshot is gone on from only if the log still holds, at the
snapshot's last offset, the record that was appended at the snapshot's last time.
"""

from __future__ import annotations

from collections.abc import Callable

from chimera import failpoints
from chimera.eventlog.lineage import of_another_log
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.partition import PartitionFold
from chimera.processors.swarm import Swarm
from chimera.snapshots.keeper import Keeper
from chimera.snapshots.memory import save_memory


def catch_up(
    swarm: Swarm,
    partitions: set[int],
    bootstrap: str,
    topic: str,
    new_fold: Callable[[int], PartitionFold],
    keeper: Keeper | None,
) -> None:
    """Fold from where each partition's state stands up to its end now; what the swarm does not hold is restored first."""
    if not partitions:
        return
    unheld = [p for p in sorted(partitions) if p not in swarm.partitions or swarm.partitions[p].next_offset == 0]
    folds = {p: new_fold(p) for p in unheld}
    times = keeper.restore(folds.values()) if keeper is not None else {}
    failpoints.here("catchup.restored")
    ends = end_offsets(bootstrap, topic, partitions)  # asked after loading: a snapshot is never ahead of them by its age alone
    if keeper is not None:
        at = {p: folds[p].next_offset for p in times}
        for partition, why in of_another_log(bootstrap, topic, at, times, ends).items():
            keeper.refuse(partition, why)
            folds[partition] = new_fold(partition)
            del times[partition]
    for ts in times.values():
        if ts:
            swarm.clock.saw(ts)
    swarm.partitions.update(folds)
    start = {p: swarm.partitions[p].next_offset for p in partitions}
    behind = {p: at for p, at in start.items() if at < ends[p]}
    if behind:
        for batch in read_until(bootstrap, topic, list(behind), start=behind, end={p: ends[p] for p in behind}):
            swarm.fold_batch(batch, again=unheld)
    save_memory()
