"""Records that changed nothing: late copies, forgeries, bytes that cannot be read."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import Insert, Model, Row, Table, clipped, ts

VOIDS = Table(
    "voids",
    ("partition", "offset"),
    ("stream", "record_id", "type", "reason", "detail", "actor", "created_at", "partition", "offset"),
)


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per void record; `detail` says what could not be read, never the content."""
    values = (clipped(record.key), record.id, record.type, ruling.reason, record.defect or "", record.actor, ts(record.append_ts))
    return [Insert(VOIDS, (*values, record.partition, record.offset))]


MODEL = Model("voids", (VOIDS,), rows, types=frozenset({"*"}), outcomes=frozenset({"void"}))
