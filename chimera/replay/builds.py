"""The register of builds: which there are, in which state, who did what with them and why.

The rule not to break: one process at a time works on a build (`working`); every act leaves a line in `replay.acts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import orjson
import psycopg
from psycopg import sql
from psycopg.rows import class_row

from chimera.projections.checkpoints import connect
from chimera.projections.parts import BUILD, home_of
from chimera.projections.schema import CORE
from chimera.projections.write import Connection
from chimera.replay.plan import Plan, Refused, plan_from

_LOCK = 0x4255_494C  # who works on which build ("BUIL")
_TURN = 0x5357_4150  # who swaps one in ("SWAP")
_COLUMNS = "id, state, wanted, held, plan, models, indexes, error, made_at, loaded_at, swapped_at"
T = TypeVar("T")


class Build(NamedTuple):
    """One set of all read models."""

    id: int
    state: str
    """planned, loading, indexing, ready, live, kept (was live), dropped."""
    wanted: str | None
    held: str
    plan: dict[str, Any]
    models: dict[str, str]
    indexes: list[str]
    error: str
    made_at: datetime
    loaded_at: datetime | None
    swapped_at: datetime | None

    @property
    def schema(self) -> str:
        """Where its tables are."""
        return CORE if self.state == "live" else f"{BUILD}{self.id}"

    def planned(self) -> Plan:
        """What it was asked to do. Raises `Refused` for build 0, which nobody planned."""
        if not self.plan:
            raise Refused(f"build {self.id} was never planned: it is what the projector wrote from the beginning")
        return plan_from(self.plan)


class Act(NamedTuple):
    """Who did what and why."""

    at: datetime
    build: int | None
    act: str
    actor: str
    reason: str
    detail: dict[str, Any]


class Database:
    """A connection that is made anew while the server is away, for `patience_s` at most. For one thread.

    `build`: the right to work on that build comes with the connection, and is taken again with every new one.
    """

    def __init__(self, dsn: str, patience_s: float = 120.0, *, build: int | None = None) -> None:
        self._dsn, self._patience_s, self._build = dsn, patience_s, build
        self._connection: Connection | None = None

    def do(self, work: Callable[[Connection], T]) -> T:
        """`work` may be done twice where an answer was lost.

        Raises `psycopg.OperationalError` when patience is over, `Refused` where somebody else works on the build.
        """
        deadline, delay = time.monotonic() + self._patience_s, 0.1
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(self._dsn)
                    if self._build is not None:
                        take(self._connection, self._build)
                return work(self._connection)
            except psycopg.OperationalError as error:
                self.close()
                if (error.sqlstate or "").startswith(("54", "55")) or time.monotonic() > deadline:
                    raise
                time.sleep(delay)
                delay = min(delay * 2, 2.0)

    def close(self) -> None:
        """Let the connection go; the next use makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def add(connection: Connection, plan: Plan, models: Mapping[str, str]) -> Build:
    """A new build, planned."""
    with connection.transaction():
        connection.execute("LOCK TABLE replay.builds IN SHARE ROW EXCLUSIVE MODE")
        row = connection.execute(
            "INSERT INTO replay.builds (id, state, plan, models)"
            " SELECT max(id) + 1, 'planned', %s, %s FROM replay.builds RETURNING id",
            (_json(plan.as_json()), _json(dict(models))),
        ).fetchone()
        assert row is not None
    return get(connection, int(row[0]))


def get(connection: Connection, build: int) -> Build:
    """Raises `Refused` where there is no such build."""
    found = next((b for b in listed(connection) if b.id == build), None)
    if found is None:
        raise Refused(f"there is no build {build} (`chimera replay status` lists them)")
    return found


def listed(connection: Connection) -> list[Build]:
    """All builds, oldest first. Raises `Refused` where the schema is older than builds are."""
    try:
        with connection.cursor(row_factory=class_row(Build)) as cursor:
            return cursor.execute(f"SELECT {_COLUMNS} FROM replay.builds ORDER BY id").fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise Refused("there are no read models yet: start the projector (`chimera up`) and try again") from error


def newest(connection: Connection, states: tuple[str, ...], verb: str) -> Build:
    """The youngest build in one of these states. Raises `Refused`."""
    found = [b for b in listed(connection) if b.state in states]
    if not found:
        raise Refused(f"there is no build to {verb}: it would have to be {' or '.join(states)} (`chimera replay status`)")
    return found[-1]


def change(connection: Connection, build: int, **values: Any) -> None:
    """Set some columns."""
    sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values)
    plain = {name: _json(value) if isinstance(value, dict | list) else value for name, value in values.items()}
    connection.execute(sql.SQL("UPDATE replay.builds SET {} WHERE id = {}").format(sets, build), plain)


def exchange(connection: Connection, live: int, instead: int) -> None:
    """`live` is kept from now on, and `instead` is the live one. In this order: there is one live build at any moment."""
    for state, build in (("kept", live), ("live", instead)):
        connection.execute("UPDATE replay.builds SET state = %s, swapped_at = clock_timestamp() WHERE id = %s", (state, build))


def note(connection: Connection, build: int | None, act: str, actor: str, reason: str, **detail: Any) -> None:
    """Write down who did what and why."""
    connection.execute(
        "INSERT INTO replay.acts (build, act, actor, reason, detail) VALUES (%s, %s, %s, %s, %s)",
        (build, act, actor, reason, _json(detail)),
    )


def acts(connection: Connection, build: int | None = None, most: int = 50) -> list[Act]:
    """The last acts, newest first; of one build or of all."""
    with connection.cursor(row_factory=class_row(Act)) as cursor:
        return cursor.execute(
            "SELECT at, build, act, actor, reason, detail FROM replay.acts"
            " WHERE %s::int IS NULL OR build = %s ORDER BY n DESC LIMIT %s",
            (build, build, most),
        ).fetchall()


@contextmanager
def working(dsn: str, build: int) -> Iterator[Database]:
    """Work on a build that nobody else works on; the right to it ends with the connection. Raises `Refused`."""
    database = Database(dsn, build=build)
    try:
        database.do(lambda _: None)
        yield database
    finally:
        database.close()


def take(connection: Connection, build: int) -> None:
    """The right to work on a build, for as long as this connection lives. Raises `Refused`."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCK, build)).fetchone()
    if row is None or not row[0]:
        raise Refused(f"somebody works on build {build} right now: wait, or `chimera replay pause` it")


def take_turn(connection: Connection) -> None:
    """The right to swap a build in, whichever, for as long as this connection lives. Raises `Refused`."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_TURN,)).fetchone()
    if row is None or not row[0]:
        raise Refused("somebody swaps a build in right now: look what came of it (`chimera replay status`), then try again")


def at_work(connection: Connection) -> set[int]:
    """Builds that somebody works on right now."""
    rows = connection.execute(
        "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (_LOCK,),
    ).fetchall()
    return {int(row[0]) for row in rows}


def drop_tables(connection: Connection, build: Build) -> None:
    """Drop a build's tables and cuts. Raises `Refused` for the live one, also where it became that after `build` was looked up."""
    with connection.transaction():
        if get(connection, build.id).state == "live":
            raise Refused(f"build {build.id} is the live one: it is never dropped")
        for schema in (build.schema, home_of(build.schema)):
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
        for table in ("agents", "partitions"):
            connection.execute(f"DELETE FROM snapshots.{table} WHERE code LIKE %s", (f"%/build\\_{build.id}",))
        change(connection, build.id, state="dropped", wanted=None, held="")


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
