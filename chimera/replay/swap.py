"""One build takes the place of another in one transaction, while everything runs.

The rules not to break: nobody sees two builds in one transaction, so every table and view is locked before any name changes, views
first, as readers do; no lock is waited for longer than `TRY_MS`, far below the time after which PostgreSQL looks for deadlocks; and
the build that becomes live is never behind the one that was, so no record is missed, and whoever writes is told by the checkpoint.
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
from chimera.projections import parts, schema, views
from chimera.projections.checkpoints import connect
from chimera.projections.parts import PRIVATE, home_of
from chimera.projections.schema import CORE
from chimera.projections.write import Connection
from chimera.replay import builds, survey
from chimera.replay.builds import Build
from chimera.replay.builds_follow import Follower, following
from chimera.replay.plan import Ends, Refused
from chimera.replay.survey import Where
from chimera.snapshots.state import maker, of_build, of_projector

TRY_MS = 60
"""So long for all locks together, then everybody goes on and it is tried again."""
FINISH_S = 0.06
"""So long, under the locks, for the last records that the live projector wrote and the build has not."""


class Swapped(NamedTuple):
    """What a swap did."""

    live: int
    kept: int
    locked_ms: float
    """How long readers and writers would have waited, from the first lock asked for to the commit."""
    tries: int
    records: int
    """Records that the new live build is made of."""


def swap(
    where: Where, build: Build, *, actor: str, reason: str, act: str = "swap", max_lag: int = 1_000, patience_s: float = 30.0,
    tell: Callable[[str], None] = lambda _: None,
) -> Swapped:  # fmt: skip
    """Make a build live; the live one is kept. Raises `Refused` where it is not ready, too far behind, or never got all locks."""
    if build.state not in ("ready", "kept"):
        raise Refused(f"build {build.id} is {build.state}: only one that is ready, or was live before, can be swapped in")
    with builds.working(where.dsn, build.id), following(where, build) as follower:
        tell("catching up")
        follower.keep_up(max_lag, deadline_s=patience_s)
        follower.save()
        return _Swap(follower, actor, reason, act, patience_s, tell).go()


class _Swap:
    def __init__(
        self, follower: Follower, actor: str, reason: str, act: str, patience_s: float, tell: Callable[[str], None]
    ) -> None:
        self.follower, self.where, self.build = follower, follower.where, follower.build
        self.actor, self.reason, self.act = actor, reason, act
        self.patience_s, self.tell = patience_s, tell

    def go(self) -> Swapped:
        """Try until all locks are there at once."""
        deadline, tries, why = time.monotonic() + self.patience_s, 0, ""
        with connect(self.where.dsn) as connection:
            live = next(b for b in builds.listed(connection) if b.state == "live")
            _same_columns(connection, self.build.schema)
            _as_granted(connection, self.build.schema)
            self._keep_cut(connection, live)
            views_now = "; ".join(
                f'CREATE OR REPLACE VIEW {views.ANALYTICS}."{view.name}" WITH (security_barrier = true) AS {view.defined(CORE)}'
                for view in views.views()
            )
            while True:
                tries += 1
                self.follower.step(timeout_s=0.01)
                try:
                    locked_ms = self._try(connection, live, views_now)
                    failpoints.here("swap.committed")
                    break
                except _NotNow as error:
                    why = str(error)
                if time.monotonic() > deadline:
                    raise Refused(
                        f"build {self.build.id} was not swapped in, nothing changed: {why} ({tries} tries in"
                        f" {self.patience_s:g} s). {_holders(connection)}"
                    )
                time.sleep(random.uniform(0.02, 0.2))
            records = sum(sum(of.values()) for of in survey.written(connection, self.where, CORE).values())
        return Swapped(self.build.id, live.id, locked_ms, tries, records)

    def _try(self, connection: Connection, live: Build, views_now: str) -> float:
        """One transaction; milliseconds from the first lock asked for to the commit. Raises `_NotNow`."""
        began = time.perf_counter()
        try:
            with connection.transaction():
                # Should this process be stopped here, the server ends its session, and everybody goes on.
                connection.execute(
                    f"SET LOCAL statement_timeout = {TRY_MS}; SET LOCAL idle_in_transaction_session_timeout = 2000".encode()
                )
                connection.execute("SET LOCAL synchronous_commit TO on")  # what is answered is not lost by a crash
                connection.execute(_locks(connection))
                connection.execute("SET LOCAL statement_timeout = 0")
                at = survey.written(connection, self.where, CORE)
                if not self.follower.reach(at, deadline_s=FINISH_S):
                    raise _NotNow(f"the live read models moved {self.follower.lags(at)} records on meanwhile")
                _same_discards(connection, self.build)
                failpoints.here("swap.locked", _NotNow)
                self._rename(connection, live)
                connection.execute(views_now.encode())
                failpoints.here("swap.renamed", _NotNow)
                builds.change(connection, live.id, state="kept")
                builds.change(connection, self.build.id, state="live")
                connection.execute(
                    "UPDATE replay.builds SET swapped_at = clock_timestamp() WHERE id = ANY(%s)", ([live.id, self.build.id],)
                )
                builds.note(
                    connection, self.build.id, self.act, self.actor, self.reason, instead_of=live.id, at=_plain(at),
                    ms=round(1000 * (time.perf_counter() - began), 1),
                )  # fmt: skip
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            raise _NotNow("not all tables and views could be locked at once") from error
        return 1000 * (time.perf_counter() - began)

    def _rename(self, connection: Connection, live: Build) -> None:
        kept = live._replace(state="kept").schema
        for old, new in (
            (CORE, kept), (PRIVATE, home_of(kept)), (self.build.schema, CORE), (home_of(self.build.schema), PRIVATE),
        ):  # fmt: skip
            connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))

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


def _locks(connection: Connection) -> bytes:
    """Makers of parts and migrations first, then views, then tables, all in one statement's time."""
    rows = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition"
        " ORDER BY n.nspname = %s, c.relkind <> 'v', c.relname <> 'checkpoints', c.relname",
        ([CORE, views.ANALYTICS], CORE),
    ).fetchall()
    names = ", ".join(f'"{name}"."{relation}"' for name, relation in rows)
    return (
        f"DO $$ BEGIN PERFORM pg_advisory_xact_lock({schema.LOCK}); PERFORM pg_advisory_xact_lock({parts.LOCK});"
        f" LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE; END $$"
    ).encode()


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


def _as_granted(connection: Connection, build: str) -> None:
    """Who was granted something on the live tables has it on the build's as well."""
    rows = connection.execute(
        "SELECT c.relname, a.privilege_type, coalesce(r.rolname, 'public'), r.rolname IS NULL FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee"
        " WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v') AND a.grantee <> c.relowner",
        (CORE,),
    ).fetchall()
    for relation, privilege, role, everybody in rows:
        who = sql.SQL("PUBLIC") if everybody else sql.Identifier(role)
        connection.execute(sql.SQL(f"GRANT {privilege} ON {{}} TO {{}}").format(sql.Identifier(build, relation), who))
    schemas = connection.execute(
        "SELECT a.privilege_type, coalesce(r.rolname, 'public'), r.rolname IS NULL FROM pg_namespace n, aclexplode(n.nspacl) a"
        " LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE n.nspname = %s AND a.grantee <> n.nspowner",
        (CORE,),
    ).fetchall()
    for privilege, role, everybody in schemas:
        who = sql.SQL("PUBLIC") if everybody else sql.Identifier(role)
        connection.execute(sql.SQL(f"GRANT {privilege} ON SCHEMA {{}} TO {{}}").format(sql.Identifier(build), who))


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
