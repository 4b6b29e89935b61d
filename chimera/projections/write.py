"""Stretches into Postgres: one transaction, few statements, the checkpoint moved first by compare-and-set.

The rule not to break: nothing is written unless every checkpoint stood where its stretch begins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from contextlib import ExitStack
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import psycopg
from psycopg import sql

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.projections import parking, parts
from chimera.projections.agent_rows import moves_of, place_agents, write_agents
from chimera.projections.batch import Batch, Entry, Key, Pending, Stretch, collapse, joined
from chimera.projections.models import TABLES
from chimera.projections.new_rows import FEW, append, open_new
from chimera.projections.parking import Connection, Parking
from chimera.projections.refusals import REFUSED, Disagreement, rows_json
from chimera.projections.rows import Table, Value, ts

__all__ = [
    "FEW",
    "REFUSED",
    "Connection",
    "Disagreement",
    "Moved",
    "Moving",
    "move_checkpoints",
    "place",
    "write",
    "write_batch",
    "write_rows",
]


class Moved(ChimeraError):
    """Another projector moved a checkpoint: this transaction is rolled back."""


def write(
    connection: Connection,
    schema: str,
    model_set: str,
    stretches: Sequence[Stretch],
    tables: Sequence[Table] = TABLES,
    *,
    search: bool = False,
) -> Parking:
    """Write all rows of `stretches` and move their checkpoints, in one transaction; what was parked.

    `search`: find the rows that Postgres refuses and park them, instead of raising one of `REFUSED`.
    Raises `Moved`, `Disagreement`, `TooManyRefused`, `psycopg.Error`; then nothing was written (a lost connection may hide a
    commit that was made: the next compare-and-set tells).
    """
    with connection.transaction():
        with connection.pipeline():
            moving = move_checkpoints(connection, schema, model_set, stretches)
            held_back = parking.ask(connection, schema, stretches)
        moving.check()
        failpoints.here("projector.moved", psycopg.OperationalError)
        found = parking.read(held_back)
        moves = moves_of(stretches, found)
        if search:
            place_agents(connection, schema, moves, found)
        else:
            write_agents(connection, schema, moves)
        batches = [stretch.batch for stretch in stretches if stretch.batch is not None]
        if len(batches) == len(stretches) and not (search or found.parked or found.discarded):  # everything flows
            write_batch(connection, schema, joined(batches), tables)
        else:
            entries = found.flowing(entry for stretch in stretches for entry in stretch.parted())
            if search:
                place(connection, schema, entries, tables, found)
            else:
                write_rows(connection, schema, entries, tables)
        parking.note(connection, schema, found)
        failpoints.here("projector.copied", psycopg.OperationalError)
    failpoints.here("projector.committed", psycopg.OperationalError)
    return found


def write_rows(connection: Connection, schema: str, entries: Sequence[Entry], tables: Sequence[Table]) -> None:
    """All rows of `entries`, within the caller's transaction."""
    write_batch(connection, schema, collapse(entries), tables)


def write_batch(connection: Connection, schema: str, batch: Batch, tables: Sequence[Table]) -> None:
    """All rows of a batch, within the caller's transaction."""
    few = {table.name for table in tables if 0 < len(_appended(batch, table)) <= FEW}
    for table in tables:
        if table.name in parts.PARTED and _appended(batch, table):
            at = table.columns.index("created_at")
            days = {date.fromisoformat(str(row[at])[:10]) for row in _appended(batch, table)}
            parts.ensure(connection, schema, table.name, days)
    _write_together(connection, schema, batch, tables, few)
    for table in tables:
        if table.appended and table.name not in few:
            append(connection, schema, table, _appended(batch, table))


