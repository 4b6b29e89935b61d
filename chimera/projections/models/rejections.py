"""Answers to open debts that did not count."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import Insert, Model, Row, Table, small, ts

REJECTIONS = Table(
    "rejections",
    ("partition", "offset"),
    (
        "agent_id", "type", "reason", "campaign", "ordinal", "attempt", "actor", "state_version", "created_at",
        "partition", "offset",
    ),
)  # fmt: skip


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per rejected record."""
    data = record.data
    numbers = [small(getattr(data, name, None)) for name in ("campaign", "ordinal", "attempt")]
    values = (record.key, record.type, ruling.reason, *numbers, record.actor, ruling.version, ts(record.append_ts))
    return [Insert(REJECTIONS, (*values, record.partition, record.offset))]


MODEL = Model("rejections", (REJECTIONS,), rows, types=frozenset({"*"}), outcomes=frozenset({"rejected"}))
