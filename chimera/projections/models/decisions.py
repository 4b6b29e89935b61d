"""What people decided about cards: approved, rejected, edited."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import HumanApproved, HumanEdited, HumanRejected
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import Insert, Model, Row, Table, Value, big, ts

DECISIONS = Table(
    "decisions",
    ("partition", "offset"),
    (
        "agent_id", "campaign", "ordinal", "attempt", "edit", "decision", "reviewer", "reason_code", "comment", "policy_edition",
        "effect_hash", "artifact_hash", "shown_hash", "ruling", "reason", "created_at", "partition", "offset",
    ),
)  # fmt: skip


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per decision; the person is the record's actor, hashes are those that the person decided on."""
    data = record.data
    what: tuple[Value, Value, Value, Value]
    if isinstance(data, HumanApproved):
        what = ("approved", None, data.effect_hash, data.artifact_hash)
    elif isinstance(data, HumanRejected):
        what = ("rejected", data.reason_code, data.effect_hash, None)
    elif isinstance(data, HumanEdited):
        what = ("edited", None, data.effect.effect_hash, data.artifact_hash)
    else:
        return []
    decision, code, effect_hash, artifact_hash = what
    return [
        Insert(
            DECISIONS,
            (
                record.key, data.campaign, data.ordinal, data.attempt, data.edit, decision, record.actor, code, data.comment,
                big(data.policy_edition), effect_hash, artifact_hash, data.shown_hash, ruling.outcome, ruling.reason,
                ts(record.append_ts), record.partition, record.offset,
            ),
        )
    ]  # fmt: skip


MODEL = Model("decisions", (DECISIONS,), rows, types=frozenset({"HumanApproved", "HumanRejected", "HumanEdited"}))