def place(connection: Connection, schema: str, entries: Sequence[Entry], tables: Sequence[Table], found: Parking) -> None:
    """Write `entries`; where some are refused, halve until each refused one is alone, and park its pair.

    Savepoints only: bounded by `MOST_PER_WRITE` pairs times the depth of halving. Raises `TooManyRefused`.
    """
    if not entries:
        return
    try:
        with connection.transaction():
            write_rows(connection, schema, entries, tables)
    except REFUSED as error:
        if len(entries) == 1:
            found.park(entries[0], parking.reason_of(error))
            return
        middle = len(entries) // 2
        place(connection, schema, entries[:middle], tables, found)
        place(connection, schema, found.flowing(entries[middle:]), tables, found)


class Moving(NamedTuple):
    """Checkpoints on their way, within a pipeline: `check` when it has ended."""

    cursor: psycopg.Cursor[Any]
    wanted: int
    model_set: str

    def check(self) -> None:
        """Raises `Moved` where one of them did not stand where its stretch begins."""
        others = self.wanted - self.cursor.rowcount
        if others:
            raise Moved(f"another projector moved {others} of {self.wanted} checkpoints of {self.model_set!r}: rolled back")


def move_checkpoints(connection: Connection, schema: str, model_set: str, stretches: Sequence[Stretch]) -> Moving:
    """Move them all by compare-and-set, within the caller's transaction."""
    rows = [
        {
            "topic": s.topic,
            "partition": s.partition,
            "old": s.start,
            "new": s.end,
            "law": s.law,
            "at": ts(s.last_append_ts) if s.last_append_ts else None,
            "unreadable": s.unreadable,
            "unknown": s.unknown_types,
        }
        for s in stretches
    ]
    cursor = connection.execute(_checkpoints_moved(schema), (orjson.dumps(rows).decode(), model_set))
    return Moving(cursor, len(stretches), model_set)


# Statements are texts that do not change: putting one together costs more than a small transaction's rows.


@lru_cache(maxsize=1024)
def _checkpoints_moved(schema: str) -> bytes:
    return (
        sql.SQL(
            "UPDATE {} c SET next_offset = u.new, law = u.law, last_append_at = coalesce(u.at, c.last_append_at),"
            " moved_at = clock_timestamp(), stopped = NULL, unreadable = c.unreadable + u.unreadable,"
            " unknown_types = c.unknown_types + u.unknown FROM json_to_recordset(%s::json) AS u(topic text, partition smallint,"
            " old bigint, new bigint, law integer, at timestamptz, unreadable bigint, unknown bigint)"
            " WHERE c.model_set = %s AND c.topic = u.topic AND c.partition = u.partition AND c.next_offset = u.old"
        )
        .format(sql.Identifier(schema, "checkpoints"))
        .as_bytes()
    )


# --- rows that change, and the few that are new -----------------------------------------------------------------------


def _write_together(connection: Connection, schema: str, batch: Batch, tables: Sequence[Table], few: Set[str]) -> None:
    """All updates of a table that speak of the same columns are one statement; all statements are one round trip, but for the rows
    that so many new ones are copied ahead of."""
    sent: list[tuple[Table, psycopg.Cursor[Any], list[tuple[Key, Pending]]]] = []
    if not batch.pending and not few:
        return
    with ExitStack() as pipeline:
        pipeline.enter_context(connection.pipeline())
        for table in tables:
            if table.name in few:
                new = [dict(zip(table.columns, row, strict=True)) for row in _appended(batch, table)]
                connection.execute(_inserted(schema, table), (rows_json(new),))
            # Within a batch no key is in two shapes, so the order among them says nothing.
            for (put, columns), entries in _shapes(batch.pending.get(table, {})).items():
                if put and len(entries) > FEW:
                    pipeline.close()  # it takes no COPY; and what these rows refer to is there before them
                    entries = open_new(connection, schema, table, columns, entries)
                    pipeline.enter_context(connection.pipeline())
                payload = rows_json([dict(zip(table.key, key, strict=True)) | p.values for key, p in entries])
                cursor = connection.cursor()
                if put:
                    cursor.execute(_put(schema, table, columns), (payload,))
                elif table.only_while is None:
                    cursor.execute(_set(schema, table, columns), (payload,))
                else:
                    cursor.execute(_set(schema, table, columns), (payload, table.only_while[1]))
                if not put and not table.optional:
                    sent.append((table, cursor, entries))
    for table, cursor, entries in sent:
        if cursor.rowcount != len(entries):
            _name_missing(connection, schema, table, dict(entries))


