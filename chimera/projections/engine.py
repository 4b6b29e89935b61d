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
from typing import Any

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import CheckpointAhead, Reader, end_offsets
from chimera.events.envelope import Record
from chimera.events.partition import PartitionFold, UnknownLaw
from chimera.events.raw import RawRecord
from chimera.events.state import Agent, Ruling
from chimera.events.tenant import Tenant
from chimera.projections.ahead import Read, read_ahead
from chimera.projections.batch import Entry, Stretch, Touched, agent_row
from chimera.projections.leases import Leases
from chimera.projections.models import models_for
from chimera.projections.parking import TooManyRefused, reason_of
from chimera.projections.rows import Model, clipped
from chimera.projections.write import REFUSED, Connection, Disagreement, Moved, write

log = logging.getLogger(__name__)

LOG = "chimera.log"
RENEW_S = 1.0
MODEL_SET = "core"
BATCH = 5_000
"""Records per transaction while catching up; a live batch is what has arrived."""


class Unreadable(ChimeraError):
    """The log holds a law that this code does not have."""


def new_fold(partition: int, partitions: int, root_public: str) -> PartitionFold:
    """An empty fold of one partition, as every reader of this room makes it."""
    return PartitionFold(partition, partitions, root_public, place)


def entries_for(models: Iterable[Model], record: Record, ruling: Ruling, state: Agent | Tenant | None) -> list[Entry]:
    """What these models make of one record; a model that fails says so in its entry, and the others go on."""
    stream, partition, offset = clipped(record.key), record.partition, record.offset
    found: list[Entry] = []
    for model in models:
        try:
            rows, error = model.rows(record, ruling, state), ""
        except Exception as raised:  # noqa: BLE001  # whatever it is: the entry names it, and its pair is parked
            rows, error = [], reason_of(raised)
        if rows or error:
            found.append(Entry(model.name, stream, partition, offset, rows, error))
    return found


def project(fold: PartitionFold, raws: Iterable[RawRecord], write_from: int, read: Read | None = None) -> Stretch | None:
    """Fold consecutive records of one partition; rows for those at `write_from` and later. None if there are no such.

    `read` decodes and verifies (`fold.read` when None; see `chimera.projections.ahead`). Raises `UnknownLaw`.
    """
    read = read or fold.read
    stretch: Stretch | None = None
    moved: dict[str, tuple[int | None, RawRecord]] = {}
    for raw in raws:
        record, ruling = fold.rule(read(raw))
        if raw.offset < write_from:
            continue
        if stretch is None:
            stretch = Stretch(raw.topic, raw.partition, raw.offset, raw.offset)
        agent = fold.agents.get(record.key)
        stretch.entries.extend(entries_for(models_for(record, ruling), record, ruling, fold.state(record.key)))
        if agent is not None and (ruling.outcome != "void" or ruling.changes):
            seen = moved.get(record.key)
            enrolled = ruling.outcome == "applied" and record.type == "AgentEnrolled"
            moved[record.key] = (seen[0] if seen is not None else None if enrolled else ruling.version_before, raw)
        if ruling.reason == "unreadable":
            stretch.unreadable += 1
        elif ruling.reason == "unknown_type":
            stretch.unknown_types += 1
        stretch.end = raw.offset + 1
        stretch.last_append_ts = raw.append_ts
        stretch.records += 1
    if stretch is not None:
        stretch.law = fold.law.number
        for key, (before, last) in moved.items():  # now: the next stretch moves the same agents on while this one is written
            stretch.touched[key] = Touched(before, agent_row(fold.agents[key], stretch.partition, last.offset, last.append_ts))
    return stretch


def connect(dsn: str) -> Connection:
    """A connection of the projector's kind. Commits need not wait for the disk: rows and checkpoint are lost or kept together."""
    connection = psycopg.connect(dsn, autocommit=True, connect_timeout=5, application_name="chimera projector")
    connection.execute("SET synchronous_commit TO off")
    connection.execute("SET timezone TO 'UTC'")
    # A machine that vanished without a word must not hold its leases for hours.
    connection.execute("SET tcp_keepalives_idle TO 10; SET tcp_keepalives_interval TO 5; SET tcp_keepalives_count TO 3")
    return connection


