"""A build beside the live read models, at the same offsets, in one look at the database.

The rule not to break: live writers are held up only while the build takes the last few records; readers never are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from chimera.projections.checkpoints import connect
from chimera.projections.comparing import COMPARED, condition, summed
from chimera.projections.parking import Parked, listed
from chimera.projections.rows import Table
from chimera.projections.schema import CORE
from chimera.projections.write import Connection
from chimera.replay import survey
from chimera.replay.builds_follow import Follower
from chimera.replay.plan import Ends, Refused, total

HOLD_S = 1.0
"""Live writers are held up no longer than this at once."""
TRIES = 30


class Sums(NamedTuple):
    """One table on both sides: rows, and the sum of the rows' hashes; where they differ, the columns that do."""

    table: str
    live_rows: int
    build_rows: int
    equal: bool
    columns: tuple[str, ...]
    """Columns whose sums differ (all of them where the numbers of rows do)."""
    samples: tuple[dict[str, Any], ...]
    """Rows that differ: key, and per differing column (live, build); `*` stands for the whole row."""


class Comparison(NamedTuple):
    """What comparing found."""

    build: int
    records: int
    """Records that both sides are made of."""
    tables: tuple[Sums, ...]
    parked: tuple[Parked, ...]
    """What the live side lacks and says so: not compared."""
    parked_in_build: tuple[Parked, ...]

    @property
    def equal(self) -> bool:
        return all(table.equal for table in self.tables)


def compare(follower: Follower, *, samples: int = 3) -> Comparison:
    """Bring the build to where the live read models are and look at both at once. Raises `Refused` where they do not meet."""
    with connect(follower.where.dsn) as looking:
        at = _same_place(follower, looking)
        schema = follower.build.schema
        left_out = (*listed(looking, CORE), *listed(looking, schema))
        tables = tuple(_sums(looking, schema, table, left_out, samples) for table in COMPARED)
        found = Comparison(follower.build.id, total(at), tables, tuple(listed(looking, CORE)), tuple(listed(looking, schema)))
        looking.execute("COMMIT")
    return found


def _same_place(follower: Follower, looking: Connection) -> Ends:
    """Open a snapshot on `looking` in which both sides are made of the same records; up to which offsets."""
    for _ in range(TRIES):
        follower.reach(survey.written(looking, follower.where, CORE), exactly=True)
        with held_still(follower) as at:
            if at is not None:
                looking.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                looking.execute("SELECT 1")  # from here on the snapshot stands
                return at
        time.sleep(0.1)
    ahead = follower.beyond(survey.written(looking, follower.where, CORE))
    raise Refused(
        f"build {follower.build.id} and the live read models do not meet"
        + (f": the live ones are {ahead} records behind it. Wait until they are there (`chimera ask freshness`)" if ahead else "")
        + ", and try again"
    )


@contextmanager
def held_still(follower: Follower) -> Iterator[Ends | None]:
    """Hold live writers (not readers) while the build takes what they wrote; where both then are, None where they do not meet."""
    with connect(follower.where.dsn) as holding:
        try:
            holding.execute(f"SET lock_timeout = {int(HOLD_S * 1000)}".encode())
            with holding.transaction():
                holding.execute("LOCK TABLE core.checkpoints IN EXCLUSIVE MODE")
                at = survey.written(holding, follower.where, CORE)
                met = follower.reach(at, exactly=True, deadline_s=HOLD_S) and not follower.beyond(at)
                yield at if met else None
        except psycopg.errors.LockNotAvailable:
            yield None


def _sums(connection: Connection, schema: str, table: Table, left_out: tuple[Parked, ...], samples: int) -> Sums:
    wanted = condition(connection, CORE, table, left_out)
    live, build = (summed(connection, side, table, wanted) for side in (CORE, schema))
    if live == build:
        return Sums(table.name, live[0], build[0], True, (), ())
    columns = _columns(connection, schema, table, wanted)
    return Sums(table.name, live[0], build[0], False, columns, _samples(connection, schema, table, wanted, samples))


def _names(connection: Connection, schema: str, table: Table) -> list[str]:
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (f'"{schema}"."{table.name}"',),
    ).fetchall()
    return [row[0] for row in rows]


def _columns(connection: Connection, schema: str, table: Table, wanted: sql.Composable) -> tuple[str, ...]:
    """The columns whose sums differ."""
    names = _names(connection, schema, table)
    each = sql.SQL(", ").join(
        sql.SQL("coalesce(sum(hashtextextended(t.{}::text, 0)::numeric), 0)").format(sql.Identifier(name)) for name in names
    )
    live, build = (
        connection.execute(
            sql.SQL("SELECT {} FROM {} t WHERE {}").format(each, sql.Identifier(side, table.name), wanted)
        ).fetchone()
        for side in (CORE, schema)
    )
    assert live is not None
    assert build is not None
    return tuple(name for name, a, b in zip(names, live, build, strict=True) if a != b)


def _samples(connection: Connection, schema: str, table: Table, wanted: sql.Composable, most: int) -> tuple[dict[str, Any], ...]:
    """Some rows that are on one side only, or say something else there."""
    same = sql.SQL(" AND ").join(sql.SQL("a.{0} = b.{0}").format(sql.Identifier(name)) for name in table.key)
    rows = connection.execute(
        sql.SQL(
            "SELECT to_jsonb(a), to_jsonb(b) FROM (SELECT * FROM {} t WHERE {}) a FULL JOIN (SELECT * FROM {} t WHERE {}) b ON {}"
            " WHERE a::text IS DISTINCT FROM b::text LIMIT {}"
        ).format(sql.Identifier(CORE, table.name), wanted, sql.Identifier(schema, table.name), wanted, same, most)
    ).fetchall()
    return tuple(_differing(table, live, build) for live, build in rows)


def _differing(table: Table, live: dict[str, Any] | None, build: dict[str, Any] | None) -> dict[str, Any]:
    row = build or live or {}
    key = {name: row.get(name) for name in table.key}
    place = {"partition": row.get("partition"), "offset": row.get("offset")}
    if live is None or build is None:
        return {"key": key, "differs": {"*": ["there", "no such row"] if build is None else ["no such row", "there"]}, **place}
    return {"key": key, "differs": {name: [live[name], value] for name, value in build.items() if live[name] != value}, **place}
