"""One build takes the place of another in one transaction, while everything runs.

The rules not to break: nobody sees two builds in one transaction, so every table and view is locked before any name changes, views
first, as readers do; no lock that keeps readers out is waited for longer than `TRY_MS`, and none longer than `HOLD_MS`, less than
the time after which PostgreSQL looks for deadlocks; and the build that becomes live is never behind the one that was, so no record
is missed, and whoever writes is told by the checkpoint.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

import psycopg
from psycopg import sql

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.events.envelope import key_id
from chimera.projections import metrics, parts, schema, views
from chimera.projections.checkpoints import connect
from chimera.projections.parts import PRIVATE, home_of
from chimera.projections.schema import CORE
from chimera.projections.write import Connection
from chimera.replay import builds, survey, swap_views
from chimera.replay.builds import Build
from chimera.replay.builds_follow import Follower, following
from chimera.replay.plan import Ends, Refused
from chimera.replay.survey import Where
from chimera.replay.swap_views import Prepared
from chimera.snapshots.state import maker, of_build, of_projector

HOLD_MS = 500
"""So long for the transaction that a projector has open; only other writers wait meanwhile."""
FINISH_S = 0.04
"""So long, while writers are held, for the last records that the live projector wrote and the build has not."""
TRY_MS = 40
"""So long for all locks together, then everybody goes on and it is tried again."""


class Swapped(NamedTuple):
    """What a swap did."""

    live: int
    kept: int
    locked_ms: float
    """How long a writer would have waited, and a reader at most: from when writers were held to the commit."""
    tries: int
    records: int
    """Records that the new live build is made of."""


def swap(
    where: Where, build: Build, *, actor: str, reason: str, act: str = "swap", max_lag: int = 1_000, patience_s: float = 30.0,
    tell: Callable[[str], None] = lambda _: None,
) -> Swapped:  # fmt: skip
    """Make a build live; the live one is kept. Raises `Refused` where it is not ready, too far behind, or never got all locks."""
    with builds.working(where.dsn, build.id) as database:
        build = database.do(lambda c: builds.get(c, build.id))  # somebody may have swapped or dropped it since it was looked up
        if build.state not in ("ready", "kept"):
            raise Refused(f"build {build.id} is {build.state}: only one that is ready, or was live before, can be swapped in")
        with following(where, build) as follower:
            tell("catching up")
            follower.keep_up(max_lag, deadline_s=patience_s)
            follower.save()
            tell("settling sums and facts")
            with connect(where.dsn) as connection:
                metrics.settle(connection, build.schema)
            return _Swap(follower, actor, reason, act, patience_s, tell).go()


class _Swap:
    def __init__(
        self, follower: Follower, actor: str, reason: str, act: str, patience_s: float, tell: Callable[[str], None]
    ) -> None:
        self.follower, self.where, self.build = follower, follower.where, follower.build
        self.actor, self.reason, self.act = actor, reason, act
        self.patience_s, self.tell = patience_s, tell

    def go(self) -> Swapped:
        """Try until all locks are there at once. One at a time: where views are prepared there is room for those of one build."""
        with connect(self.where.dsn) as connection:
            builds.take_turn(connection)
            live = next(b for b in builds.listed(connection) if b.state == "live")
            _same_columns(connection, self.build.schema)
            swap_views.grant_alike(connection, CORE, self.build.schema)
            self._keep_cut(connection, live)
            prepared = swap_views.prepare(connection, self.build.schema)
            try:
                locked_ms, tries = self._patiently(connection, live, prepared)
            except Refused:
                swap_views.clear(connection)
                raise
            swap_views.clear(connection)
            records = sum(sum(of.values()) for of in survey.written(connection, self.where, CORE).values())
        return Swapped(self.build.id, live.id, locked_ms, tries, records)

    def _patiently(self, connection: Connection, live: Build, prepared: Prepared) -> tuple[float, int]:
        """Milliseconds of lock, and tries. Raises `Refused` when patience is over."""
        deadline, tries = time.monotonic() + self.patience_s, 0
        while True:
            tries += 1
            self.follower.step(timeout_s=0.01)
            try:
                locked_ms = self._try(connection, live, prepared)
                failpoints.here("swap.committed")
                return locked_ms, tries
            except _NotNow as error:
                why = str(error)
                if isinstance(error, _OtherViews):
                    prepared = swap_views.prepare(connection, self.build.schema)
            if time.monotonic() > deadline:
                raise Refused(
                    f"build {self.build.id} was not swapped in, nothing changed: {why} ({tries} tries in"
                    f" {self.patience_s:g} s). {_holders(connection)}"
                )
            time.sleep(random.uniform(0.02, 0.2))

    def _try(self, connection: Connection, live: Build, prepared: Prepared) -> float:
        """One transaction; milliseconds from when writers were held to the commit. Raises `_NotNow`.

        Writers first, by the table that each of their transactions begins with: so the build takes what they wrote while
        everybody reads on. As few round trips as can be: on a busy machine each waits for its turn, and everybody with it.
        """
        locks = _locks(connection)
        began = time.perf_counter()
        try:
            with connection.transaction():
                # Should this process be stopped here, the server ends its session, and everybody goes on.
                # What is answered is not lost by a crash, so the commit waits for the disk.
                connection.execute(
                    f"SET LOCAL statement_timeout = {HOLD_MS}; SET LOCAL idle_in_transaction_session_timeout = 2000;"
                    " SET LOCAL synchronous_commit TO on".encode()
                )
                connection.execute(HOLD)
                began = time.perf_counter()
                at = survey.written(connection, self.where, CORE)
                if not self.follower.reach(at, deadline_s=FINISH_S):
                    raise _NotNow(f"the live read models moved {self.follower.lags(at)} records on meanwhile")
                connection.execute(f"SET LOCAL statement_timeout = {TRY_MS}".encode())
                connection.execute(locks)
                connection.execute("SET LOCAL statement_timeout = 0")
                _same_discards(connection, self.build)
                if not swap_views.still_fits(connection, prepared):
                    raise _OtherViews("the analysts' views, or the rights on them, were changed meanwhile")
                failpoints.here("swap.locked", _NotNow)
                connection.execute(f"{self._renames(live)}; {swap_views.take_place(prepared)}".encode())
                failpoints.here("swap.renamed", _NotNow)
                with connection.pipeline():
                    builds.exchange(connection, live.id, self.build.id)
                    builds.note(
                        connection, self.build.id, self.act, self.actor, self.reason, instead_of=live.id, at=_plain(at),
                        ms=round(1000 * (time.perf_counter() - began), 1),
                    )  # fmt: skip
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            raise _NotNow("not all tables and views could be locked at once") from error
        return 1000 * (time.perf_counter() - began)

    def _renames(self, live: Build) -> str:
        kept = live._replace(state="kept").schema
        return "; ".join(
            f'ALTER SCHEMA "{old}" RENAME TO "{new}"'
            for old, new in (
                (CORE, kept), (PRIVATE, home_of(kept)), (self.build.schema, CORE), (home_of(self.build.schema), PRIVATE),
            )
        )  # fmt: skip

    def _keep_cut(self, connection: Connection, live: Build) -> None:
        """The live projector's cut as the kept build's: who follows that one later goes on from here instead of from 0."""
        theirs = of_projector(maker(key_id(self.where.root_public)))
        its = of_build(theirs, live.id)
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            for table, columns in _CUT_COLUMNS.items():
                connection.execute(f"DELETE FROM snapshots.{table} WHERE root = %s AND code = %s".encode(), (its.root, its.code))
                connection.execute(
                    f"INSERT INTO snapshots.{table} (root, law, format, code, {columns}) SELECT root, law, format, %s, {columns}"
                    f" FROM snapshots.{table} WHERE root = %s AND code = %s AND law = %s AND format = %s".encode(),
                    (its.code, theirs.root, theirs.code, theirs.law, theirs.format),
                )


_CUT_COLUMNS = {
    "partitions": "partition, next_offset, last_append_ts, unreadable, law_in_force, agents",
    "agents": "partition, agent_id, next_offset, state",
}


class _NotNow(ChimeraError):
    """This try came to nothing; everybody goes on."""


class _OtherViews(_NotNow):
    """The views have to be prepared anew."""


HOLD = (
    f"DO $$ BEGIN LOCK TABLE {CORE}.checkpoints IN EXCLUSIVE MODE;"
    f" PERFORM pg_advisory_xact_lock({schema.LOCK}); PERFORM pg_advisory_xact_lock({parts.LOCK}); END $$"
).encode()
"""Writers, migrations, and makers of parts, in this order: a writer makes parts in its transaction. Nobody who reads."""


def _locks(connection: Connection) -> bytes:
    """Views, then tables, all in one statement's time."""
    rows = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition"
        " ORDER BY n.nspname = %s, c.relkind <> 'v', c.relname <> 'checkpoints', c.relname",
        ([CORE, views.ANALYTICS], CORE),
    ).fetchall()
    names = ", ".join(f'"{name}"."{relation}"' for name, relation in rows)
    return f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE".encode()


