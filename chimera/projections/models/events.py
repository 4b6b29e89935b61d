"""The whole log as a table: every record with its ruling."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import (
    BriefChanged,
    CampaignCompleted,
    CampaignStatusSet,
    CardHoldSet,
    Data,
    EffectWithdrawn,
    FundsAnswered,
    FundsRequested,
    FundsSettled,
    PlanDrafted,
    TaskRecord,
)
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


def _numbers(data: Data | None) -> tuple[int | None, int | None, int | None]:
    """Campaign, ordinal and attempt of the record where it has them."""
    if isinstance(data, TaskRecord):
        return small(data.campaign), small(data.ordinal), small(data.attempt)
    if isinstance(data, FundsAnswered | FundsRequested | FundsSettled | EffectWithdrawn | CardHoldSet):
        return small(data.campaign), small(data.ordinal), small(data.attempt)
    if isinstance(data, PlanDrafted | CampaignCompleted | BriefChanged | CampaignStatusSet):
        return small(data.campaign) or None, None, None  # a copy carries none of the agent's numbers
    return None, None, None


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per record. `data` is null where the bytes could not be read: the log keeps them."""
    data = record.data
    return [
        Insert(
            EVENTS,
            (
                clipped(record.key), record.id, record.type, record.version, record.tenant, record.actor,
                record.causation, clipped(record.correlation),
                *_numbers(data),
                ruling.outcome, ruling.reason, ruling.version,
                raw_json(record.value) if record.defect is None else None,
                ts(record.append_ts), record.partition, record.offset,
            ),
        )
    ]  # fmt: skip


MODEL = Model("events", (EVENTS,), rows, types=frozenset({"*"}), outcomes=ANY)
