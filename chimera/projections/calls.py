"""`chimera.calls` as rows: one per MCP call. No fold: a call changes no state.

The rule not to break: a record that cannot be read still becomes a row (`result_class` unreadable), so that counts stay true.
"""

from __future__ import annotations

import logging
import threading
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
import psycopg

from chimera.eventlog.read import Reader, end_offsets
from chimera.events.raw import RawRecord
from chimera.projections.batch import Entry, Stretch
from chimera.projections.engine import connect, open_checkpoints
from chimera.projections.leases import Leases
from chimera.projections.rows import Insert, Table, as_json, money, real, ts
from chimera.projections.write import Connection, Moved, write

log = logging.getLogger(__name__)

CALLS = "chimera.calls"
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


def rows(raw: RawRecord) -> list[Insert]:
    """One row; the record's value is the JSON of a ToolCallRecord."""
    call, defect = _read(raw.value)

    def text(name: str) -> str:
        value = call.get(name)
        return value if isinstance(value, str) else ""

    account, latency = call.get("account"), call.get("latency_ms")
    values = (
        (raw.key or b"").decode(errors="replace") or text("agent"),
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


def stretches(raws: list[RawRecord]) -> list[Stretch]:
    """Rows per partition of records read in order."""
    made: dict[int, Stretch] = {}
    for raw in raws:
        stretch = made.get(raw.partition)
        if stretch is None:
            stretch = made[raw.partition] = Stretch(raw.topic, raw.partition, raw.offset, raw.offset)
        found = rows(raw)
        stretch.entries.append(Entry(MODEL_SET, str(found[0].values[0]), raw.partition, raw.offset, list(found)))
        stretch.unreadable += found[0].values[_RESULT] == "unreadable"
        stretch.end, stretch.last_append_ts, stretch.records = raw.offset + 1, raw.append_ts, stretch.records + 1
    return [made[p] for p in sorted(made)]


def follow(bootstrap: str, dsn: str, stop: threading.Event, *, schema: str = "core", topic: str = CALLS) -> None:
    """Project until told to stop. Without a fold, any trouble is answered by reading on from the checkpoints in Postgres."""
    delay = 0.1
    connection: Connection | None = None
    while not stop.is_set():
        try:
            connection = connect(dsn)
            lease = Leases(f"{schema} {MODEL_SET} {topic}", [0])  # one process is enough: there is nothing to fold
            while not lease.renew(connection) and not stop.is_set():
                stop.wait(1.0)
            start = open_checkpoints(connection, schema, MODEL_SET, topic, end_offsets(bootstrap, topic))
            with Reader(bootstrap, topic, start, client_id="chimera-projector-calls") as reader:
                delay = 0.1
                while not stop.is_set():
                    raws = reader.read(5_000, 0.25)
                    if raws:
                        write(connection, schema, MODEL_SET, stretches(raws), TABLES)
        except (Moved, psycopg.OperationalError) as error:
            log.warning("%s: %s; starting over from the checkpoints in %.1f s", topic, str(error).splitlines()[0], delay)
            stop.wait(delay)
            delay = min(delay * 2, 5.0)
        finally:
            if connection is not None:
                connection.close()
