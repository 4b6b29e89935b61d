"""Votes of the judges, those that counted and those that were rejected."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import JudgeVerdict
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import Insert, Model, Row, Table, as_json, big, real, ts

VERDICTS = Table(
    "verdicts",
    ("partition", "offset"),
    (
        "agent_id", "campaign", "ordinal", "attempt", "edit", "judge", "decision", "confidence_raw", "confidence", "tags",
        "failed_rules", "reasons", "policy_edition", "input_state_version", "artifact_hash", "effect_hash", "trace", "ruling",
        "reason", "actor", "created_at", "partition", "offset",
    ),
)  # fmt: skip


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per vote."""
    data = record.data
    if not isinstance(data, JudgeVerdict):
        return []
    return [
        Insert(
            VERDICTS,
            (
                record.key, data.campaign, data.ordinal, data.attempt, data.edit, data.judge, data.decision,
                real(data.confidence_raw), real(data.confidence), data.tags, data.failed_rules, data.reasons,
                big(data.policy_edition), big(data.input_state_version), data.artifact_hash, data.effect_hash, as_json(data.trace),
                ruling.outcome, ruling.reason, record.actor, ts(record.append_ts), record.partition, record.offset,
            ),
        )
    ]  # fmt: skip


MODEL = Model("verdicts", (VERDICTS,), rows, types=frozenset({"JudgeVerdict"}))
