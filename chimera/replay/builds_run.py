"""Carrying a plan out: tables of their own, partitions loaded in parallel, indexes, then catching up beside the live read models.

The rule not to break: each step can be repeated. Whatever dies, `resume` looks at the state and the checkpoints and goes on.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import IO, NamedTuple

import orjson
import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.topics import KafkaUnavailable
from chimera.projections.checkpoints import MODEL_SET, open_checkpoints
from chimera.projections.parts import home_of
from chimera.projections.schema import CORE, migrate
from chimera.projections.write import Connection, Moved
from chimera.replay import builds, survey
from chimera.replay.builds import Build, Database
from chimera.replay.builds_follow import following
from chimera.replay.plan import Plan, Refused, check, shares, total
from chimera.replay.survey import Where
from chimera.snapshots.state import SnapshotUnavailable

POLL_S = 0.25
STANDS_S = 10.0
"""Live read models that have not moved for so long are not being caught up: nobody gains by waiting for them."""
RESTARTS = 5
"""So many deaths of a load process without a record in between are no accident."""


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
            if found.state == "planned":
                database.do(lambda c: prepare(c, where, found))
            _Running(database, where, build, plan, pacing, tell).go()
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


def prepare(connection: Connection, where: Where, build: Build) -> None:
    """Empty tables in the build's own schema; indexes that only readers need wait. What was discarded stays out here as well."""
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
        builds.change(connection, build.id, state="loading", indexes=_take_indexes(connection, build.schema))


def _take_indexes(connection: Connection, schema: str) -> list[str]:
    """Drop the indexes that guard nothing; how they are made again."""
    rows = connection.execute(
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_class t ON t.oid = i.indrelid"
        " WHERE c.relnamespace = %s::regnamespace AND NOT i.indisunique AND NOT t.relispartition ORDER BY 1",
        (schema,),
    ).fetchall()
    for name, _ in rows:
        connection.execute(f"DROP INDEX {name}".encode())  # as regclass quotes it
    return [definition for _, definition in rows]


class _Running:
    """One run of a build, in the process that was asked for it."""

    def __init__(self, database: Database, where: Where, build: int, plan: Plan, pacing: Pacing, tell: Tell) -> None:
        self.database, self.where, self.build, self.plan, self.pacing, self.tell = database, where, build, plan, pacing, tell
        self._live: tuple[int, float] = (-1, 0.0)

    def go(self) -> None:
        if self._now().state == "loading":
            self._load()
        if self._now().state == "indexing":
            self._index()
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

        self.database.do(note)

    def _load_once(self, began: float, first: int) -> None:
        hands = _Hands(self, self._written())
        try:
            while not hands.over(self._written):
                done, held = _done(self.plan.ends, self._written()), self._held()
                rate = (done - first) / max(0.001, time.monotonic() - began)
                self.tell(Tally("loading", done, total(self.plan.ends), rate, held))
                hands.pace(self.pacing.max_rate / self.pacing.processes, bool(held))
                self._obey(hands)
                time.sleep(POLL_S)
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

    def _obey(self, hands: _Hands) -> None:
        wanted = self._now().wanted
        if wanted is None:
            return
        hands.stop()
        self.database.do(lambda c: builds.change(c, self.build, wanted=None, held="paused" if wanted == "pause" else ""))
        if wanted == "cancel":
            raise Cancelled(f"build {self.build} was cancelled")
        raise Paused(f"build {self.build} is paused: `chimera replay resume {self.build}` goes on from its checkpoints")

    # --- then ---

    def _index(self) -> None:
        """Indexes that were left out, in any order, each by itself."""
        made = self._now().indexes
        for n, definition in enumerate(made):
            self.tell(Tally("indexing", n, len(made), 0.0, ""))
            self._obey_between()
            again = definition.replace("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS ", 1)
            self._execute(again.encode())
        schema = f"build_{self.build}"
        tables = self.database.do(
            lambda c: c.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
        )
        for (table,) in tables:
            self._execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, table)))
        self.database.do(
            lambda c: c.execute(
                "UPDATE replay.builds SET state = 'ready', loaded_at = clock_timestamp() WHERE id = %s", (self.build,)
            )
        )

    def _execute(self, statement: bytes | sql.Composed) -> None:
        self.database.do(lambda c: c.execute(statement))

    def _obey_between(self) -> None:
        self._obey(_Hands.none())

    def _catch_up(self) -> None:
        """Beside the live projector until near the end; its fold is kept for whoever compares or swaps."""

        def tell(left: int) -> None:
            self._obey_between()
            now = total(survey.ends(self.where))
            self.tell(Tally("catching up", now - left, now, 0.0, ""))

        for n in range(1, RESTARTS + 1):
            try:
                with following(self.where, self._now()) as follower:
                    follower.keep_up(self.pacing.max_lag, deadline_s=600.0, tell=tell)
                    follower.save()
                return
            except (Moved, SnapshotUnavailable):  # the database crashed: what it has lost is made again
                if n == RESTARTS:
                    raise
                time.sleep(float(n))


