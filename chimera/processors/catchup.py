"""Brings a swarm's partitions up to the end of the log: from their snapshots where there are any, else from offset 0.

The rule not to break: it runs while its partitions are dark, and a snapshot is gone on from only if the log still holds, at the
snapshot's last offset, the record that was appended at the snapshot's last time.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Mapping

from chimera.eventlog.read import end_offsets, read_until
from chimera.events.partition import PartitionFold
from chimera.processors.swarm import Swarm
from chimera.snapshots.keeper import Keeper

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


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
    ends = end_offsets(bootstrap, topic, partitions)  # asked after loading: a snapshot is never ahead of them by its age alone
    if keeper is not None:
        for partition, why in _of_another_log(bootstrap, topic, folds, times, ends).items():
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
            swarm.fold_batch(batch)
    _save_memory()


def _save_memory() -> None:
    """What reading the log left behind goes back."""
    gc.collect()
    gc.freeze()  # what was folded stays for long: the collector need not walk it again and again
    if _LIBC is not None and hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def _of_another_log(
    bootstrap: str, topic: str, folds: Mapping[int, PartitionFold], times: Mapping[int, int], ends: Mapping[int, int]
) -> dict[int, str]:
    """Partition -> why its snapshot was not made of this log."""
    at = {p: folds[p].next_offset for p in times}
    wrong = {
        p: f"its snapshot stands at offset {at[p]}, but the log ends at {ends[p]} (this log lost its end, or is another one)"
        for p in at
        if at[p] > ends[p]
    }
    last = {p: offset - 1 for p, offset in at.items() if p not in wrong and offset > 0}
    if last:
        for batch in read_until(bootstrap, topic, list(last), start=last, end={p: offset + 1 for p, offset in last.items()}):
            for raw in batch:
                if raw.append_ts != times[raw.partition]:
                    wrong[raw.partition] = (
                        f"the record at offset {raw.offset} was appended at {raw.append_ts}, its snapshot saw one of "
                        f"{times[raw.partition]} there (this is another log)"
                    )
    return wrong
