"""Carrying a plan out: tables of their own, partitions loaded in parallel, indexes, then catching up beside the live read models.

The rule not to break: each step can be repeated. Whatever dies, `resume` looks at the state and the checkpoints and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import psycopg
from psycopg import sql

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.eventlog.topics import KafkaUnavailable
from chimera.projections import metrics, settling
from chimera.projections.checkpoints import open_checkpoints
from chimera.projections.parts import PARTED, home_of, parts
from chimera.projections.schema import CORE, migrate, take_indexes, take_references
from chimera.projections.write import Connection, Moved
from chimera.replay import builds, survey
from chimera.replay.builds import Build, Database
from chimera.replay.builds_follow import following
from chimera.replay.builds_hands import RESTARTS, Hands, Idle, jobs_of
from chimera.replay.plan import Plan, Refused, check, total
from chimera.replay.survey import Where
from chimera.snapshots.state import SnapshotUnavailable

POLL_S = 0.25
STANDS_S = 10.0
"""Live read models that have not moved for so long are not being caught up: nobody gains by waiting for them."""


class Paused(ChimeraError):
    """Somebody asked for it; what was done is kept."""


class Cancelled(ChimeraError):
    """Somebody asked for it; what was done is dropped."""


class Pacing(NamedTuple):
    """How hard to go at it."""

    processes: int = 1
    max_rate: float = 0.0
    """Records per second over all processes; 0 = as fast as it goes."""
    yield_at: int = 5_000
    """Hold while the live read models are so many records behind and moving; 0 = never."""
    max_lag: int = 1_000
    """Ready when at most so many records are missing."""


class Tally(NamedTuple):
    """How far a build is."""

    step: str
    done: int
    total: int
    rate: float
    """Records per second since this start."""
    held: str

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left at this rate."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


Tell = Callable[[Tally], None]


def carry_out(where: Where, build: int, pacing: Pacing, tell: Tell = lambda _: None) -> None:
    """From whatever state the build is in to ready. Raises `Refused`, `Paused`, `Cancelled`, `ChimeraError`."""
    with builds.working(where.dsn, build) as database:
        found = database.do(lambda c: builds.get(c, build))
        if found.state not in ("planned", "loading", "indexing", "ready"):
            raise Refused(f"build {build} is {found.state}: there is nothing left to apply (`chimera replay status`)")
        plan = found.planned()

        def begin(connection: Connection) -> None:
            # What is written already needs no room any more.
            written = survey.size_of(connection, found.schema) + survey.size_of(connection, home_of(found.schema))
            check(plan._replace(bytes=max(0, plan.bytes - written)), survey.facts(connection, where))
            builds.change(connection, build, wanted=None, error="", held="")

        database.do(begin)
        try:
            planned = found.state == "planned"
            with Idle(len(jobs_of(where, build, plan, pacing.processes, {}, 0.0)) if planned else 0) as idle:
                if planned:
                    database.do(lambda c: prepare(c, where, found))
                _Running(database, where, build, plan, pacing, tell, idle).go()
        except (Paused, Refused):
            raise
        except Cancelled:
            database.do(lambda c: builds.drop_tables(c, found))
            raise
        except (ChimeraError, psycopg.Error) as error:
            why = str(error).strip().splitlines()[0]
            database.do(lambda c: builds.change(c, build, error=why))
            raise ChimeraError(
                f"build {build} stopped: {why}. `chimera replay resume {build}` goes on when that is mended"
            ) from error


def prepare(connection: Connection, where: Where, build: Build, *, guarded: bool = False) -> None:
    """Empty tables in the build's own schema; indexes that only readers need wait. What was discarded stays out here as well.

    References wait too: looking up each row's takes a quarter of what PostgreSQL does for a load. Where rows are missing that
    others would refer to (parked or discarded ones), or where `guarded` asks for it, they stay: a refused row is how a model parks.
    """
    builds.drop_tables(connection, build)  # of a start that was cut short
    builds.change(connection, build.id, state="planned")
    migrate(where.dsn, build.schema, analytics=False)
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(home_of(build.schema))))
        connection.execute(
            sql.SQL("INSERT INTO {} SELECT * FROM {}").format(
                sql.Identifier(build.schema, "discarded"), sql.Identifier(CORE, "discarded")
            )
        )
        for topic, model_set in where.topics.items():
            open_checkpoints(connection, build.schema, model_set, topic, build.planned().ends[topic])
        failpoints.here("build.prepared", psycopg.OperationalError)
        later = take_indexes(connection, build.schema)
        if not guarded and not _lacks_rows(connection):
            later += take_references(connection, build.schema)
        builds.change(connection, build.id, state="loading", indexes=later)


def _lacks_rows(connection: Connection) -> bool:
    """Whether the live read models had to leave rows out."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {}) OR EXISTS (SELECT FROM {})")
    tables = (sql.Identifier(CORE, "parked"), sql.Identifier(CORE, "discarded"))
    row = connection.execute(query.format(*tables)).fetchone()
    return row is not None and bool(row[0])


