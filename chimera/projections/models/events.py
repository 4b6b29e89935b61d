"""The whole log as a table: every record with its ruling."""

from __future__ import annotations

from typing import Any

from chimera.events.envelope import Record
from chimera.events.records import (
    ALL,
    BriefChanged,
    CampaignCompleted,
    CampaignStatusSet,
    CardHoldSet,
    EffectWithdrawn,
    FundsAnswered,
    FundsRequested,
    FundsSettled,
    PlanDrafted,
    TaskRecord,
)
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import ANY, Insert, Model, Row, Table, clipped, raw_json, ts

EVENTS = Table(
    "events",
    ("partition", "offset"),
    (
        "stream", "record_id", "type", "schemaversion", "tenant", "actor", "causation", "correlation",
        "campaign", "ordinal", "attempt", "outcome", "reason", "state_version", "data", "created_at", "partition", "offset",
    ),
)  # fmt: skip


_ABOUT_A_TASK = frozenset((
    *(model for model in ALL if issubclass(model, TaskRecord)),
    FundsAnswered, FundsRequested, FundsSettled, EffectWithdrawn, CardHoldSet,
))  # fmt: skip
_ABOUT_A_CAMPAIGN = frozenset((PlanDrafted, CampaignCompleted, BriefChanged, CampaignStatusSet))
Numbers = tuple[int | None, int | None, int | None]


def _numbers(data: Any) -> Numbers:
    """Campaign, ordinal and attempt of the record where it has them."""
    kind = type(data)
    if kind in _ABOUT_A_TASK:
        return data.campaign, data.ordinal, data.attempt
    if kind in _ABOUT_A_CAMPAIGN:
        return data.campaign or None, None, None  # a copy carries none of the agent's numbers
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
