"""The whole log as a table: every record with its ruling."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import ANY, Insert, Model, Row, Table, clipped, raw_json, small, ts

EVENTS = Table(
    "events",
    ("partition", "offset"),
    (
        "stream", "record_id", "type", "schemaversion", "tenant", "actor", "causation", "correlation",
        "campaign", "ordinal", "attempt", "outcome", "reason", "state_version", "data", "created_at", "partition", "offset",
    ),
)  # fmt: skip


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per record. `data` is null where the bytes could not be read: the log keeps them."""
    data = record.data
    return [
        Insert(
            EVENTS,
            (
                clipped(record.key), record.id, record.type, record.version, record.tenant, record.actor,
                record.causation, clipped(record.correlation),
                *(small(getattr(data, name, None)) for name in ("campaign", "ordinal", "attempt")),
                ruling.outcome, ruling.reason, ruling.version,
                raw_json(record.value) if record.defect is None else None,
                ts(record.append_ts), record.partition, record.offset,
            ),
        )
    ]  # fmt: skip


MODEL = Model("events", (EVENTS,), rows, types=frozenset({"*"}), outcomes=ANY)
