"""Stretches into Postgres: one transaction, few statements, the checkpoint moved first by compare-and-set.

The rule not to break: nothing is written unless every checkpoint stood where its stretch begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import psycopg
from psycopg import sql

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.projections import parking, parts
from chimera.projections.batch import Batch, Entry, Pending, Stretch, Touched, collapse, joined
from chimera.projections.copying import ROWS, Unwritable, copy_text
from chimera.projections.models import TABLES
from chimera.projections.parking import Parking
from chimera.projections.rows import Table, Value, clipped, ts

Connection = psycopg.Connection[Any]


class Moved(ChimeraError):
    """Another projector moved a checkpoint: this transaction is rolled back."""


class Disagreement(ChimeraError):
    """The database does not hold what the log says it held before this batch. The partition stops."""

    def __init__(self, partition: int, where: str, text: str) -> None:
        super().__init__(f"partition {partition}: {where}: {text}; rebuild the read models of this partition")
        self.partition = partition


REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded, Unwritable)
"""What says that a row, and not the database, is at fault."""


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
        moves = _moves(stretches, found)
        if search:
            _place_agents(connection, schema, moves, found)
        else:
            _write_agents(connection, schema, moves)
        batches = [stretch.batch for stretch in stretches if stretch.batch is not None]
        if len(batches) == len(stretches) and not (search or found.parked or found.discarded):  # everything flows
            write_batch(connection, schema, joined(batches), tables)
        else:
            entries = found.flowing(entry for stretch in stretches for entry in stretch.entries)
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
            _copy(connection, schema, table, batch)


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


# --- agents: guarded by state_version ---------------------------------------------------------------------------------

AGENTS = Table("agents", ("agent_id",))
"""The engine's own model: one row per agent, its state as it is now."""
AGENT_COLUMNS = (
    "tenant", "name", "status", "quarantined", "state_version", "command_no", "policy_edition", "open_tasks", "open_campaigns",
    "updated_at", "partition", "offset",
)  # fmt: skip


class _Move(NamedTuple):
    """An agent that a stretch moved, as an entry that can be parked."""

    entry: Entry
    touched: Touched


def _moves(stretches: Sequence[Stretch], found: Parking) -> list[_Move]:
    """Those agents' rows that are to be written; the parked ones are counted."""
    every = {}
    for stretch in stretches:
        for key, touched in stretch.touched.items():
            entry = Entry(AGENTS.name, clipped(key), stretch.partition, int(touched.row["offset"]), [])
            every[entry.pair] = _Move(entry, touched)
    return [every[entry.pair] for entry in found.flowing(move.entry for move in every.values())]


def _place_agents(connection: Connection, schema: str, moves: Sequence[_Move], found: Parking) -> None:
    """Write rows of agents; where some are refused, halve until each is alone, and park it. Raises `Disagreement`."""
    if not moves:
        return
    try:
        with connection.transaction():
            _write_agents(connection, schema, moves)
    except REFUSED as error:
        if len(moves) == 1:
            found.park(moves[0].entry, parking.reason_of(error))
            return
        middle = len(moves) // 2
        _place_agents(connection, schema, moves[:middle], found)
        _place_agents(connection, schema, moves[middle:], found)


def put_agent(connection: Connection, schema: str, row: Mapping[str, Any]) -> None:
    """The row of an agent as healing finds it, whatever is there now, within the caller's transaction."""
    table = sql.Identifier(schema, AGENTS.name)
    connection.execute(
        sql.SQL(
            "INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json)"
            " ON CONFLICT (agent_id) DO UPDATE SET {2}"
        ).format(
            table,
            sql.SQL(", ").join(sql.Identifier(c) for c in ("agent_id", *AGENT_COLUMNS)),
            sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(c)) for c in AGENT_COLUMNS),
        ),
        (_payload([dict(row)]),),
    )


def _write_agents(connection: Connection, schema: str, moves: Sequence[_Move]) -> None:
    """The database enforces the versions once more: a row is updated only from the version that the fold started from."""
    new = [touched.row for _, touched in moves if touched.before is None]
    known = [touched.row | {"before": touched.before} for _, touched in moves if touched.before is not None]
    sent: list[tuple[psycopg.Cursor[Any], int]] = []
    if not moves:
        return
    with connection.pipeline():
        if new:
            sent.append((connection.execute(_agents_made(schema), (_payload(new),)), len(new)))
        if known:
            before = _payload([{"agent_id": k["agent_id"], "before": k["before"]} for k in known])
            sent.append((connection.execute(_agents_moved(schema), (_payload(known), before)), len(known)))
    if any(cursor.rowcount != wanted for cursor, wanted in sent):
        _find_disagreement(connection, schema, moves)


@lru_cache(maxsize=1024)
def _agents_made(schema: str) -> bytes:
    return (
        sql.SQL(
            "INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json) ON CONFLICT (agent_id) DO NOTHING"
        )
        .format(sql.Identifier(schema, "agents"), sql.SQL(", ").join(sql.Identifier(c) for c in ("agent_id", *AGENT_COLUMNS)))
        .as_bytes()
    )


