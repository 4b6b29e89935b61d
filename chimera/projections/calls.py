"""`chimera.calls` as rows: one per MCP call. No fold: a call changes no state.

The rule not to break: a record that cannot be read still becomes a row (`result_class` unreadable), so that counts stay true.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson
from psycopg import sql

from chimera.events.raw import RawRecord
from chimera.projections import following
from chimera.projections.batch import Entry, Stretch
from chimera.projections.parking import Parking, reason_of
from chimera.projections.rows import Insert, Row, Table, as_json, clipped, money, real, ts
from chimera.projections.write import REFUSED, Connection, place, write

log = logging.getLogger(__name__)

CALLS = "chimera.calls"
GATHER_MS = 200
"""Nobody waits for the row of a call: the broker is asked once in so long, instead of answering once per append."""
TOGETHER_S = 0.02
"""What the broker sends together comes partition by partition within this time, and is one transaction."""
TOGETHER_BUSY_S = 0.8
"""While many calls are made, those of about a second are one transaction."""
MODEL_SET = "calls"
TOOL_CALLS = Table(
    "tool_calls",
    ("partition", "offset"),
    (
        "agent_id", "tenant", "profile", "mode", "capability", "tool", "account", "result_class", "reason", "latency_ms",
        "cost_usd", "arguments_sha256", "argument_shape", "schema_sha256", "correlation", "created_at", "partition", "offset",
    ),
)  # fmt: skip
TABLES = (TOOL_CALLS,)
_RESULT = TOOL_CALLS.columns.index("result_class")
_SEARCHED = 64
"""Records among which refused rows are looked for at once."""

Place = tuple[int, int]
"""Partition and offset of a record."""


def rows(raw: RawRecord, refused: str = "") -> list[Insert]:
    """One row; the record's value is the JSON of a ToolCallRecord. `refused`: why Postgres takes none of what it says."""
    call, defect = ({}, refused) if refused else _read(raw.value)

    def text(name: str) -> str:
        value = call.get(name)
        return value if isinstance(value, str) else ""

    account, latency = call.get("account"), call.get("latency_ms")
    values = (
        clipped((raw.key or b"").decode(errors="replace") or text("agent")),
        text("tenant"), text("profile"), text("mode"), text("capability"), text("tool"),
        account if isinstance(account, str) else None,
        text("result_class") or "unreadable", text("reason") or defect,
        real(float(latency)) if isinstance(latency, int | float) else None,
        _money(call.get("cost_usd")),
        text("arguments_sha256"), as_json(call.get("argument_shape") or {}), text("schema_sha256"), text("correlation"),
        ts(raw.append_ts), raw.partition, raw.offset,
    )  # fmt: skip
    return [Insert(TOOL_CALLS, values)]


def _read(value: bytes | None) -> tuple[dict[str, Any], str]:
    try:
        call = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}, "not JSON"
    return (call, "") if isinstance(call, dict) else ({}, "not a JSON object")


def _money(value: object) -> Decimal:
    try:
        return money(Decimal(str(value or 0)))
    except InvalidOperation:
        return Decimal(0)


def stretches(raws: Sequence[RawRecord], refused: Mapping[Place, str] = MappingProxyType({})) -> list[Stretch]:
    """Rows per partition of records read in order; of those in `refused` only that they were there."""
    made: dict[int, Stretch] = {}
    for raw in raws:
        stretch = made.get(raw.partition)
        if stretch is None:
            stretch = made[raw.partition] = Stretch(raw.topic, raw.partition, raw.offset, raw.offset)
        found = rows(raw, refused.get((raw.partition, raw.offset), ""))
        stretch.entries.append(Entry(MODEL_SET, str(found[0].values[0]), raw.partition, raw.offset, list(found)))
        stretch.unreadable += found[0].values[_RESULT] == "unreadable"
        stretch.end, stretch.last_append_ts, stretch.records = raw.offset + 1, raw.append_ts, stretch.records + 1
    return [made[p] for p in sorted(made)]


def write_calls(connection: Connection, schema: str, raws: Sequence[RawRecord]) -> None:
    """Write what was read in order. A row that Postgres refuses becomes one that says so, counted as unreadable.

    Raises what `write` raises; one of `REFUSED` only where not even that row is taken, which is the schema's fault.
    """
    try:
        _write(connection, schema, stretches(raws))
        return
    except REFUSED as error:
        log.warning("rows of %s are refused, looking for them: %s", raws[0].topic, reason_of(error))
    for begin in range(0, len(raws), _SEARCHED):
        some = raws[begin : begin + _SEARCHED]
        refused = _refused(connection, schema, some)
        _write(connection, schema, stretches(some, refused))
        for (partition, offset), reason in refused.items():
            log.error("the row of %s[%d]%d is refused, it says unreadable instead: %s", some[0].topic, partition, offset, reason)


def _write(connection: Connection, schema: str, made: Sequence[Stretch]) -> None:
    """The rows, and what they add to a day's spend, in one transaction. Raises what `write` raises."""
    with connection.transaction():
        write(connection, schema, MODEL_SET, made, TABLES)
        connection.execute(_spent(schema), ([s.partition for s in made], [s.start for s in made], [s.end for s in made]))


@lru_cache(maxsize=64)
def _spent(schema: str) -> bytes:
    """Sums of the rows that were just written, added to those of their days: a checkpoint moves over each call once."""
    return (
        sql.SQL(
            "INSERT INTO {} AS t SELECT agent_id, correlation, profile, capability, tool, (created_at AT TIME ZONE 'UTC')::date,"
            " md5(concat_ws(E'\\x1f', correlation, profile, capability, tool)), count(*), sum(cost_usd), max(c.partition),"
            ' max(c."offset")'
            " FROM unnest(%s::smallint[], %s::bigint[], %s::bigint[]) AS w(partition, start, until)"
            ' JOIN {} c ON c.partition = w.partition AND c."offset" >= w.start AND c."offset" < w.until'
            " GROUP BY 1, 2, 3, 4, 5, 6, 7"
            " ON CONFLICT (agent_id, day, said) DO UPDATE SET calls = t.calls + EXCLUDED.calls,"
            " cost_usd = t.cost_usd + EXCLUDED.cost_usd,"
            ' partition = EXCLUDED.partition, "offset" = EXCLUDED."offset"'
        )
        .format(sql.Identifier(schema, "spend_daily"), sql.Identifier(schema, TOOL_CALLS.name))
        .as_bytes()
    )


def _refused(connection: Connection, schema: str, raws: Sequence[RawRecord]) -> dict[Place, str]:
    """Which of these records' rows Postgres refuses, and why. Nothing stays written."""
    found = Parking()
    # Each record by itself: that one row is refused says nothing of the agent's next.
    entries = [Entry(MODEL_SET, str(raw.offset), raw.partition, raw.offset, list[Row](rows(raw))) for raw in raws]
    with connection.transaction(force_rollback=True):
        place(connection, schema, entries, TABLES, found)
    return {(entry.partition, entry.offset): reason for entry, reason in found.added}


SIDE: following.Side[Sequence[RawRecord]] = following.Side(
    MODEL_SET, 5_000, lambda raws: raws, write_calls, gather_ms=GATHER_MS, together_s=TOGETHER_S, together_busy_s=TOGETHER_BUSY_S
)


def follow(bootstrap: str, dsn: str, stop: threading.Event, *, schema: str = "core", topic: str = CALLS) -> None:
    """Project until told to stop; see `following.follow`."""
    following.follow(SIDE, bootstrap, dsn, stop, schema=schema, topic=topic)
