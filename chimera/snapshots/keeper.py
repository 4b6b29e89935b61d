"""Keeps the snapshots of one process: restores its folds, and writes what changed every few seconds, off the event loop.

The rule not to break: the store is only ever touched in the keeper's own thread, and nobody waits for it without a deadline; a
store that is down, slow or stopped delays nothing but the next snapshot.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from concurrent.futures import Future
from typing import TypeVar

from chimera import failpoints
from chimera.events.partition import PartitionFold
from chimera.snapshots.cutter import Cutter
from chimera.snapshots.state import (
    PartitionSnapshot,
    Saved,
    SnapshotStore,
    SnapshotUnavailable,
    SnapshotUnusable,
    restore,
)

log = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")

EVERY_S = 5.0
EVERY_RECORDS = 20_000
SLICE_AGENTS = 20
"""Agents serialised before other work of the loop gets its turn: some milliseconds."""
LOAD_DEADLINE_S = 10.0
SAVE_DEADLINE_S = 30.0
LONGEST_PAUSE_S = 60.0
LOOK_S = 0.25


class Keeper:
    """Snapshots of the partitions that a process holds.

    Args:
        store: where they lie.
        live: the partitions that are caught up and served now; only these are cut.
        writes: whether this process writes any; one role set does, all read.
        settled: returns when what else was to be done about all records folded by now is done: whoever restores does not see them.
    """

    def __init__(
        self,
        store: SnapshotStore,
        live: Collection[int],
        *,
        writes: bool,
        settled: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store, self._live, self._writes, self._settled = store, live, writes, settled
        self._cutters: dict[int, Cutter] = {}
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="snapshots", daemon=True)
        self._thread.start()
        self._trouble: str | None = None
        self._began = time.monotonic()
        self.saved_at: float | None = None
        """Monotonic time of the last round of saving that went well."""
        self.saved = 0
        """Cuts kept so far."""

    # --- loading: called by whoever catches up, in a thread -----------------------------------------------------------

    def restore(self, folds: Iterable[PartitionFold]) -> dict[int, int]:
        """Put empty folds where their snapshots stand, as far as there are any.

        Never raises for want of a snapshot: what is not restored is folded from offset 0, and the process's log says why. Returns,
        of the restored, partition -> append time (ms) of the last record that is in: the caller compares it with its log.
        """
        times: dict[int, int] = {}
        within_reach = True
        for fold in folds:
            snapshot: PartitionSnapshot | None = None
            if within_reach:
                try:
                    snapshot = self._load(fold)
                except (SnapshotUnavailable, TimeoutError) as error:
                    within_reach = False
                    log.warning("no snapshots (%s): folding from offset 0", str(error) or "no answer in time")
            if snapshot is not None:
                times[fold.partition] = snapshot.last_append_ts
            if self._writes:
                since, ts = (None, 0) if snapshot is None else (snapshot.next_offset, snapshot.last_append_ts)
                self._cutters[fold.partition] = Cutter(fold, since, ts)
        return times

    def _load(self, fold: PartitionFold) -> PartitionSnapshot | None:
        try:
            snapshot = self._ask(self._store.load, fold.partition).result(LOAD_DEADLINE_S)
            if snapshot is not None:
                restore(fold, snapshot)
        except SnapshotUnusable as error:
            log.warning("%s: folding from offset 0", error)
            return None
        return snapshot

    def refuse(self, partition: int, why: str) -> None:
        """The log of a restored partition is not the one that the snapshot was made of: it is not gone on from, nor overwritten."""
        log.error("partition %d: %s; folding it from offset 0, and writing no snapshots of it", partition, why)
        self._cutters.pop(partition, None)

    # --- while records are folded -------------------------------------------------------------------------------------

    def before(self, partition: int, key: str, append_ts: int) -> None:
        """A record is about to be folded."""
        cutter = self._cutters.get(partition)
        if cutter is not None:
            cutter.before(key, append_ts)

    def pause(self) -> None:
        """A rebalance begins: folding may move to another thread, so cuts in the making are given up."""
        for cutter in list(self._cutters.values()):
            cutter.ended(None)

    def keep_only(self, partitions: Collection[int]) -> None:
        """Forget what belongs to another process now."""
        for partition in [p for p in self._cutters if p not in partitions]:
            self._cutters.pop(partition).ended(None)

    # --- saving -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Save when it is time, for the life of the process. The first failure of a kind is logged; retries come ever later."""
        pause, last = EVERY_S, time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            waited = time.monotonic() - last
            full = self._trouble is None and self.behind() >= EVERY_RECORDS
            if waited < pause and not full:
                continue
            went_well = await self.save()
            last = time.monotonic()
            pause = EVERY_S if went_well else min(LONGEST_PAUSE_S, pause * 2)

    async def save(self) -> bool:
        """One round: a snapshot of every live partition that moved on. False when the store could not be reached."""
        for partition, cutter in list(self._cutters.items()):
            if partition not in self._live or (cutter.behind == 0 and cutter.since is not None):
                continue
            try:
                await self._save_one(partition, cutter)
            except (SnapshotUnavailable, TimeoutError) as error:
                cutter.ended(None)
                said = str(error) or "no answer in time"
                if said != self._trouble:
                    log.warning("no snapshot was written, a restart will take longer: %s", said)
                self._trouble = said
                return False
        if self._trouble is not None:
            log.info("snapshots are written again")
        self._trouble, self.saved_at = None, time.monotonic()
        return True

    async def _save_one(self, partition: int, cutter: Cutter) -> None:
        for _ in range(2):  # a second time with all agents, where the store turned out to lack what the first builds on
            cutter.begin()
            while (cut := cutter.slice(SLICE_AGENTS)) is None:
                await asyncio.sleep(0)
                if not self._may_cut(partition, cutter):
                    return
            if self._settled is not None:
                await asyncio.wait_for(self._settled(), SAVE_DEADLINE_S)
            await failpoints.at("snapshot.cut", SnapshotUnavailable)
            saved = await asyncio.wait_for(asyncio.wrap_future(self._ask(self._store.save, cut)), SAVE_DEADLINE_S)
            await failpoints.at("snapshot.saved", SnapshotUnavailable)
            cutter.ended(saved)
            if saved is Saved.KEPT:
                self.saved += 1
            if saved is not Saved.GAP or not self._may_cut(partition, cutter):
                return

    def _may_cut(self, partition: int, cutter: Cutter) -> bool:
        """False once a rebalance began: `pause` has given the cut up."""
        return partition in self._live and self._cutters.get(partition) is cutter

    def status(self) -> dict[str, float | int | str | None]:
        """How snapshots stand: how old the last round is, what a restart would fold again, what keeps them from being written."""
        return {
            "age_s": None if self.saved_at is None else round(time.monotonic() - self.saved_at, 1),
            "behind": self.behind(),
            "saved": self.saved,
            "trouble": self._trouble,
        }

    def age_s(self) -> float | None:
        """Seconds since the last round of saving that went well, or since this process began; None where it writes none."""
        return time.monotonic() - (self.saved_at or self._began) if self._writes else None

    def behind(self) -> int:
        """Records folded since the last snapshots. Whoever restores adds cutters from a thread: look at a copy."""
        return sum(cutter.behind for cutter in list(self._cutters.values()))

    # --- the thread ---------------------------------------------------------------------------------------------------

    def close(self, deadline_s: float = 5.0) -> None:
        """Let the thread end; one that hangs in the database is left behind (it is a daemon)."""
        self._jobs.put(None)
        self._thread.join(deadline_s)

    def _ask(self, do: Callable[[A], T], what: A) -> Future[T]:
        """Have the thread do something. A caller that gave up (cancelled) before its turn is skipped."""
        answer: Future[T] = Future()

        def job() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(do(what))
            except BaseException as error:  # noqa: BLE001 - handed to whoever asked
                answer.set_exception(error)

        self._jobs.put(job)
        return answer

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
