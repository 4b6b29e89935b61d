"""`chimera replay verify`: refold the log from 0 into a scratch schema and compare it with the live tables.

The rule not to break: both sides are compared at the same checkpoints; the live side is read in one snapshot and never touched.
What is parked is left out on both sides and named; what was discarded is left out of the refold as well.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.read import read_until
from chimera.events.envelope import decode
from chimera.events.metrics import TOPIC as METRICS
from chimera.events.raw import RawRecord
from chimera.events.security import TOPIC as SECURITY
from chimera.projections import calls, metrics, parts, security
from chimera.projections.agent_rows import AGENTS
from chimera.projections.engine import BATCH, LOG, MODEL_SET, Projector, checkpoints, connect, open_checkpoints
from chimera.projections.models import MODELS, TABLES
from chimera.projections.parking import Parked, listed
from chimera.projections.rows import Table
from chimera.projections.schema import drop, migrate, take_indexes
from chimera.projections.write import Connection

MODEL_OF = {AGENTS.name: AGENTS.name, **{table.name: model.name for model in MODELS for table in model.tables}}
COMPARED: tuple[Table, ...] = (AGENTS, *TABLES, *calls.TABLES, *metrics.TABLES, *security.TABLES)
Write = Callable[[Connection, str, Sequence[RawRecord]], None]


class NothingProjected(ChimeraError):
    """There are no checkpoints: the read models have not begun."""


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


@dataclass(frozen=True)
class Report:
    """What a verification found."""

    records: int
    tables: tuple[Compared, ...]
    difference: Difference | None
    stopped: dict[int, str]
    """Partitions that stand still in the live tables (they are compared at where they stand)."""
    parked: tuple[Parked, ...] = ()
    """What the live tables lack and say so: not compared."""
    unmade: tuple[Parked, ...] = ()
    """What the refold could not make though the live tables have it: not compared, and not equal."""

    @property
    def equal(self) -> bool:
        return self.difference is None and not self.unmade and all(table.equal for table in self.tables)


def verify(
    bootstrap: str,
    dsn: str,
    root_public: str,
    *,
    schema: str = "core",
    topic: str = LOG,
    calls_topic: str = calls.CALLS,
    metrics_topic: str = METRICS,
    security_topic: str = SECURITY,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Refold up to the live tables' checkpoints and compare.

    Raises `NothingProjected`; `ChimeraError` where the log cannot be read or the refold itself cannot be written.
    """
    scratch = f"verify_{secrets.token_hex(6)}"
    with connect(dsn) as live:
        live.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        upto = _checkpoints(live, schema, MODEL_SET, topic)
        if not any(upto.values()):
            raise NothingProjected(f"schema {schema!r} has no projected records: start the projector (`chimera up`) and try again")
        calls_upto = checkpoints(live, schema, calls.MODEL_SET, calls_topic)
        metrics_upto = checkpoints(live, schema, metrics.MODEL_SET, metrics_topic)
        security_upto = checkpoints(live, schema, security.MODEL_SET, security_topic)
        try:
            migrate(dsn, scratch)
            with connect(dsn) as refolded:
                leave_out_discarded(refolded, schema, scratch)
                take_indexes(refolded, scratch)  # nobody looks anything up in there: every table is read once, from end to end
            refold(bootstrap, dsn, root_public, scratch, topic, upto, progress)
            with connect(dsn) as refolded:
                rewrite(refolded, bootstrap, scratch, calls.MODEL_SET, calls_topic, calls_upto, calls.write_calls)
                rewrite(refolded, bootstrap, scratch, metrics.MODEL_SET, metrics_topic, metrics_upto, metrics.write_raws)
                rewrite(refolded, bootstrap, scratch, security.MODEL_SET, security_topic, security_upto, security.write_security)
                parked, parked_again = tuple(listed(live, schema)), tuple(listed(refolded, scratch))
                sides = Sides(live, schema, refolded, scratch, (*parked, *parked_again))
                with ThreadPoolExecutor(1, thread_name_prefix="verify-live") as aside:
                    tables = tuple(_compare(sides, table, aside) for table in COMPARED)
                different = next((COMPARED[i] for i, t in enumerate(tables) if not t.equal), None)
                difference = None if different is None else _first_difference(sides, different)
                if difference is not None:
                    place = {calls.MODEL_SET: calls_topic, metrics.MODEL_SET: metrics_topic, security.MODEL_SET: security_topic}
                    difference = _with_record(difference, bootstrap, place.get(_SET_OF.get(difference.table, ""), topic))
        finally:
            drop(dsn, scratch)
        known = {(p.model, p.stream, p.partition) for p in parked}
        unmade = tuple(p for p in parked_again if (p.model, p.stream, p.partition) not in known)
        return Report(sum(upto.values()), tables, difference, _stopped(live, schema), parked, unmade)


