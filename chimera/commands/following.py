"""The command service's fold: starts from snapshots where there are any, follows the log, remembers what commands were answered.

The rule not to break: who reads the log holds `lock`; states change under `folding` alone, so who reads states takes that and
asks no server while holding it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from chimera.commands.decision import Answer
from chimera.commands.keys import PARTITIONS
from chimera.errors import ChimeraError
from chimera.eventlog.lineage import of_another_log
from chimera.eventlog.partitioner import partition_for, place
from chimera.eventlog.read import Reader, end_offsets
from chimera.events.envelope import Record
from chimera.events.partition import PartitionFold
from chimera.events.records import Command, Data, EffectEnded
from chimera.events.state import Ruling
from chimera.snapshots.keeper import Keeper
from chimera.snapshots.memory import save_memory
from chimera.snapshots.state import SnapshotStore

log = logging.getLogger(__name__)

REMEMBERED = 20_000
"""Rulings of the latest command records that are kept by id, so that a command sent again is answered as it was the first time."""

Observer = Callable[[Record, Ruling], None]
Progress = Callable[[int, int], None]
"""Told (records folded, records there were to fold) while catching up."""


class Behind(ChimeraError):
    """The log did not come up to its own end in time."""


class _Remembered(NamedTuple):
    key: str
    ruling: Ruling
    place: tuple[int, int]


class Following:
    """Some partitions of the log, folded and followed. Its reader is for whoever holds `lock`.

    `observe` is called with every record and its ruling while folding. It misses what the snapshots hold: `whole` says whether
    they held anything.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        root_public: str,
        partitions: Iterable[int] | None,
        *,
        observe: Observer | None,
        snapshots: SnapshotStore | None,
        timeout_s: float,
    ) -> None:
        self.bootstrap, self.topic = bootstrap, topic
        self._root_public = root_public
        self._observe = observe
        self._snapshots = snapshots
        self._timeout_s = timeout_s
        self.folds = {p: self._new_fold(p) for p in sorted(set(range(PARTITIONS) if partitions is None else partitions))}
        self.last_append_ts = 0
        """Append time (ms) of the newest record that is in."""
        self.lock = threading.RLock()
        """Held by whoever reads the log, decides and appends; round trips to Kafka lie in it."""
        self.folding = threading.RLock()
        """Held while states change, for microseconds; taken after `lock`, never before it."""
        self._reader: Reader | None = None
        self.caught_up = False
        """Was the log's end reached at least once?"""
        self.whole = True
        """Was everything folded from offset 0, so that an observer has seen all there is?"""
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._ruled: dict[tuple[int, int], Ruling] = {}
        self._wanted: set[tuple[int, int]] = set()
        self._clock_ahead_ms: float | None = None

    def fold_of(self, key: str) -> PartitionFold:
        """The fold that a stream lies in."""
        partition = partition_for(key, PARTITIONS)
        fold = self.folds.get(partition)
        if fold is None:
            raise ValueError(f"this command service does not follow partition {partition}, where {key} lives")
        return fold

    @property
    def offsets(self) -> dict[int, int]:
        """Per partition the offset of the next record to fold."""
        return {partition: fold.next_offset for partition, fold in self.folds.items()}

    # --- reading: the caller holds `lock` ----------------------------------------------------------------------------

    def catch_up(self, progress: Progress | None = None) -> int:
        """Fold everything up to the log's end as it is now; returns how many records that was. Raises `Behind`."""
        first = self._reader is None
        self._begin()
        count = self.reach(end_offsets(self.bootstrap, self.topic, list(self.folds)), progress)
        if first:
            with self.folding:
                save_memory()
        self.caught_up = True
        return count

    def reach(self, ends: Mapping[int, int], progress: Progress | None = None) -> int:
        """Fold until each partition of `ends` has come to that offset; returns how many records that was. Raises `Behind`."""
        deadline, count = time.monotonic() + self._timeout_s, 0
        total = sum(max(0, end - self.folds[p].next_offset) for p, end in ends.items())
        while any(self.folds[p].next_offset < end for p, end in ends.items()):
            came = self.take(0.2)
            count += came
            if progress is not None:
                progress(min(count, total), total)
            if came:
                deadline = time.monotonic() + self._timeout_s
            elif time.monotonic() > deadline:
                behind = {p: (self.folds[p].next_offset, end) for p, end in ends.items() if self.folds[p].next_offset < end}
                raise Behind(f"no record of {self.topic} for {self._timeout_s} s with (position, end) {behind}: is Kafka up?")
        return count

    def drain(self) -> None:
        """Fold what has arrived, without waiting for more."""
        came = self.take(0)
        while came:
            came = self.take(0)

    def take(self, timeout_s: float) -> int:
        """Fold what comes within `timeout_s`; returns how many records came first."""
        batch = self._begin().read(5000, timeout_s)
        with self.folding:
            for raw in batch:
                record, ruling = self.folds[raw.partition].apply(raw)
                place_ = (raw.partition, raw.offset)
                if place_ in self._wanted:
                    self._ruled[place_] = ruling
                if ruling.outcome != "void" and _is_command(record.data):
                    self._remembered[record.id] = _Remembered(record.key, ruling, place_)
                    if len(self._remembered) > REMEMBERED:
                        self._remembered.popitem(last=False)
                if self._observe is not None:
                    self._observe(record, ruling)
        if batch:
            self._saw(max(raw.append_ts for raw in batch))
        return len(batch)

    def rulings(self, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Ruling]:
        """Fold until the records at these places are ruled, or no record comes; the rulings of those that are."""
        self._wanted.update(places)
        ends: dict[int, int] = {}
        for partition, offset in self._wanted:
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        try:
            self.reach(ends)
        except Behind as error:
            log.warning("%s", error)
        finally:
            found, self._ruled = self._ruled, {}
            self._wanted.clear()
        return found

    # --- remembering -------------------------------------------------------------------------------------------------

    def answered(self, key: str, id_: str) -> Answer | None:
        """The answer to the command of that id where its record is folded already, else None. The caller holds `folding`."""
        known = self._remembered.get(id_)
        if known is not None and known.key == key:
            reason = known.ruling.reason or "applied before"
            return Answer(key, id_, known.ruling.outcome, reason, known.ruling.version, known.place)
        state = self.fold_of(key).state(key)
        if state is not None and id_ in state.recent:
            return Answer(key, id_, "applied", "applied before", state.version)
        return None

    def now_ms(self) -> int:
        """Broker time now, for `not_after`: the folded lower bound, or this machine's clock where that is later.

        The bound alone would lie in the past when all that was folded is old.
        """
        bound = 0.0 if self._clock_ahead_ms is None else self._clock_ahead_ms + time.monotonic() * 1000
        return int(max(bound, time.time() * 1000))

    def close(self) -> None:
        """Let the connections go."""
        if self._reader is not None:
            self._reader.close()

    # --- beginning ---------------------------------------------------------------------------------------------------

    def _begin(self) -> Reader:
        """The reader; the first call restores what there are snapshots of, and reads from there on."""
        if self._reader is None:
            with self.folding:
                if self._snapshots is not None:
                    self._restore(self._snapshots)
                    self._snapshots = None
                self._reader = Reader(self.bootstrap, self.topic, self.offsets, client_id="chimera-command", gather_when_busy=True)
        return self._reader

    def _restore(self, store: SnapshotStore) -> None:
        keeper = Keeper(store, (), writes=False)
        try:
            times = keeper.restore(self.folds.values())
        finally:
            keeper.close()
        ends = end_offsets(self.bootstrap, self.topic, list(self.folds))
        at = {p: self.folds[p].next_offset for p in times}
        for partition, why in of_another_log(self.bootstrap, self.topic, at, times, ends).items():
            log.error("partition %d: %s; folding it from offset 0", partition, why)
            self.folds[partition] = self._new_fold(partition)
            del times[partition]
        self.whole = not any(fold.next_offset for fold in self.folds.values())
        if any(times.values()):
            self._saw(max(times.values()))
        if times:
            log.info(
                "%d of %d partitions restored from snapshots, %d records", len(times), len(self.folds), sum(self.offsets.values())
            )

    def _new_fold(self, partition: int) -> PartitionFold:
        return PartitionFold(partition, PARTITIONS, self._root_public, place)

    def _saw(self, append_ts: int) -> None:
        self.last_append_ts = max(self.last_append_ts, append_ts)
        ahead = append_ts - time.monotonic() * 1000
        self._clock_ahead_ms = ahead if self._clock_ahead_ms is None else max(self._clock_ahead_ms, ahead)


def takes_number(data: Data) -> bool:
    """Records of the command service that are neither vote nor copy are numbered (law, rule 1)."""
    return isinstance(data, Command) or (isinstance(data, EffectEnded) and data.proof is not None)


def _is_command(data: Data | None) -> bool:
    return data is not None and (data.ROLE == "command" or takes_number(data))
