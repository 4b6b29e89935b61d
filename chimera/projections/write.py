"""Batches into Postgres: one transaction, few statements, the checkpoint moved first by compare-and-set.

The rule not to break: nothing is written unless every checkpoint of the batch stood where the batch begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import orjson
import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.projections.batch import Batch, Pending, Touched
from chimera.projections.models import TABLES
from chimera.projections.rows import Table, Value, ts

Connection = psycopg.Connection[Any]


class Moved(ChimeraError):
    """Another projector moved a checkpoint: this transaction is rolled back."""


class Disagreement(ChimeraError):
    """The database does not hold what the log says it held before this batch. The partition stops."""

    def __init__(self, partition: int, where: str, text: str) -> None:
        super().__init__(f"partition {partition}: {where}: {text}; rebuild the read models of this partition")
        self.partition = partition


def write(connection: Connection, schema: str, model_set: str, batches: Sequence[Batch], tables: Sequence[Table] = TABLES) -> None:
    """Write all rows of `batches` and move their checkpoints, in one transaction.

    Raises `Moved`, `Disagreement`, `psycopg.Error`; then nothing was written (a lost connection may hide a commit that was
    made: the next compare-and-set tells).
    """
    with connection.transaction():
        _move_checkpoints(connection, schema, model_set, batches)
        _write_agents(connection, schema, batches)
        _write_pending(connection, schema, batches, tables)
        for table in tables:
            if table.appended:
                _copy(connection, schema, table, batches)


def _move_checkpoints(connection: Connection, schema: str, model_set: str, batches: Sequence[Batch]) -> None:
    rows = [
        {
            "topic": b.topic,
            "partition": b.partition,
            "old": b.start,
            "new": b.end,
            "law": b.law,
            "at": ts(b.last_append_ts) if b.last_append_ts else None,
        }
        for b in batches
    ]
    moved = connection.execute(
        sql.SQL(
            "UPDATE {} c SET next_offset = u.new, law = u.law, last_append_at = coalesce(u.at, c.last_append_at),"
            " moved_at = clock_timestamp(), stopped = NULL FROM json_to_recordset(%s::json)"
            " AS u(topic text, partition smallint, old bigint, new bigint, law integer, at timestamptz)"
            " WHERE c.model_set = %s AND c.topic = u.topic AND c.partition = u.partition AND c.next_offset = u.old"
        ).format(sql.Identifier(schema, "checkpoints")),
        (orjson.dumps(rows).decode(), model_set),
    ).rowcount
    if moved != len(batches):
        raise Moved(f"another projector moved {len(batches) - moved} of {len(batches)} checkpoints of {model_set!r}: rolled back")


# --- agents: guarded by state_version ---------------------------------------------------------------------------------

AGENT_COLUMNS = (
    "tenant", "name", "status", "quarantined", "state_version", "command_no", "policy_edition", "open_tasks", "open_campaigns",
    "updated_at", "partition", "offset",
)  # fmt: skip


def _write_agents(connection: Connection, schema: str, batches: Sequence[Batch]) -> None:
    """The database enforces the versions once more: a row is updated only from the version that the fold started from."""
    new: list[dict[str, Any]] = []
    known: list[dict[str, Any]] = []
    for batch in batches:
        for touched in batch.touched.values():
            if touched.before is None:
                new.append(touched.row)
            else:
                known.append(touched.row | {"before": touched.before})
    table = sql.Identifier(schema, "agents")
    columns = sql.SQL(", ").join(sql.Identifier(c) for c in ("agent_id", *AGENT_COLUMNS))
    if new:
        made = connection.execute(
            sql.SQL(
                "INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json)"
                " ON CONFLICT (agent_id) DO NOTHING"
            ).format(table, columns),
            (_payload(new),),
        ).rowcount
        if made != len(new):
            _find_disagreement(connection, schema, batches)
    if known:
        sets = sql.SQL(", ").join(sql.SQL("{0} = u.{0}").format(sql.Identifier(c)) for c in AGENT_COLUMNS)
        moved = connection.execute(
            sql.SQL(
                "UPDATE {0} a SET {1} FROM json_populate_recordset(NULL::{0}, %s::json) u,"
                " json_to_recordset(%s::json) AS v(agent_id text, before bigint)"
                " WHERE a.agent_id = u.agent_id AND v.agent_id = u.agent_id AND a.state_version = v.before"
            ).format(table, sets),
            (_payload(known), _payload([{"agent_id": k["agent_id"], "before": k["before"]} for k in known])),
        ).rowcount
        if moved != len(known):
            _find_disagreement(connection, schema, batches)


def _find_disagreement(connection: Connection, schema: str, batches: Sequence[Batch]) -> None:
    """Name the agent. The rows written so far are rolled back by the caller, so compare with what is visible outside."""
    all_touched: list[tuple[Batch, Touched]] = [(b, t) for b in batches for t in b.touched.values()]
    found = connection.execute(
        sql.SQL('SELECT agent_id, state_version, "offset" FROM {} WHERE agent_id = ANY(%s)').format(
            sql.Identifier(schema, "agents")
        ),
        ([t.row["agent_id"] for _, t in all_touched],),
    ).fetchall()
    held = {row[0]: (row[1], row[2]) for row in found}
    for batch, touched in all_touched:
        at = held.get(touched.row["agent_id"])
        written_now = at is not None and at == (touched.row["state_version"], touched.row["offset"])
        if touched.before is None and at is not None and not written_now:
            raise Disagreement(
                batch.partition, f"agent {touched.row['name']!r} ({touched.row['agent_id']})", f"already there at version {at[0]}"
            )
        if touched.before is not None and not written_now:
            has = "no row" if at is None else f"version {at[0]}"
            raise Disagreement(
                batch.partition,
                f"agent {touched.row['name']!r} ({touched.row['agent_id']})",
                f"state_version before the batch is {touched.before} in the log, {has} in the database",
            )
    raise Disagreement(batches[0].partition, "agents", "rows do not match the log")


# --- rows that change -------------------------------------------------------------------------------------------------


def _write_pending(connection: Connection, schema: str, batches: Sequence[Batch], tables: Sequence[Table]) -> None:
    """All updates of a table that speak of the same columns are one statement; all statements are one round trip."""
    sent: list[tuple[Table, int, psycopg.Cursor[Any], list[tuple[Value, ...]]]] = []
    with connection.pipeline():
        for table in tables:
            shapes: dict[tuple[bool, tuple[str, ...]], list[tuple[tuple[Value, ...], Pending]]] = {}
            for batch in batches:
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
                    sent.append((table, len(entries), cursor, [key for key, _ in entries]))
    for table, expected, cursor, keys in sent:
        if cursor.rowcount != expected:
            _name_missing(connection, schema, table, keys, batches)


def _put(schema: str, table: Table, columns: tuple[str, ...]) -> sql.Composed:
    names = [sql.Identifier(c) for c in (*table.key, *columns)]
    updates = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(c)) for c in columns if c not in table.once]
    return sql.SQL(
        "INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json) ON CONFLICT ({2}) DO UPDATE SET {3}"
    ).format(
        sql.Identifier(schema, table.name),
        sql.SQL(", ").join(names),
        sql.SQL(", ").join(names[: len(table.key)]),
        sql.SQL(", ").join(updates),
    )


def _set(schema: str, table: Table, columns: tuple[str, ...]) -> sql.Composed:
    same = [sql.SQL("t.{0} = u.{0}").format(sql.Identifier(c)) for c in table.key]
    if table.only_while is not None:
        same.append(sql.SQL("t.{} = %s").format(sql.Identifier(table.only_while[0])))
    return sql.SQL("UPDATE {0} t SET {1} FROM json_populate_recordset(NULL::{0}, %s::json) u WHERE {2}").format(
        sql.Identifier(schema, table.name),
        sql.SQL(", ").join(sql.SQL("{0} = u.{0}").format(sql.Identifier(c)) for c in columns),
        sql.SQL(" AND ").join(same),
    )


def _name_missing(
    connection: Connection, schema: str, table: Table, keys: list[tuple[Value, ...]], batches: Sequence[Batch]
) -> None:
    rows = [dict(zip(table.key, key, strict=True)) for key in keys]
    same = sql.SQL(" AND ").join(sql.SQL("t.{0} = u.{0}").format(sql.Identifier(c)) for c in table.key)
    missing = connection.execute(
        sql.SQL(
            "SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json) u WHERE NOT EXISTS (SELECT FROM {0} t WHERE {2})"
        ).format(sql.Identifier(schema, table.name), sql.SQL(", ").join(sql.Identifier("u", c) for c in table.key), same),
        (_payload(rows),),
    ).fetchone()
    key = tuple(missing) if missing is not None else keys[0]
    for batch in batches:
        if key in batch.pending.get(table.name, (table, {}))[1]:
            raise Disagreement(batch.partition, f"{table.name} {key}", "the row to update is not there")
    raise Disagreement(batches[0].partition, f"{table.name} {key}", "the row to update is not there")


def _payload(rows: Iterable[dict[str, Any]]) -> str:
    text = orjson.dumps(list(rows), default=_plain)
    return (text.replace(b"\\u0000", b"\\ufffd") if b"\\u0000" in text else text).decode()


def _plain(value: object) -> Any:
    return orjson.Fragment(value) if type(value) is bytes else str(value)


# --- appended rows ----------------------------------------------------------------------------------------------------


def _copy(connection: Connection, schema: str, table: Table, batches: Sequence[Batch]) -> None:
    lines: list[str] = []
    for batch in batches:
        found = batch.appended.get(table.name)
        if found is not None:
            lines += ["\t".join([_AS_TEXT[type(value)](value) for value in values]) for values in found[1]]
    if not lines:
        return
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(schema, table.name), sql.SQL(", ").join(sql.Identifier(c) for c in table.columns)
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write("\n".join(lines) + "\n")


def copy_field(value: Value) -> str:
    """One value in COPY's text format."""
    return _AS_TEXT[type(value)](value)


def _escaped(text: str) -> str:
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if text.isprintable():  # the common case: one look instead of four
        return text
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r").replace("\x00", "\ufffd")


def _array(items: list[str]) -> str:
    quoted = ('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items)
    return _escaped("{" + ",".join(quoted) + "}")


_AS_TEXT: dict[type, Callable[[Any], str]] = {
    str: _escaped,
    bytes: lambda value: _escaped(value.decode()),
    int: str,
    float: str,
    bool: lambda value: "t" if value else "f",
    Decimal: lambda value: format(value, "f"),
    list: _array,
    type(None): lambda value: "\\N",
}