def _shapes(rows: Mapping[Key, Pending]) -> dict[tuple[bool, tuple[str, ...]], list[tuple[Key, Pending]]]:
    """Rows by what is done and the columns, sorted, that it is done to."""
    as_said: defaultdict[tuple[bool, tuple[str, ...]], list[tuple[Key, Pending]]] = defaultdict(list)
    for key, pending in rows.items():
        as_said[pending.put, tuple(pending.values)].append((key, pending))
    shapes: defaultdict[tuple[bool, tuple[str, ...]], list[tuple[Key, Pending]]] = defaultdict(list)
    for (put, columns), found in as_said.items():  # the few orders that models name columns in
        shapes[put, tuple(sorted(columns))] += found
    return shapes


@lru_cache(maxsize=1024)
def _put(schema: str, table: Table, columns: tuple[str, ...]) -> bytes:
    names = [sql.Identifier(c) for c in (*table.key, *columns)]
    updates = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(c)) for c in columns if c not in table.once]
    return (
        sql.SQL(
            "INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json) ON CONFLICT ({2}) DO UPDATE SET {3}"
        )
        .format(
            sql.Identifier(schema, table.name),
            sql.SQL(", ").join(names),
            sql.SQL(", ").join(names[: len(table.key)]),
            sql.SQL(", ").join(updates),
        )
        .as_bytes()
    )


@lru_cache(maxsize=1024)
def _set(schema: str, table: Table, columns: tuple[str, ...]) -> bytes:
    same = [sql.SQL("t.{0} = u.{0}").format(sql.Identifier(c)) for c in table.key]
    if table.only_while is not None:
        same.append(sql.SQL("t.{} = %s").format(sql.Identifier(table.only_while[0])))
    return (
        sql.SQL("UPDATE {0} t SET {1} FROM json_populate_recordset(NULL::{0}, %s::json) u WHERE {2}")
        .format(
            sql.Identifier(schema, table.name),
            sql.SQL(", ").join(sql.SQL("{0} = u.{0}").format(sql.Identifier(c)) for c in columns),
            sql.SQL(" AND ").join(same),
        )
        .as_bytes()
    )


def _name_missing(connection: Connection, schema: str, table: Table, wanted: dict[tuple[Value, ...], Pending]) -> None:
    rows = [dict(zip(table.key, key, strict=True)) for key in wanted]
    same = sql.SQL(" AND ").join(sql.SQL("t.{0} = u.{0}").format(sql.Identifier(c)) for c in table.key)
    missing = connection.execute(
        sql.SQL(
            "SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json) u WHERE NOT EXISTS (SELECT FROM {0} t WHERE {2})"
        ).format(sql.Identifier(schema, table.name), sql.SQL(", ").join(sql.Identifier("u", c) for c in table.key), same),
        (rows_json(rows),),
    ).fetchone()
    key = tuple(missing) if missing is not None else next(iter(wanted))
    partition = wanted[key].values["partition"]  # every Set carries its record's place (`stamp`)
    assert isinstance(partition, int)
    raise Disagreement(partition, f"{table.name} {key}", "the row to update is not there")


# --- appended rows ----------------------------------------------------------------------------------------------------


def _appended(batch: Batch, table: Table) -> Sequence[tuple[Value, ...]]:
    return batch.appended.get(table, ())


@lru_cache(maxsize=1024)
def _inserted(schema: str, table: Table) -> bytes:
    return (
        sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json)")
        .format(sql.Identifier(schema, table.name), sql.SQL(", ").join(sql.Identifier(c) for c in table.columns))
        .as_bytes()
    )
