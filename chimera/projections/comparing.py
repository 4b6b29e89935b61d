"""Two sets of read models side by side: what is compared of each table, its sums, and the first row that differs.

The rule not to break: both sides are asked under the same condition, so what one of them lacks and says so is left out of both.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

from psycopg import sql

from chimera.projections import calls, metrics, parts, security
from chimera.projections.agent_rows import AGENTS
from chimera.projections.checkpoints import LOG
from chimera.projections.models import MODELS, TABLES
from chimera.projections.parking import Parked
from chimera.projections.rows import Table
from chimera.projections.write import Connection

MODEL_OF = {AGENTS.name: AGENTS.name, **{table.name: model.name for model in MODELS for table in model.tables}}
COMPARED: tuple[Table, ...] = (AGENTS, *TABLES, *calls.TABLES, *metrics.TABLES, *security.TABLES)
Sum = tuple[int, int]
"""Rows, and the sum of a 64-bit hash of each row's values: the same in whatever order they lie."""


class Compared(NamedTuple):
    """One table on both sides: rows and the sum of their hashes."""

    table: str
    live_rows: int
    live_sum: int
    refold_rows: int
    refold_sum: int

    @property
    def equal(self) -> bool:
        return (self.live_rows, self.live_sum) == (self.refold_rows, self.refold_sum)


class Difference(NamedTuple):
    """The first place where the tables differ. `partition` and `offset` name the record that wrote the row as refolded
    (or as it is live, where the refold has no such row).
    """

    table: str
    key: dict[str, Any]
    column: str
    live: Any
    refold: Any
    partition: int
    offset: int
    topic: str = LOG
    record: dict[str, Any] | None = None
    """id, type, actor and append_ts (ms) of that record; None where the log has no such place."""


def condition(live: Connection, schema: str, table: Table, left_out: Iterable[Parked]) -> sql.Composable:
    """What says of a row `t` of `table` that it is compared; `schema` is the live side, whose oldest parts may be retired."""
    conditions: list[sql.Composable] = []
    out = sorted({(p.stream, p.partition) for p in left_out if p.model == MODEL_OF.get(table.name)})
    if out:
        pairs = sql.SQL(", ").join(sql.SQL("({}, {})").format(stream, partition) for stream, partition in out)
        conditions.append(sql.SQL("({}, t.partition) NOT IN ({})").format(sql.Identifier("t", table.stream_column), pairs))
    if table.name in parts.PARTED:  # what was retired is in files
        kept = [part.begin for part in parts.parts(live, schema) if (part.table, part.state) == (table.name, "attached")]
        conditions.append(sql.SQL("t.created_at >= {}").format(min(kept)) if kept else sql.SQL("false"))
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")


def summed(connection: Connection, schema: str, table: Table, wanted: sql.Composable) -> Sum:
    """The rows of `table` that are compared, and their sum.

    Values are hashed and not their texts, which would cost as much as four times that (decision 0161): 1.0 and 1.00 are the same.
    """
    query = sql.SQL("SELECT count(*), coalesce(sum(hash_record_extended(t, 0)), 0) FROM {} t WHERE {}")
    row = connection.execute(query.format(sql.Identifier(schema, table.name), wanted)).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


class LiveSums:
    """Sums of the live side, made by the server in the snapshot of `live` while this process folds: nothing of them depends on it.

    `left_out`: what is known to be parked. Until `take` nobody else may use the connection. A context manager: who leaves it by an
    error cancels what is being summed.
    """

    def __init__(self, live: Connection, schema: str, left_out: Collection[Parked]) -> None:
        self._live, self._schema, self._left_out = live, schema, left_out
        self._over = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verify-live")
        self._sums = self._thread.submit(self._sum)

    def _sum(self) -> dict[str, Sum]:
        found: dict[str, Sum] = {}
        for table in COMPARED:
            if self._over.is_set():
                break
            wanted = condition(self._live, self._schema, table, self._left_out)
            found[table.name] = summed(self._live, self._schema, table, wanted)
        return found

    def take(self, also_left_out: Collection[Parked]) -> dict[str, Sum]:
        """Table -> sum, when all are made. What could be known only now to be left out is summed anew without it.

        Raises `psycopg.Error`.
        """
        found = dict(self._sums.result())
        for table in COMPARED:
            if any(p.model == MODEL_OF.get(table.name) for p in also_left_out):
                wanted = condition(self._live, self._schema, table, (*self._left_out, *also_left_out))
                found[table.name] = summed(self._live, self._schema, table, wanted)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        if kind is not None and not self._sums.done():
            self._live.cancel_safe()
        self._thread.shutdown()


class Sides(NamedTuple):
    """Both sides, to be walked."""

    live: Connection
    schema: str
    refolded: Connection
    scratch: str


def first_difference(sides: Sides, table: Table, wanted: sql.Composable) -> Difference | None:
    """Walk both sides in key order."""
    left, right = _rows(sides.live, sides.schema, table, wanted), _rows(sides.refolded, sides.scratch, table, wanted)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None
            return _missing(table, a[1], "only in the live table", "no such row")
        if a is None or b[0] < a[0]:
            return _missing(table, b[1], "no such row", "only in the refold")
        for column, value in b[1].items():
            if a[1][column] != value:
                key = {name: b[1][name] for name in table.key}
                return Difference(table.name, key, column, a[1][column], value, b[1]["partition"], b[1]["offset"])
        a, b = next(left, None), next(right, None)
    return None


def _missing(table: Table, row: dict[str, Any], live: str, refold: str) -> Difference:
    return Difference(table.name, {name: row[name] for name in table.key}, "*", live, refold, row["partition"], row["offset"])


def _rows(
    connection: Connection, schema: str, table: Table, wanted: sql.Composable
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """(key, row as JSON) in key order; text keys in byte order, as Python compares them."""
    texts = {
        row[0]
        for row in connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attcollation <> 0", (f'"{schema}"."{table.name}"',)
        ).fetchall()
    }
    order = sql.SQL(", ").join(
        sql.SQL('t.{} COLLATE "C"').format(sql.Identifier(c)) if c in texts else sql.SQL("t.{}").format(sql.Identifier(c))
        for c in table.key
    )
    query = sql.SQL("SELECT to_jsonb(t) FROM {} t WHERE {} ORDER BY {}").format(sql.Identifier(schema, table.name), wanted, order)
    with connection.transaction(), connection.cursor(name=f"rows_{secrets.token_hex(4)}") as cursor:
        cursor.itersize = 1000
        for (row,) in cursor.execute(query):
            yield tuple(row[c] for c in table.key), row