@lru_cache(maxsize=1024)
def _agents_moved(schema: str) -> bytes:
    return (
        sql.SQL(
            "UPDATE {0} a SET {1} FROM json_populate_recordset(NULL::{0}, %s::json) u,"
            " json_to_recordset(%s::json) AS v(agent_id text, before bigint)"
            " WHERE a.agent_id = u.agent_id AND v.agent_id = u.agent_id AND a.state_version = v.before"
        )
        .format(
            sql.Identifier(schema, "agents"),
            sql.SQL(", ").join(sql.SQL("{0} = u.{0}").format(sql.Identifier(c)) for c in AGENT_COLUMNS),
        )
        .as_bytes()
    )


def _find_disagreement(connection: Connection, schema: str, moves: Sequence[_Move]) -> None:
    """Name the agent. The rows written so far are rolled back by the caller, so compare with what is visible outside."""
    found = connection.execute(
        sql.SQL('SELECT agent_id, state_version, "offset" FROM {} WHERE agent_id = ANY(%s)').format(
            sql.Identifier(schema, "agents")
        ),
        ([touched.row["agent_id"] for _, touched in moves],),
    ).fetchall()
    held = {row[0]: (row[1], row[2]) for row in found}
    for entry, touched in moves:
        at = held.get(touched.row["agent_id"])
        written_now = at is not None and at == (touched.row["state_version"], touched.row["offset"])
        if touched.before is None and at is not None and not written_now:
            raise Disagreement(
                entry.partition, f"agent {touched.row['name']!r} ({touched.row['agent_id']})", f"already there at version {at[0]}"
            )
        if touched.before is not None and not written_now:
            has = "no row" if at is None else f"version {at[0]}"
            raise Disagreement(
                entry.partition,
                f"agent {touched.row['name']!r} ({touched.row['agent_id']})",
                f"state_version before the batch is {touched.before} in the log, {has} in the database",
            )
    raise Disagreement(moves[0].entry.partition, "agents", "rows do not match the log")


# --- rows that change, and the few that are new -----------------------------------------------------------------------

FEW = 200
"""Up to so many new rows of a table travel with the rows that change: a COPY of their own costs two more round trips."""


def _write_together(connection: Connection, schema: str, batch: Batch, tables: Sequence[Table], few: Set[str]) -> None:
    """All updates of a table that speak of the same columns are one statement; all statements are one round trip."""
    sent: list[tuple[Table, psycopg.Cursor[Any], list[tuple[tuple[Value, ...], Pending]]]] = []
    if not batch.pending and not few:
        return
    with connection.pipeline():
        for table in tables:
            if table.name in few:
                new = [dict(zip(table.columns, row, strict=True)) for row in _appended(batch, table)]
                connection.execute(_inserted(schema, table), (_payload(new),))
            shapes: dict[tuple[bool, tuple[str, ...]], list[tuple[tuple[Value, ...], Pending]]] = {}
            for key, pending in batch.pending.get(table.name, (table, {}))[1].items():
                shapes.setdefault((pending.put, tuple(sorted(pending.values))), []).append((key, pending))
            # Within a batch no key is in two shapes, so the order among them says nothing.
            for (put, columns), entries in shapes.items():
                payload = _payload([dict(zip(table.key, key, strict=True)) | p.values for key, p in entries])
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
        (_payload(rows),),
    ).fetchone()
    key = tuple(missing) if missing is not None else next(iter(wanted))
    partition = wanted[key].values["partition"]  # every Set carries its record's place (`stamp`)
    assert isinstance(partition, int)
    raise Disagreement(partition, f"{table.name} {key}", "the row to update is not there")


def _payload(rows: Iterable[dict[str, Any]]) -> str:
    try:
        text = orjson.dumps(list(rows), default=_plain)
    except TypeError as error:
        raise Unwritable(str(error)) from error
    return (text.replace(b"\\u0000", b"\\ufffd") if b"\\u0000" in text else text).decode()


def _plain(value: object) -> Any:
    return orjson.Fragment(value) if type(value) is bytes else str(value)


# --- appended rows ----------------------------------------------------------------------------------------------------


def _appended(batch: Batch, table: Table) -> Sequence[tuple[Value, ...]]:
    found = batch.appended.get(table.name)
    return () if found is None else found[1]


def _copy(connection: Connection, schema: str, table: Table, batch: Batch) -> None:
    rows = _appended(batch, table)
    if not rows:
        return
    try:
        texts = [copy_text(rows[start : start + ROWS]) for start in range(0, len(rows), ROWS)]
    except Unwritable as error:
        raise Unwritable(f"{table.name}: {error}") from error
    with connection.cursor() as cursor, cursor.copy(_copied(schema, table)) as copy:
        for text in texts:
            copy.write(text)


@lru_cache(maxsize=1024)
def _copied(schema: str, table: Table) -> bytes:
    columns = sql.SQL(", ").join(sql.Identifier(c) for c in table.columns)
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(schema, table.name), columns).as_bytes()


@lru_cache(maxsize=1024)
def _inserted(schema: str, table: Table) -> bytes:
    return (
        sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json)")
        .format(sql.Identifier(schema, table.name), sql.SQL(", ").join(sql.Identifier(c) for c in table.columns))
        .as_bytes()
    )
