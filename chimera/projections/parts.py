"""Parts of the large append-only tables, by append time: made ahead and on demand, written to Parquet and taken off in the end.

The rules not to break: there is no DEFAULT part (with one, a long SELECT of an analyst holds up every new part), and a part is
dropped only when a file that holds as many rows as it lies on the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError

Connection = psycopg.Connection[Any]

PARTED: dict[str, Literal["day", "week"]] = {"engagement_metrics": "day", "asset_events": "week"}
"""Table -> how long a part is. Weeks begin on Monday, days at 00:00 UTC."""
AHEAD = 3
CORE, PRIVATE, BUILD = "core", "priv", "build_"
LOCK = 0x43_48_50_54  # one maker of parts at a time ("CHPT")
_ROWS = 50_000


class BadParts(ChimeraError):
    """The parts are not as asked for."""


class Part(NamedTuple):
    """One part: rows appended in [begin, end). `state`: attached, detaching (interrupted there), loose (taken off, still there)."""

    table: str
    name: str
    begin: date
    end: date
    rows: int
    size_bytes: int
    state: str


def span(table: str, at: date) -> tuple[date, date]:
    """The part that a day belongs to, as [begin, end)."""
    if PARTED[table] == "day":
        return at, at + timedelta(days=1)
    begin = at - timedelta(days=at.weekday())
    return begin, begin + timedelta(days=7)


def name_of(table: str, begin: date) -> str:
    """What a part is called."""
    return f"{table}_{begin:%Y%m%d}"


def home_of(schema: str) -> str:
    """Where parts live: those of `core` in a schema that nobody may enter, a build's in one that takes that one's place at a swap,
    those of a scratch schema with it."""
    return PRIVATE if schema == CORE else f"{schema}_parts" if schema.startswith(BUILD) else schema


def ensure(connection: Connection, schema: str, table: str, days: Iterable[date]) -> list[str]:
    """Make the parts that rows of these days need, within the caller's transaction if there is one; what was made.

    A SELECT that was planned before and takes its snapshot after does not look into a new part: it misses the rows that made it
    necessary. That is why parts of days to come are made ahead; what remains is the first row of a day that lies further away.
    """
    wanted = {name_of(table, begin): (begin, end) for begin, end in (span(table, day) for day in days)}
    home = home_of(schema)
    made: list[str] = []
    if not _missing(connection, home, wanted):
        return made
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        for name in _missing(connection, home, wanted):  # again: another maker may have been first
            begin, end = wanted[name]
            # LIKE and ATTACH: CREATE ... PARTITION OF would wait for every SELECT on the table, and hold up all that come after it.
            connection.execute(
                sql.SQL("CREATE TABLE {0} (LIKE {1} INCLUDING ALL)").format(
                    sql.Identifier(home, name), sql.Identifier(schema, table)
                )
            )
            connection.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    sql.Identifier(schema, table), sql.Identifier(home, name), f"{begin} 00:00+00", f"{end} 00:00+00"
                )
            )
            made.append(name)
    return made


def missing(connection: Connection, schema: str, table: str, days: Iterable[date]) -> psycopg.Cursor[Any]:
    """Ask for the names of parts that rows of these days need and that are not there: within a pipeline, fetch them behind it."""
    return _ask_missing(connection, home_of(schema), {name_of(table, span(table, day)[0]) for day in days})


def _missing(connection: Connection, home: str, wanted: Iterable[str]) -> list[str]:
    return [row[0] for row in _ask_missing(connection, home, wanted).fetchall()]


def _ask_missing(connection: Connection, home: str, wanted: Iterable[str]) -> psycopg.Cursor[Any]:
    return connection.execute(
        "SELECT n FROM unnest(%s::text[]) n WHERE to_regclass(quote_ident(%s) || '.' || quote_ident(n)) IS NULL",
        (sorted(wanted), home),
    )


def make_ahead(connection: Connection, schema: str = CORE, now: datetime | None = None) -> list[str]:
    """The part of now and the next ones of every table; what was made."""
    today = (now or datetime.now(UTC)).date()
    made: list[str] = []
    for table, every in PARTED.items():
        step = timedelta(days=1 if every == "day" else 7)
        made += ensure(connection, schema, table, [today + n * step for n in range(AHEAD + 1)])
    return made


def parts(connection: Connection, schema: str = CORE) -> list[Part]:
    """All parts, oldest first."""
    rows = connection.execute(
        "SELECT t.name, c.relname, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid),"
        " CASE WHEN i.inhrelid IS NULL THEN 'loose' WHEN i.inhdetachpending THEN 'detaching' ELSE 'attached' END"
        " FROM unnest(%s::text[]) AS t(name) JOIN pg_class c ON c.relkind = 'r' AND c.relname ~ ('^' || t.name || '_[0-9]{8}$')"
        " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s LEFT JOIN pg_inherits i ON i.inhrelid = c.oid"
        " ORDER BY t.name, c.relname",
        (list(PARTED), home_of(schema)),
    ).fetchall()
    return [
        Part(table, name, *span(table, datetime.strptime(name[-8:], "%Y%m%d").date()), count, size, state)
        for table, name, count, size, state in rows
    ]


def retire(connection: Connection, part: Part, directory: Path, schema: str = CORE) -> tuple[Path, int]:
    """Write a part to Parquet, take it off without holding anybody up, compare, drop it; (file, rows).

    `connection` must be in autocommit mode. Repeating it after a crash at any point goes on where it stopped.
    Raises `BadParts` where rows came while the file was written: nothing is lost, try again later.
    """
    child = sql.Identifier(home_of(schema), part.name)
    file = directory / f"{part.name}.parquet"
    directory.mkdir(parents=True, exist_ok=True)
    count = _export(connection, child, file)
    how = {"attached": "CONCURRENTLY", "detaching": "FINALIZE"}.get(part.state)
    if how is not None:
        connection.execute(
            sql.SQL(f"ALTER TABLE {{}} DETACH PARTITION {{}} {how}").format(sql.Identifier(schema, part.table), child)
        )
    now = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(child)).fetchone()
    if now != (count,):
        _attach(connection, schema, part, child)
        raise BadParts(f"part {part.name} has {now and now[0]} rows, its file {count}: rows came meanwhile; try again")
    connection.execute(sql.SQL("DROP TABLE {}").format(child))
    return file, count


def _attach(connection: Connection, schema: str, part: Part, child: sql.Identifier) -> None:
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier(schema, part.table), child, f"{part.begin} 00:00+00", f"{part.end} 00:00+00"
        )
    )


def _export(connection: Connection, child: sql.Identifier, file: Path) -> int:
    """All rows as Parquet, on the disk before the file has its name. JSON is text, times are UTC microseconds."""
    from chimera.projections.parquet import write_parquet

    unfinished = file.with_suffix(".unfinished")
    with connection.transaction(), connection.cursor(name="part") as cursor:
        cursor.itersize = _ROWS
        cursor.execute(sql.SQL("SELECT * FROM {}").format(child))
        count = write_parquet(unfinished, [(c.name, c.type_code) for c in cursor.description or ()], _batches(cursor))
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    unfinished.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return count


def _batches(cursor: Any) -> Iterator[list[tuple[Any, ...]]]:
    while batch := cursor.fetchmany(_ROWS):
        yield batch
