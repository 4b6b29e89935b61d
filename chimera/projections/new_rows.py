"""New rows by COPY: those of appended tables, and many at once of a table whose rows change later.

The rule not to break: a row that is there is never written over from here; what could not be written is left to who asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter

import psycopg
from psycopg import sql

from chimera.projections.batch import Key, Pending
from chimera.projections.copying import ROWS, Unwritable, copy_text
from chimera.projections.parking import Connection
from chimera.projections.rows import Table, Value

FEW = 200
"""Up to so many new rows of a table travel with the rows that change: a COPY of their own costs two more round trips."""


def append(connection: Connection, schema: str, table: Table, rows: Sequence[tuple[Value, ...]]) -> None:
    """Rows of an appended table, within the caller's transaction. Raises `Unwritable`."""
    if rows:
        _copy(connection, schema, table, table.columns, rows)


def open_new(
    connection: Connection, schema: str, table: Table, columns: tuple[str, ...], entries: list[tuple[Key, Pending]]
) -> list[tuple[Key, Pending]]:
    """Write the fresh ones of `entries`, which all speak of these columns (two at least), within the caller's transaction.

    Returns what is left to be written in another way: all of them where few are fresh, or where the row of a fresh one is there.
    Raises `Unwritable`.
    """
    fresh = [(key, pending) for key, pending in entries if pending.fresh]
    if len(fresh) <= FEW:
        return entries
    named = itemgetter(*columns)
    try:
        with connection.transaction():
            _copy(connection, schema, table, (*table.key, *columns), [key + named(pending.values) for key, pending in fresh])
    except psycopg.errors.UniqueViolation:
        return entries
    return [(key, pending) for key, pending in entries if not pending.fresh]


def _copy(connection: Connection, schema: str, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Value, ...]]) -> None:
    try:
        texts = [copy_text(rows[start : start + ROWS]) for start in range(0, len(rows), ROWS)]
    except Unwritable as error:
        raise Unwritable(f"{table.name}: {error}") from error
    with connection.cursor() as cursor, cursor.copy(_copied(schema, table, columns)) as copy:
        for text in texts:
            copy.write(text)


@lru_cache(maxsize=1024)
def _copied(schema: str, table: Table, columns: tuple[str, ...]) -> bytes:
    named = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(schema, table.name), named).as_bytes()
