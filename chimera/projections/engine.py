"""The projector: batches of the log -> fold -> rows of every model -> one transaction with the checkpoints.

The rule not to break: the folded state is never ahead of what will be written. A batch that was folded is written, or its
partition stops; nothing is skipped.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.eventlog.read import PORTION, CheckpointAhead, Reader, end_offsets
from chimera.eventlog.topics import KafkaUnavailable
from chimera.events.partition import PartitionFold, UnknownLaw
from chimera.events.raw import RawRecord
from chimera.projections.batch import Stretch
from chimera.projections.checkpoints import LOG, MODEL_SET, checkpoints, connect, note_stopped, open_checkpoints, seek
from chimera.projections.cuts import Cuts
from chimera.projections.folding import closed, entries_for, extend, new_fold, project
from chimera.projections.leases import Leases
from chimera.projections.pace import Pace
from chimera.projections.parking import TooManyRefused
from chimera.projections.waiting import Patient, Stopped
from chimera.projections.write import REFUSED, Connection, Disagreement, Moved, write

__all__ = [
    "LOG",
    "MODEL_SET",
    "Progress",
    "Projector",
    "Stopped",
    "Unreadable",
    "catch_up",
    "checkpoints",
    "connect",
    "entries_for",
    "new_fold",
    "open_checkpoints",
    "project",
]

log = logging.getLogger(__name__)

RENEW_S = 1.0
BATCH = 5_000
"""Records per transaction while catching up; a live batch is what has arrived."""


class Unreadable(ChimeraError):
    """The log holds a law that this code does not have."""


@dataclass
class Progress:
    """What a projector has done so far; read by whoever reports health."""

    folded: int = 0
    written: int = 0
    transactions: int = 0
    parked: int = 0
    """Pairs of model and stream that this projector parked."""
    stopped: dict[int, str] = field(default_factory=dict)
    """Partition -> why it stands still."""
    waiting_for: str = ""
    """What the projector is waiting for just now ('' = nothing)."""


class Projector:
    """Projects some partitions of `chimera.log` into one schema. For one thread.

    Args:
        bootstrap, dsn: where log and read models are.
        root_public: the installation's root public key (base64), which the law must be signed by.
        schema, model_set: where rows and checkpoints go.
        partitions: which ones (all when None).
        share: take a fair share of them by leases; other projectors of the same tables have the rest.
        cuts: where the fold is taken up after a restart; without them it begins at offset 0.
        keeps: what each model made of each record is kept until it is written. Without, whatever folds or writes raises `NotKept`
            where a row is refused or held back, and who called starts over from the checkpoints with a projector that keeps.
        bulk: transactions are of thousands of records that are in the log already: none is begun before it is full (or nothing came
            for `step`'s timeout), and PostgreSQL joins tables as it sees fit, instead of looking up row by row.
    """

    def __init__(
        self,
        bootstrap: str,
        dsn: str,
        root_public: str,
        *,
        schema: str = "core",
        model_set: str = MODEL_SET,
        topic: str = LOG,
        partitions: Iterable[int] | None = None,
        share: bool = False,
        stop: threading.Event | None = None,
        cuts: Cuts | None = None,
        keeps: bool = True,
        bulk: bool = False,
    ) -> None:
        self.bootstrap, self.dsn, self.root_public = bootstrap, dsn, root_public
        self.schema, self.model_set, self.topic = schema, model_set, topic
        self.progress = Progress()
        self._stop = stop or threading.Event()
        self._wanted = None if partitions is None else sorted(partitions)
        self._share = share
        self._cuts = cuts
        self._keeps, self._bulk = keeps, bulk
        self._leases: Leases | None = None
        self._renew_at = 0.0
        self._pace = Pace()
        self._live = True
        self._count = 0
        self._database = Patient(dsn, self._stop, self._tell, self._prepare)
        self._reader: Reader | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="projector-write")
        self._writing: Future[None] | None = None
        self._folds: dict[int, PartitionFold] = {}
        self._open: dict[int, Stretch] = {}
        """Partition -> what was folded and not yet handed over to be written."""
        self._write_from: dict[int, int] = {}

    @property
    def positions(self) -> Mapping[int, int]:
        """Partition -> next offset to be written; as it was after the last transaction."""
        return dict(self._write_from)

    @property
    def folded(self) -> Mapping[int, int]:
        """Partition -> next offset to be folded: where reading goes on."""
        return {p: fold.next_offset for p, fold in self._folds.items()}

    def open(self, *, live: bool = True) -> None:
        """Read the checkpoints and prepare to fold up to them; not `live`: records come by `take` alone, from `folded` on.

        Raises `CheckpointAhead` where the log ends before a checkpoint.
        """
        self._live = live
        ends = end_offsets(self.bootstrap, self.topic)
        self._count = len(ends)
        wanted = self._wanted if self._wanted is not None else sorted(ends)
        if self._share:
            self._leases = self._leases or Leases(f"{self.schema} {self.model_set} {self.topic}", wanted)
            self._renew_at = 0.0
            self._renew(ends)
            return
        self._begin(wanted, ends)
        if live:
            self._read()

    def _begin(self, wanted: Iterable[int], ends: Mapping[int, int]) -> None:
        """Prepare to fold these partitions, from their cuts or from 0, and to write them from their checkpoints on."""
        found = self._database.do(lambda connection: open_checkpoints(connection, self.schema, self.model_set, self.topic, wanted))
        for partition, offset in found.items():
            if offset > ends[partition]:
                raise CheckpointAhead(self.topic, partition, offset, ends[partition])
        for partition, offset in found.items():
            self._write_from[partition] = offset
            self._folds[partition] = new_fold(partition, self._count, self.root_public)
        if self._cuts is not None:
            self._folds |= self._cuts.restore(
                {p: self._folds[p] for p in found}, found, ends, lambda p: new_fold(p, self._count, self.root_public)
            )

    def _read(self) -> None:
        """Read on where each partition is folded up to."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._folds:
            start = {p: fold.next_offset for p, fold in self._folds.items()}
            gather = not self._bulk
            self._reader = Reader(self.bootstrap, self.topic, start, client_id="chimera-projector", gather_when_busy=gather)

    def _renew(self, ends: Mapping[int, int] | None = None) -> None:
        """Once a second, between two transactions: what is leased now is what is folded and written."""
        assert self._leases is not None
        if time.monotonic() < self._renew_at:
            return
        self.flush()
        held: set[int] = self._database.do(self._leases.renew)
        self._renew_at = time.monotonic() + RENEW_S
        self._look_for_lost(held)
        if held == self._folds.keys():
            return
        failpoints.here("projector.leased")
        log.info("holds %d of %d partitions: %s", len(held), self._count, sorted(held))
        for partition in self._folds.keys() - held:
            del self._folds[partition], self._write_from[partition]
            if self._cuts is not None:
                self._cuts.release(partition)
            self.progress.stopped.pop(partition, None)
        gained = held - self._folds.keys()
        if gained:
            self._begin(gained, ends or end_offsets(self.bootstrap, self.topic, gained))
        self._read()

    def _look_for_lost(self, held: set[int]) -> None:
        """On a new connection: a server that was killed forgets its last commits, which were not waited for. Where no record
        follows, nothing else would ever tell.

        Raises `Moved`.
        """
        if not self._database.new:
            return
        now = self._database.do(lambda connection: checkpoints(connection, self.schema, self.model_set, self.topic))
        self._database.new = False
        lost = {p: (at, now.get(p, 0)) for p, at in self._write_from.items() if p in held and now.get(p, 0) < at}
        if lost:
            raise Moved(f"the database came back without what was written last (partition: written, there): {lost}")

    def step(self, max_records: int = BATCH, timeout_s: float = 0.25) -> int:
        """Read, fold and write one batch; how many records were read. Raises `ReadFailed`, `LogHole`, `Unreadable`, `Moved`."""
        if self._count == 0 or (self._reader is None and self._leases is None):
            self.open()
        if self._leases is not None:
            self._renew()
        if self._reader is None:  # others have all partitions
            self._stop.wait(timeout_s)
            return 0
        done = 0
        raws = self._reader.read(min(PORTION, max_records), timeout_s)
        while raws:
            failpoints.here("projector.read")
            self._fold(raws)
            done += len(raws)
            if done >= max_records or (len(raws) < PORTION and not self._waited(done)):
                break
            raws = self._reader.read(min(PORTION, max_records - done), timeout_s if self._bulk else 0)
        if done:
            self._pace.begins(done, time.monotonic())
            self._hand_over()
        else:
            self.flush()
        if self._cuts is not None:
            self._cuts.go_on(self._folds, self._write_from)
        return done

    def _waited(self, done: int) -> bool:
        """After `done` records, which are all that is there: wait until more may be. False where they are to be written now."""
        if self._bulk:  # the rest is on its way, and reading waits for it
            return True
        wait = self._pace.wait_s(done, time.monotonic())
        return wait > 0 and not self._stop.wait(wait)

    def take(self, raws: list[RawRecord], at_once: int = 1) -> None:
        """Fold records that were read in order, and hand what was folded to be written where it is `at_once` records or more.

        They are written while the caller reads on: `flush` waits. Raises what the write before this one raised.
        """
        self._fold(raws)
        if sum(stretch.records for stretch in self._open.values()) >= at_once:
            self._hand_over()

    def _fold(self, raws: list[RawRecord]) -> None:
        by_partition: dict[int, list[RawRecord]] = {}
        for raw in raws:
            by_partition.setdefault(raw.partition, []).append(raw)
        for partition, own in by_partition.items():
            if partition in self.progress.stopped:
                continue
            try:
                tell = None if self._cuts is None else self._cuts.before(partition)
                fold, write_from = self._folds[partition], self._write_from[partition]
                stretch = extend(self._open.get(partition), fold, own, write_from, tell, kept=self._keeps)
            except UnknownLaw as error:
                raise Unreadable(str(error)) from error
            self.progress.folded += len(own)
            if stretch is not None:
                self._open[partition] = stretch

    def _hand_over(self) -> None:
        """What was folded is written in one transaction, as soon as the one before is."""
        stretches = [closed(stretch, self._folds[partition]) for partition, stretch in self._open.items()]
        self._open = {}
        failpoints.here("projector.folded")
        self._await_write()
        live = sorted((s for s in stretches if s.partition not in self.progress.stopped), key=lambda s: s.partition)
        if live:
            self._writing = self._writer.submit(self._write, live)

    def flush(self) -> None:
        """Wait until everything taken is written. Raises `Moved`, `Stopped`, and what Postgres raises that waiting cannot heal."""
        if self._open:
            self._hand_over()
        self._await_write()

    def _await_write(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def save_cuts(self) -> None:
        """Write what was taken, then save the fold as it stands: who projects these tables next goes on from here."""
        self.flush()
        if self._cuts is not None and not self.progress.stopped:
            self._cuts.save_all(self._folds)

    def run(self) -> None:
        """Project until told to stop. Starts over where another projector's writes crossed this one's, and where Kafka did not
        answer when partitions were taken over anew.
        """
        while not self._stop.is_set():
            try:
                self.step()
            except (Moved, KafkaUnavailable) as error:
                log.warning("%s; starting over from the checkpoints", error)
                self._reset()
                self._stop.wait(1.0 + random.random())

    def close(self) -> None:
        """Let connections go; what was not written will be folded again."""
        self._reset()
        self._writer.shutdown()
        self._database.close()

    def _tell(self, waits_for: str) -> None:
        self.progress.waiting_for = waits_for

    def _prepare(self, connection: Connection) -> None:
        if self._live and not self._bulk:
            seek(connection)

    # --- writing ---

    def _write(self, stretches: list[Stretch], *, search: bool = False) -> None:
        """All in one transaction; a partition that cannot be written stops, and the others are written without it."""
        try:
            found = self._database.do(lambda connection: write(connection, self.schema, self.model_set, stretches, search=search))
        except (Disagreement, TooManyRefused, *REFUSED) as error:
            if len(stretches) > 1:
                for stretch in stretches:  # one by one: this finds out whose fault it is
                    self._write([stretch])
            elif search or isinstance(error, Disagreement | TooManyRefused):
                self._halt(stretches[0], error)
            elif isinstance(error, psycopg.DataError) and not stretches[0].careful:
                stretches[0].make_careful()
                self._write(stretches)
            else:
                self._write(stretches, search=True)
            return
        except Moved as error:
            if not self._caught_up(stretches):
                raise
            log.warning("%s; it wrote what this one was about to write", error)
            return
        for entry, reason in found.added:
            log.error(
                "parked %s of %s from %s[%d]%d on: %s", entry.model, entry.stream, self.topic, entry.partition, entry.offset, reason
            )
        self.progress.parked += len(found.added)
        self.progress.transactions += 1
        for stretch in stretches:
            self._write_from[stretch.partition] = stretch.end
            self.progress.written += stretch.records

    def _caught_up(self, stretches: list[Stretch]) -> bool:
        """Re-read the checkpoints. True where they are at or past the end of every stretch: then this state is still good,
        and rows begin at the new checkpoint.
        """
        now = self._database.do(lambda connection: checkpoints(connection, self.schema, self.model_set, self.topic))
        if any(now[s.partition] != s.start and now[s.partition] < s.end for s in stretches):
            return False
        left = [s for s in stretches if now[s.partition] == s.start]
        for stretch in stretches:
            self._write_from[stretch.partition] = now[stretch.partition]
        if left:
            self._write(left)
        return True

    def _halt(self, stretch: Stretch, error: Exception) -> None:
        text = str(error).splitlines()[0]
        reason = (
            text
            if isinstance(error, Disagreement)
            else f"partition {stretch.partition}: offsets {stretch.start} to {stretch.end - 1}: {text}"
        )
        log.error("stopped: %s", reason)
        self.progress.stopped[stretch.partition] = reason
        place = (self.schema, self.model_set, self.topic, stretch.partition)
        self._database.do(lambda connection: note_stopped(connection, *place, reason))

    def _reset(self) -> None:
        if self._writing is not None:
            with contextlib.suppress(ChimeraError, psycopg.Error):  # it was not written: the checkpoints say so
                self._await_write()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._open = {}
        self._folds, self._write_from, self._count = {}, {}, 0
        if self._cuts is not None:
            self._cuts.release_all()


def catch_up(projector: Projector, until: Mapping[int, int], *, no_progress_s: float = 30.0) -> None:
    """Step until every partition is written up to `until`, or stopped.

    Raises `ChimeraError` when nothing moves for `no_progress_s`.
    """
    if projector.positions == {}:
        projector.open()
    deadline = time.monotonic() + no_progress_s
    while True:
        positions = projector.positions
        behind = {p: o for p, o in until.items() if p not in projector.progress.stopped and positions.get(p, 0) < o}
        if not behind:
            return
        if projector.step(timeout_s=0.1):
            deadline = time.monotonic() + no_progress_s
        elif time.monotonic() > deadline:
            at = {p: positions.get(p, 0) for p in behind}
            raise ChimeraError(
                f"projection of {projector.topic} stands at {at} though {behind} is due: is Kafka up? (`chimera status`)"
            )