def _same_columns(connection: Connection, build: str) -> None:
    """Raises `Refused` where the build lacks a table or column that the live one has: it is of an older version."""
    missing = connection.execute(
        "SELECT c.table_name || '.' || c.column_name FROM information_schema.columns c WHERE c.table_schema = %s AND NOT EXISTS ("
        " SELECT FROM information_schema.columns b WHERE b.table_schema = %s"
        " AND (b.table_name, b.column_name) = (c.table_name, c.column_name)) ORDER BY 1 LIMIT 1",
        (CORE, build),
    ).fetchone()
    if missing is not None:
        raise Refused(
            f"{build} lacks {missing[0]}, which the live read models have: it was built by an older version."
            " Build anew (`chimera replay apply`)"
        )


def _same_discards(connection: Connection, build: Build) -> None:
    row = connection.execute(
        sql.SQL('SELECT model, partition, "offset" FROM {0} EXCEPT SELECT model, partition, "offset" FROM {1} LIMIT 1').format(
            sql.Identifier(CORE, "discarded"), sql.Identifier(build.schema, "discarded")
        )
    ).fetchone()
    if row is not None:
        raise Refused(
            f"{row[0]} of chimera.log[{row[1]}] offset {row[2]} was discarded after build {build.id} was begun, which has it still:"
            " build anew (`chimera replay apply`)"
        )


def _holders(connection: Connection) -> str:
    """Whose long transactions are in the way."""
    rows = connection.execute(
        "SELECT DISTINCT a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'unnamed'),"
        " round(extract(epoch FROM clock_timestamp() - a.xact_start)) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('core', 'analytics_v1') AND a.pid <> pg_backend_pid()"
        " AND a.xact_start < clock_timestamp() - interval '1 s' ORDER BY 4 DESC LIMIT 3"
    ).fetchall()
    if not rows:
        return "Try again, or give it longer (--patience)"
    said = "; ".join(f"pid {pid} of {user} ({name}) for {age} s" for pid, user, name, age in rows)
    return f"In the way: {said}. Let them end, or `SELECT pg_terminate_backend(PID)`, and try again"


def _plain(at: Ends) -> dict[str, dict[str, int]]:
    return {topic: {str(p): offset for p, offset in of.items()} for topic, of in at.items()}