class _Running:
    """One run of a build, in the process that was asked for it."""

    def __init__(
        self, database: Database, where: Where, build: int, plan: Plan, pacing: Pacing, tell: Tell, idle: Idle | None = None
    ) -> None:
        self.database, self.where, self.build, self.plan, self.pacing, self.tell = database, where, build, plan, pacing, tell
        self.idle = idle or Idle()
        self._live: tuple[int, float] = (-1, 0.0)

    def go(self) -> None:
        if self._now().state == "loading":
            self._load()
        if self._now().state == "indexing":
            try:
                self._index()
            except psycopg.errors.ForeignKeyViolation as error:
                self._load_guarded(error)
        self._catch_up()

    def _now(self) -> Build:
        return self.database.do(lambda c: builds.get(c, self.build))

    def _written(self) -> dict[str, dict[int, int]]:
        schema = f"build_{self.build}"
        return self.database.do(lambda c: survey.written(c, self.where, schema))

    # --- load ---

    def _load(self) -> None:
        """Until the database says that everything is there: one that crashed has lost its last transactions."""
        ends, first = self.plan.ends, _done(self.plan.ends, self._written())
        began, most, vain = time.monotonic(), -1, 0
        while (done := _done(ends, self._written())) < total(ends):
            vain = 0 if done > most else vain + 1
            if vain > RESTARTS:
                raise ChimeraError(f"the load ended {total(ends) - done} records before its aim, {vain} times without getting on")
            most = max(most, done)
            self._load_once(began, first)
        seconds, loaded = max(0.001, time.monotonic() - began), total(ends) - first
        self.tell(Tally("loading", total(ends), total(ends), loaded / seconds, ""))
        processes = self.pacing.processes

        def note(connection: Connection) -> None:
            with connection.transaction():
                builds.change(connection, self.build, state="indexing", held="")
                builds.note(
                    connection, self.build, "loaded", "chimera", "", records=loaded, seconds=round(seconds, 1), processes=processes,
                    per_process_per_s=round(loaded / seconds / processes),
                )  # fmt: skip

        failpoints.here("build.loaded")
        self.database.do(note)

    def _load_once(self, began: float, first: int) -> None:
        rate = self.pacing.max_rate / self.pacing.processes
        hands = Hands(jobs_of(self.where, self.build, self.plan, self.pacing.processes, self._written(), rate), self.idle)
        try:
            while not hands.over(self._written):
                done, held = _done(self.plan.ends, self._written()), self._held()
                reached = (done - first) / max(0.001, time.monotonic() - began)
                self.tell(Tally("loading", done, total(self.plan.ends), reached, held))
                hands.pace(rate, bool(held))
                self._obey(hands)
                hands.wait(POLL_S)
        finally:
            hands.stop()

    def _held(self) -> str:
        """Why the load waits just now: the live read models are behind and on their way."""
        if self.pacing.yield_at <= 0:
            return ""
        live = self.database.do(lambda c: survey.written(c, self.where, CORE))
        done, now = total(live), time.monotonic()
        if done != self._live[0]:
            self._live = (done, now)
        try:
            lag = survey.behind(survey.ends(self.where), live)
        except KafkaUnavailable:
            return ""
        going = now - self._live[1] < STANDS_S
        return f"the live read models are {lag} records behind" if lag > self.pacing.yield_at and going else ""

    def _obey(self, hands: Hands | None = None) -> None:
        """Stop where somebody asked for it. Raises `Paused`, `Cancelled`."""
        wanted = self._now().wanted
        if wanted is None:
            return
        if hands is not None:
            hands.stop()
        self.database.do(lambda c: builds.change(c, self.build, wanted=None, held="paused" if wanted == "pause" else ""))
        if wanted == "cancel":
            raise Cancelled(f"build {self.build} was cancelled")
        raise Paused(f"build {self.build} is paused: `chimera replay resume {self.build}` goes on from its checkpoints")

    # --- then ---

    def _load_guarded(self, found: psycopg.errors.ForeignKeyViolation) -> None:
        """Once more from the beginning, with references in place: a row without the one it refers to is parked then, as live."""
        why = found.diag.message_detail or str(found).splitlines()[0]

        def again(connection: Connection) -> None:
            builds.note(connection, self.build, "loaded anew", "chimera", f"{why} Its model is parked, as in the live read models.")
            prepare(connection, self.where, builds.get(connection, self.build), guarded=True)

        self.database.do(again)
        self._load()
        self._index()

    def _index(self) -> None:
        """Indexes and references that were left out, each by itself. Raises `ForeignKeyViolation` where a row refers to none."""
        made = self._now().indexes
        for n, definition in enumerate(made):
            self.tell(Tally("indexing", n, len(made), 0.0, ""))
            self._obey()
            again = definition.replace("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS ", 1)
            self._execute(again.encode())
        self.database.do(self._leave_retired)
        schema = f"build_{self.build}"
        tables = self.database.do(
            lambda c: c.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
        )
        for (table,) in tables:
            self._execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, table)))
        # Of a whole log: once it is live, every question would find these out for itself until they are there.
        self.database.do(lambda c: metrics.settle(c, schema))
        for table in settling.KEPT:
            self._execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, table)))
        failpoints.here("build.indexed")
        self.database.do(
            lambda c: c.execute(
                "UPDATE replay.builds SET state = 'ready', loaded_at = clock_timestamp() WHERE id = %s", (self.build,)
            )
        )

    def _leave_retired(self, connection: Connection) -> None:
        """Parts that were put away from the live tables are in files: the build does not bring them back."""
        schema = f"build_{self.build}"
        for table in PARTED:
            live = [part.begin for part in parts(connection) if (part.table, part.state) == (table, "attached")]
            for part in parts(connection, schema):
                if live and part.table == table and part.begin < min(live):
                    connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(home_of(schema), part.name)))

    def _execute(self, statement: bytes | sql.Composed) -> None:
        self.database.do(lambda c: c.execute(statement))

    def _catch_up(self) -> None:
        """Beside the live projector until near the end; its fold is kept for whoever compares or swaps."""

        def tell(left: int) -> None:
            self._obey()
            now = total(survey.ends(self.where))
            self.tell(Tally("catching up", now - left, now, 0.0, ""))

        for n in range(1, RESTARTS + 1):
            try:
                with following(self.where, self._now()) as follower:
                    follower.keep_up(self.pacing.max_lag, deadline_s=600.0, tell=tell)
                    failpoints.here("build.followed", Moved)
                    follower.save()
                return
            except (Moved, SnapshotUnavailable):  # the database crashed: what it has lost is made again
                if n == RESTARTS:
                    raise
                time.sleep(float(n))


def _done(ends: Mapping[str, Mapping[int, int]], written: Mapping[str, Mapping[int, int]]) -> int:
    return sum(min(end, written.get(topic, {}).get(p, 0)) for topic, of in ends.items() for p, end in of.items())