def _checkpoints(live: Connection, schema: str, model_set: str, topic: str) -> dict[int, int]:
    try:
        return checkpoints(live, schema, model_set, topic)
    except psycopg.errors.UndefinedTable as error:
        raise NothingProjected(f"no read models in schema {schema!r}: start the projector (`chimera up`) and try again") from error


def refold(
    bootstrap: str,
    dsn: str,
    root_public: str,
    scratch: str,
    topic: str,
    upto: Mapping[int, int],
    progress: Callable[[int, int], None],
) -> None:
    """The log's own models in the migrated schema `scratch`, from offset 0 up to and without `upto`. Raises `ChimeraError`."""
    projector = Projector(bootstrap, dsn, root_public, schema=scratch, topic=topic, partitions=upto)
    try:
        projector.open(live=False)
        total = sum(upto.values())
        for raws in read_until(bootstrap, topic, upto, None, upto):
            projector.take(raws, BATCH)
            progress(projector.progress.folded, total)
        projector.flush()
        if projector.progress.stopped:
            raise ChimeraError(f"the refold could not be written: {next(iter(projector.progress.stopped.values()))}")
    finally:
        projector.close()


def rewrite(
    refolded: Connection, bootstrap: str, scratch: str, model_set: str, topic: str, upto: Mapping[int, int], write: Write
) -> int:
    """A topic without a fold in the schema `scratch`, from offset 0 up to and without `upto`; how many records."""
    if not any(upto.values()):
        return 0
    open_checkpoints(refolded, scratch, model_set, topic, upto)
    for raws in read_until(bootstrap, topic, upto, None, upto, max_records=BATCH):
        write(refolded, scratch, raws)
    return sum(upto.values())


def leave_out_discarded(refolded: Connection, schema: str, scratch: str) -> None:
    """What people gave up for good is missing from every later rebuild."""
    refolded.execute(
        sql.SQL("INSERT INTO {} SELECT * FROM {}").format(sql.Identifier(scratch, "discarded"), sql.Identifier(schema, "discarded"))
    )


def _stopped(live: Connection, schema: str) -> dict[int, str]:
    query = sql.SQL("SELECT partition, stopped FROM {} WHERE stopped IS NOT NULL ORDER BY 1")
    return {int(p): str(why) for p, why in live.execute(query.format(sql.Identifier(schema, "checkpoints"))).fetchall()}


class Sides(NamedTuple):
    """Both sides of the comparison, and what is left out of it."""

    live: Connection
    schema: str
    refolded: Connection
    scratch: str
    left_out: tuple[Parked, ...]

    def wanted(self, table: Table) -> sql.Composable:
        """The condition on a row `t` of `table` that says that it is compared."""
        out = [p for p in self.left_out if p.model == MODEL_OF.get(table.name)]
        conditions: list[sql.Composable] = []
        if out:
            column = sql.Identifier("t", table.stream_column)
            pairs = sql.SQL(", ").join(sql.SQL("({}, {})").format(p.stream, p.partition) for p in out)
            conditions.append(sql.SQL("({}, t.partition) NOT IN ({})").format(column, pairs))
        if table.name in parts.PARTED:  # what was retired is in files
            kept = [
                part.begin for part in parts.parts(self.live, self.schema) if (part.table, part.state) == (table.name, "attached")
            ]
            conditions.append(sql.SQL("t.created_at >= {}").format(min(kept)) if kept else sql.SQL("false"))
        return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")


def _compare(sides: Sides, table: Table, aside: Executor) -> Compared:
    """Both sides are summed at once, each by a server process of its own."""
    wanted = sides.wanted(table)
    live = aside.submit(_sums, sides.live, sides.schema, table, wanted)
    refolded = _sums(sides.refolded, sides.scratch, table, wanted)
    return Compared(table.name, *live.result(), *refolded)


def _sums(connection: Connection, schema: str, table: Table, wanted: sql.Composable) -> tuple[int, int]:
    """Rows and an order-free checksum: the sum of a 64-bit hash of each row's text."""
    query = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM {} t WHERE {}")
    row = connection.execute(query.format(sql.Identifier(schema, table.name), wanted)).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _first_difference(sides: Sides, table: Table) -> Difference | None:
    """Walk both sides in key order."""
    wanted = sides.wanted(table)
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


_SET_OF = {
    table.name: model_set
    for model_set, tables in (
        (calls.MODEL_SET, calls.TABLES),
        (metrics.MODEL_SET, metrics.TABLES),
        (security.MODEL_SET, security.TABLES),
    )
    for table in tables
}


def _with_record(difference: Difference, bootstrap: str, topic: str) -> Difference:
    """The same, with what the record says of itself."""
    partition, offset = difference.partition, difference.offset
    try:
        raw = next(read_until(bootstrap, topic, [partition], {partition: offset}, {partition: offset + 1}))[0]
    except ChimeraError:  # a place that somebody made up: the row itself is what is wrong
        return difference._replace(topic=topic)
    found = decode(raw)
    said = {"id": found.id, "type": found.type, "actor": found.actor, "append_ts": found.append_ts}
    return difference._replace(topic=topic, record=said)