def _done(ends: Mapping[str, Mapping[int, int]], written: Mapping[str, Mapping[int, int]]) -> int:
    return sum(min(end, written.get(topic, {}).get(p, 0)) for topic, of in ends.items() for p, end in of.items())


class _Hand(NamedTuple):
    """A job, the process that does it, and what that one says."""

    job: dict[str, object]
    process: subprocess.Popen[bytes]
    said: IO[bytes]


class _Hands:
    """The load processes of one run."""

    def __init__(self, running: _Running, written: Mapping[str, Mapping[int, int]]) -> None:
        where, self._running, self._deaths = running.where, running, 0
        self._hands: list[_Hand] = []
        jobs = []
        for topic, model_set in where.topics.items():
            ends = running.plan.ends[topic]
            some = shares(ends, written.get(topic, {}), running.pacing.processes if model_set == MODEL_SET else 1)
            jobs += [
                {
                    "bootstrap": where.bootstrap, "dsn": where.dsn, "root_public": where.root_public, "build": running.build,
                    "schema": f"build_{running.build}", "topic": topic, "model_set": model_set,
                    "ends": {str(p): ends[p] for p in share},
                }
                for share in some
            ]  # fmt: skip
        self._done_before = -1
        self._last_pace = (0.0, False)
        self._hands = [_start(job) for job in jobs]

    @staticmethod
    def none() -> _Hands:
        """Nobody at work."""
        made = _Hands.__new__(_Hands)
        made._hands = []
        return made

    def over(self, written: Callable[[], Mapping[str, Mapping[int, int]]]) -> bool:
        """Whether all are done; who died is started again. Raises `ChimeraError` where one gave up, or they keep dying."""
        for n, hand in enumerate(self._hands):
            code = hand.process.poll()
            if code is None or code == 0:
                continue
            said = _last_line(hand.said)
            if code == 1:
                raise ChimeraError(said or "a load process failed without a word")
            done = total(written())
            self._deaths = self._deaths + 1 if done == self._done_before else 1
            self._done_before = done
            if self._deaths > RESTARTS:
                raise ChimeraError(f"a load process died {self._deaths} times without getting on (exit {code}): {said}")
            self._hands[n] = _start(hand.job)
        return all(hand.process.poll() == 0 for hand in self._hands)

    def pace(self, rate: float, hold: bool) -> None:
        """Tell all how fast to go."""
        for hand in self._hands:
            _say(hand.process, {"rate": rate, "hold": hold})

    def stop(self) -> None:
        """Let them end between two transactions."""
        for hand in self._hands:
            if hand.process.stdin is not None and not hand.process.stdin.closed:
                try:
                    hand.process.stdin.close()
                except BrokenPipeError:
                    continue
        for hand in self._hands:
            try:
                hand.process.wait(30)
            except subprocess.TimeoutExpired:
                hand.process.kill()
                hand.process.wait()
            hand.said.close()


def _start(job: dict[str, object]) -> _Hand:
    said = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads would hold it up; closed with the process
    process = subprocess.Popen(
        [sys.executable, "-m", "chimera.replay.builds_load"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
    )
    _say(process, job)
    return _Hand(job, process, said)


def _say(process: subprocess.Popen[bytes], what: Mapping[str, object]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(orjson.dumps(what) + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return  # it ended: `over` looks at how


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
