"""Where the projector's fold is taken up after a restart: its own snapshots, kept beside the checkpoints.

The rule not to break: a cut is saved only when its rows are written, and gone on from only at or below the checkpoint. Records
between the two are folded again without rows; a cut beyond the checkpoint would leave rows out. Any trouble costs time only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from chimera.eventlog.lineage import of_another_log
from chimera.events.partition import PartitionFold
from chimera.projections.folding import Before
from chimera.snapshots.cutter import Cutter
from chimera.snapshots.memory import save_memory
from chimera.snapshots.postgres import PostgresSnapshots
from chimera.snapshots.state import (
    Cut,
    PartitionSnapshot,
    Saved,
    SnapshotStore,
    SnapshotUnavailable,
    SnapshotUnusable,
    maker,
    of_build,
    of_projector,
    restore,
)

log = logging.getLogger(__name__)

EVERY_S = 15.0
"""A partition that moved on is cut about so often: so many seconds of records are folded again after a kill."""
SLICE_S = 0.005
"""Time for cutting between two batches, so that rows do not wait."""
SLICE_AGENTS = 5
LOAD_DEADLINE_S = 10.0
LONGEST_REST_S = 60.0


@dataclass
class _Going:
    """The one cut in the making: it is taken in slices, waits until its rows are written, and is then saved."""

    partition: int
    cutter: Cutter
    since: float
    cut: Cut | None = None
    saving: Future[Saved] | None = None


class Cuts:
    """Takes, keeps and restores the cuts of one projector's partitions. For the thread that folds.

    Args:
        bootstrap, topic: the log, asked whether it is the one that a cut was made of.
        own: where the projector keeps its cuts.
        shared: snapshots of others with the same fold (the brain's); used where there is no own one.
    """

    def __init__(
        self, bootstrap: str, topic: str, own: SnapshotStore, shared: SnapshotStore | None = None, *, every_s: float = EVERY_S
    ) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._own, self._shared, self._every_s = own, shared, every_s
        self._cutters: dict[int, Cutter] = {}
        self._begun_at: dict[int, float] = {}
        self._ahead: dict[int, int] = {}
        self._going: _Going | None = None
        self._rest_s = 0.0
        self._rest_until = 0.0
        self._trouble: str | None = None
        self._saved_at: float | None = None
        self.saved = 0
        """Cuts kept so far."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="projector-cuts")

    # --- taking up ----------------------------------------------------------------------------------------------------

    def restore(
        self,
        folds: Mapping[int, PartitionFold],
        checkpoints: Mapping[int, int],
        ends: Mapping[int, int],
        fresh: Callable[[int], PartitionFold],
    ) -> dict[int, PartitionFold]:
        """Put empty folds where their newest usable cut stands; where there is none they stay, and the process's log says why.

        `checkpoints` and `ends`: partition -> next offset to write, and end of the log. `fresh` makes another empty fold.
        Raises what reading the log raises.
        """
        found, times, within_reach = dict(folds), dict[int, int](), True
        now = time.monotonic()
        for partition, fold in folds.items():
            since: int | None = None
            if within_reach:
                try:
                    for store in (self._own, self._shared):
                        if store is None or (store is self._shared and checkpoints[partition] == 0):
                            continue
                        snapshot = self._load(store, fold, checkpoints[partition])
                        if snapshot is not None:
                            times[partition] = snapshot.last_append_ts
                            since = snapshot.next_offset if store is self._own else None
                            break
                except (SnapshotUnavailable, TimeoutError) as error:
                    within_reach = False
                    log.warning("no cuts (%s): folding from offset 0", str(error) or "no answer in time")
            self._cutters[partition] = Cutter(fold, since, times.get(partition, 0))
            self._begun_at[partition] = now
        at = {p: found[p].next_offset for p in times}
        for partition, why in of_another_log(self._bootstrap, self._topic, at, times, ends).items():
            log.error("partition %d: %s; folding it from offset 0, and keeping no cuts of it", partition, why)
            self.release(partition)
            found[partition] = fresh(partition)
        if times:
            log.info("took up %d of %d partitions from cuts, %d records in", len(times), len(folds), sum(at.values()))
            save_memory()
        return found

    def _load(self, store: SnapshotStore, fold: PartitionFold, checkpoint: int) -> PartitionSnapshot | None:
        """Put the fold where this store's cut stands, if that is at or below the checkpoint."""
        try:
            snapshot = self._thread.submit(store.load, fold.partition).result(LOAD_DEADLINE_S)
            if snapshot is None:
                return None
            if snapshot.next_offset > checkpoint:
                if store is self._own:  # the read models were built anew since: a cut below that one would not be kept
                    self._ahead[fold.partition] = snapshot.next_offset
                return None
            restore(fold, snapshot)
        except SnapshotUnusable as error:
            log.warning("%s: not gone on from", error)
            return None
        return snapshot

    # --- while records are folded -------------------------------------------------------------------------------------

    def before(self, partition: int) -> Before | None:
        """Whom to tell of each record of the partition ahead of its fold."""
        cutter = self._cutters.get(partition)
        return None if cutter is None else cutter.before

    def release(self, partition: int) -> None:
        """Forget a partition that another projector has now."""
        self._cutters.pop(partition, None)
        self._begun_at.pop(partition, None)
        self._ahead.pop(partition, None)
        if self._going is not None and self._going.partition == partition:
            self._going = None

    def release_all(self) -> None:
        """Forget all partitions: they will be restored again."""
        for partition in list(self._cutters):
            self.release(partition)

    def go_on(self, folds: Mapping[int, PartitionFold], written: Mapping[int, int]) -> None:
        """Between two batches: some milliseconds of cutting. `written`: partition -> next offset to write."""
        now = time.monotonic()
        if self._going is None:
            self._begin(folds, now)
        going = self._going
        if going is None:
            return
        if going.cut is None:
            while going.cut is None and time.monotonic() - now < SLICE_S:
                going.cut = going.cutter.slice(SLICE_AGENTS)
        elif going.saving is not None:
            if going.saving.done():
                self._going = None
                self._ended(going, going.saving, now)
        elif written.get(going.partition, 0) >= going.cut.next_offset:
            going.saving = self._thread.submit(self._own.save, going.cut)
        elif now - going.since > self._every_s:  # the partition stands still: others need not wait for it
            self._going = None
            going.cutter.ended(None)

    def save_all(self, folds: Mapping[int, PartitionFold]) -> None:
        """Save every partition as it stands, all of whose rows are written. Raises `SnapshotUnavailable`."""
        if self._going is not None:
            if self._going.saving is not None:
                self._going.saving.result()
            self._going.cutter.ended(None)
            self._going = None
        for partition, cutter in self._cutters.items():
            if not cutter.behind:
                continue
            cutter.begin()
            cut = cutter.slice(folds[partition].streams)
            assert cut is not None, "a slice as large as the partition is the whole of it"
            saved = self._thread.submit(self._own.save, cut).result()
            cutter.ended(saved)
            self.saved += saved is Saved.KEPT

    def _begin(self, folds: Mapping[int, PartitionFold], now: float) -> None:
        """The partition that waits longest, where one has moved on and waits long enough."""
        if now < self._rest_until:
            return
        due = [
            (at, p)
            for p, at in self._begun_at.items()
            if now - at >= self._every_s and self._cutters[p].behind and folds[p].next_offset >= self._ahead.get(p, 0)
        ]
        if due:
            _, partition = min(due)
            self._begun_at[partition] = now
            self._going = _Going(partition, self._cutters[partition], now)
            self._going.cutter.begin()

    def _ended(self, going: _Going, saving: Future[Saved], now: float) -> None:
        try:
            saved = saving.result()
        except SnapshotUnavailable as error:
            going.cutter.ended(None)
            if str(error) != self._trouble:
                log.warning("no cut was kept, a restart will take longer: %s", error)
            self._trouble = str(error)
            self._rest_s = min(LONGEST_REST_S, max(1.0, 2 * self._rest_s))
            self._rest_until = now + self._rest_s
            return
        going.cutter.ended(saved)
        self._trouble, self._rest_s, self._saved_at = None, 0.0, now
        if saved is Saved.KEPT:
            self.saved += 1

    def status(self) -> dict[str, float | int | str | None]:
        """How old the last cut is, what a restart would fold again, how many were kept, and what keeps them from being kept."""
        return {
            "age_s": None if self._saved_at is None else round(time.monotonic() - self._saved_at, 1),
            "behind": sum(cutter.behind for cutter in list(self._cutters.values())),
            "saved": self.saved,
            "trouble": self._trouble,
        }

    def close(self) -> None:
        """Give up what is not saved."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def cuts_of_build(dsn: str, bootstrap: str, topic: str, root: str, build: int) -> Cuts:
    """Cuts of a build that is not live: never beyond the checkpoints of its own rows."""
    return Cuts(bootstrap, topic, PostgresSnapshots(dsn, of_build(of_projector(maker(root)), build)))


def cuts_in(dsn: str, bootstrap: str, topic: str, root: str) -> Cuts:
    """Cuts in the database of the read models, of the log whose root key has the id `root`."""
    everyones = maker(root)
    return Cuts(bootstrap, topic, PostgresSnapshots(dsn, of_projector(everyones)), PostgresSnapshots(dsn, everyones))