def checkpoints(connection: Connection, schema: str, model_set: str, topic: str) -> dict[int, int]:
    """Partition -> next offset to write."""
    rows = connection.execute(
        sql.SQL("SELECT partition, next_offset FROM {} WHERE model_set = %s AND topic = %s").format(
            sql.Identifier(schema, "checkpoints")
        ),
        (model_set, topic),
    ).fetchall()
    return {int(p): int(n) for p, n in rows}


def open_checkpoints(connection: Connection, schema: str, model_set: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The checkpoints of these partitions, made at 0 where they are missing."""
    wanted = sorted(partitions)
    connection.execute(
        sql.SQL(
            "INSERT INTO {} (model_set, topic, partition, next_offset, law) SELECT %s, %s, p, 0, 1 FROM unnest(%s::smallint[]) p"
            " ON CONFLICT DO NOTHING"
        ).format(sql.Identifier(schema, "checkpoints")),
        (model_set, topic, wanted),
    )
    found = checkpoints(connection, schema, model_set, topic)
    return {p: found[p] for p in wanted}


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
    ) -> None:
        self.bootstrap, self.dsn, self.root_public = bootstrap, dsn, root_public
        self.schema, self.model_set, self.topic = schema, model_set, topic
        self.progress = Progress()
        self._stop = stop or threading.Event()
        self._wanted = None if partitions is None else sorted(partitions)
        self._share = share
        self._leases: Leases | None = None
        self._renew_at = 0.0
        self._count = 0
        self._connection: Connection | None = None
        self._reader: Reader | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="projector-write")
        self._verifier = ThreadPoolExecutor(1, thread_name_prefix="projector-verify")
        self._writing: Future[None] | None = None
        self._folds: dict[int, PartitionFold] = {}
        self._write_from: dict[int, int] = {}

    @property
    def positions(self) -> Mapping[int, int]:
        """Partition -> next offset to be written; as it was after the last transaction."""
        return dict(self._write_from)

    def open(self, *, live: bool = True) -> None:
        """Read the checkpoints and prepare to fold from 0; not `live`: records come by `take` alone.

        Raises `CheckpointAhead` where the log ends before a checkpoint.
        """
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
        """Prepare to fold these partitions from 0 and to write them from their checkpoints on."""
        found = self._patiently(lambda connection: open_checkpoints(connection, self.schema, self.model_set, self.topic, wanted))
        for partition, offset in found.items():
            if offset > ends[partition]:
                raise CheckpointAhead(self.topic, partition, offset, ends[partition])
        for partition, offset in found.items():
            self._write_from[partition] = offset
            self._folds[partition] = new_fold(partition, self._count, self.root_public)

    def _read(self) -> None:
        """Read on where each partition is folded up to."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._folds:
            start = {p: fold.next_offset for p, fold in self._folds.items()}
            self._reader = Reader(self.bootstrap, self.topic, start, client_id="chimera-projector")

    def _renew(self, ends: Mapping[int, int] | None = None) -> None:
        """Once a second, between two transactions: what is leased now is what is folded and written."""
        assert self._leases is not None
        if time.monotonic() < self._renew_at:
            return
        self.flush()
        held: set[int] = self._patiently(self._leases.renew)
        self._renew_at = time.monotonic() + RENEW_S
        if held == self._folds.keys():
            return
        log.info("holds %d of %d partitions: %s", len(held), self._count, sorted(held))
        for partition in self._folds.keys() - held:
            del self._folds[partition], self._write_from[partition]
            self.progress.stopped.pop(partition, None)
        gained = held - self._folds.keys()
        if gained:
            self._begin(gained, ends or end_offsets(self.bootstrap, self.topic, gained))
        self._read()

    def step(self, max_records: int = BATCH, timeout_s: float = 0.25) -> int:
        """Read, fold and write one batch; how many records were read. Raises `ReadFailed`, `LogHole`, `Unreadable`."""
        if self._count == 0 or (self._reader is None and self._leases is None):
            self.open()
        if self._leases is not None:
            self._renew()
        if self._reader is None:  # others have all partitions
            self._stop.wait(timeout_s)
            return 0
        raws = self._reader.read(max_records, timeout_s)
        if raws:
            self.take(raws)
        else:
            self.flush()
        return len(raws)

    def take(self, raws: list[RawRecord]) -> None:
        """Fold records that were read in order and hand their rows to be written, while the caller reads on.

        Raises what the write before this one raised; `flush` waits for this one.
        """
        by_partition: dict[int, list[RawRecord]] = {}
        for raw in raws:
            by_partition.setdefault(raw.partition, []).append(raw)
        stretches: list[Stretch] = []
        going = {p: own for p, own in by_partition.items() if p not in self.progress.stopped}
        reads = {p: read_ahead(self._folds[p], own, self._verifier) for p, own in going.items()}
        for partition, own in going.items():
            try:
                stretch = project(self._folds[partition], own, self._write_from[partition], reads[partition])
            except UnknownLaw as error:
                raise Unreadable(str(error)) from error
            self.progress.folded += len(own)
            if stretch is not None:
                stretches.append(stretch)
        self.flush()
        live = sorted((s for s in stretches if s.partition not in self.progress.stopped), key=lambda s: s.partition)
        if live:
            self._writing = self._writer.submit(self._write, live)

    def flush(self) -> None:
        """Wait until everything taken is written. Raises `Moved`, `Stopped`, and what Postgres raises that waiting cannot heal."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def run(self) -> None:
        """Project until told to stop. Starts over from 0 where another projector's writes crossed this one's."""
        while not self._stop.is_set():
            try:
                self.step()
            except Moved as error:
                log.warning("%s; starting over from the checkpoints", error)
                self._reset()
                self._stop.wait(1.0 + random.random())

    def close(self) -> None:
        """Let connections go; what was not written will be folded again."""
        self._reset()
        self._writer.shutdown()
        self._verifier.shutdown(cancel_futures=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- writing ---

    def _write(self, stretches: list[Stretch], *, search: bool = False) -> None:
        """All in one transaction; a partition that cannot be written stops, and the others are written without it."""
        try:
            found = self._patiently(lambda connection: write(connection, self.schema, self.model_set, stretches, search=search))
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
        now = self._patiently(lambda connection: checkpoints(connection, self.schema, self.model_set, self.topic))
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
        self._patiently(
            lambda connection: connection.execute(
                sql.SQL("UPDATE {} SET stopped = %s WHERE model_set = %s AND topic = %s AND partition = %s").format(
                    sql.Identifier(self.schema, "checkpoints")
                ),
                (reason, self.model_set, self.topic, stretch.partition),
            )
        )

    def _patiently(self, work: Any) -> Any:
        """Do `work(connection)`; while Postgres is away, wait and try again (0.1 s, doubling to 5 s) until told to stop."""
        delay = 0.1
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(self.dsn)
                answer = work(self._connection)
                self.progress.waiting_for = ""
                return answer
            except psycopg.OperationalError as error:
                if (error.sqlstate or "").startswith("54"):  # a limit of Postgres, such as too long an index entry: not an outage
                    raise
                self.progress.waiting_for = f"Postgres: {str(error).splitlines()[0]}"
                log.warning("%s; trying again in %.1f s", self.progress.waiting_for, delay)
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                if self._stop.wait(delay):
                    raise Stopped("told to stop while waiting for Postgres; what was not written will be folded again") from error
                delay = min(delay * 2, 5.0)

    def _reset(self) -> None:
        if self._writing is not None:
            with contextlib.suppress(ChimeraError, psycopg.Error):  # it was not written: the checkpoints say so
                self.flush()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._folds, self._write_from, self._count = {}, {}, 0


class Stopped(ChimeraError):
    """The projector was told to stop before it could write."""


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
