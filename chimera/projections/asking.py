"""Running somebody's SQL on the read models: one statement, read-only, in time, rolled back.

The rule not to break: no text reaches the server but as a single statement within a read-only transaction.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.projections import views
from chimera.projections.views import ANALYTICS

READER = "pg_read_all_data"
"""What an operator's question runs as: it reads everything and does nothing else. Those who may not take it on ask as they are."""
FETCH = 2_000
CURSOR = "DECLARE answer NO SCROLL CURSOR FOR "
_ROWS = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/|\()*(select|with|values|table)\b", re.IGNORECASE | re.DOTALL)


class NotAnswered(ChimeraError):
    """The database did not answer."""


class Answering(NamedTuple):
    """Columns as (name, PostgreSQL type oid), and batches of rows as they come."""

    columns: list[tuple[str, int]]
    batches: Iterator[Sequence[tuple[Any, ...]]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)


@contextmanager
def asked(
    dsn: str, text: str, *, what: str, timeout_s: float, limit: int = 0, analyst: str | None = None, schema: str = ANALYTICS
) -> Iterator[Answering]:
    """Ask, and read the answer while the context is open.

    `what` names the question in errors and to the server; `limit`: no more rows than that (0 = all); `analyst`: see what this
    role sees; `schema`: where the views are looked for (those of a past). Raises `NotAnswered`, also while rows are read.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=5, application_name=f"chimera {what}"[:60]) as connection:
            try:
                _prepare(connection, timeout_s, analyst, schema)
                yield _run(connection, text, limit)
            finally:
                if not connection.closed:
                    connection.rollback()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        if "analytics_v1" in str(error):
            raise NotAnswered(f"{what}: no read models yet ({first(error)}): start the projector (`chimera up`)") from error
        raise NotAnswered(f"{what}: {first(error)}{_near(error)}; the views are in {ANALYTICS} (`chimera sql --views`)") from error
    except psycopg.errors.QueryCanceled as error:
        raise NotAnswered(f"{what} took more than {timeout_s:g} s: restrict it by time, or give it longer (--timeout)") from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise NotAnswered(f"{what}: {first(error)}: questions change nothing") from error
    except psycopg.Error as error:
        away = isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08")[:2] in ("08", "57")
        hint = " (`chimera status` says whether the database is up)" if away else ""
        raise NotAnswered(f"{what} was not answered: {first(error)}{_where(error, text)}{hint}") from error


def _prepare(connection: psycopg.Connection[Any], timeout_s: float, analyst: str | None, schema: str) -> None:
    connection.read_only = True
    connection.execute(f"SET LOCAL statement_timeout = {max(1, int(timeout_s * 1000))}".encode())
    connection.execute("SET LOCAL timezone TO 'UTC'")
    for name, value in views.PLANNING.items():
        connection.execute(sql.SQL("SET LOCAL {} TO {}").format(sql.Identifier(name), sql.Literal(value)))
    connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
    role = analyst or READER
    if analyst is not None and connection.execute("SELECT 1 FROM access.analysts WHERE role = %s", (analyst,)).fetchone() is None:
        raise NotAnswered(f"there is no analyst '{analyst}' (`chimera analyst list`)")
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
    except psycopg.errors.InsufficientPrivilege as error:
        if analyst is not None:
            raise NotAnswered(f"this user may not see as '{analyst}': {first(error)}") from error


def _run(connection: psycopg.Connection[Any], text: str, limit: int) -> Answering:
    """`prepare=True` sends the statement by the extended protocol, which refuses a second one in the same text."""
    cursor = connection.cursor()
    if _ROWS.match(text):
        cursor.execute((CURSOR + text.strip().rstrip(";")).encode(), prepare=True)
        cursor.execute(f"FETCH {_next(limit, 0)} FROM answer".encode())
        return Answering([(c.name, c.type_code) for c in cursor.description or ()], _batches(cursor, limit))
    cursor.execute(text.encode(), prepare=True)
    columns = [(c.name, c.type_code) for c in cursor.description or ()]
    found = cursor.fetchall() if columns else []
    return Answering(columns, iter([found[:limit] if limit else found]))


def _next(limit: int, seen: int) -> int:
    return min(FETCH, limit - seen) if limit else FETCH


def _batches(cursor: psycopg.Cursor[Any], limit: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    seen = 0
    while True:
        asked_for = _next(limit, seen)
        rows = cursor.fetchall()
        seen += len(rows)
        yield rows
        if len(rows) < asked_for or (limit and seen >= limit):
            return
        cursor.execute(f"FETCH {_next(limit, seen)} FROM answer".encode())


def _near(error: psycopg.Error) -> str:
    """The view that may have been meant."""
    named = re.search(r'relation "([^"]+)"', first(error))
    meant = difflib.get_close_matches(named[1], [view.name for view in views.views()], 1) if named else []
    return f" (did you mean {meant[0]}?)" if meant else ""


def _where(error: psycopg.Error, text: str) -> str:
    """PostgreSQL's own hint, and the line of the question that it stumbled over."""
    hint = f"; {error.diag.message_hint}" if error.diag.message_hint else ""
    asked_for = (CURSOR if _ROWS.match(text) else "") + text.strip()
    place = int(error.diag.statement_position or 0) - 1
    if not len(CURSOR) * bool(_ROWS.match(text)) <= place < len(asked_for) or "\n" not in text.strip():
        return hint
    number = asked_for.count("\n", 0, place)
    return f" (line {number + 1}: {asked_for.splitlines()[number].removeprefix(CURSOR).strip()[:80]}){hint}"


def first(error: psycopg.Error) -> str:
    """The first line of what PostgreSQL says."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
