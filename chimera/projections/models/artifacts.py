"""What workers and editors made: one row per artifact that counted."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, HumanEdited
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import COUNTS, Insert, Model, Row, Table, as_json, big, money, real, ts

ARTIFACTS = Table(
    "artifacts",
    ("partition", "offset"),
    (
        "agent_id", "campaign", "ordinal", "attempt", "edit", "kind", "artifact_hash", "content", "confidence", "risk_tags",
        "disclosure_level", "taint", "sources", "provenance", "cost_usd", "input_state_version", "actor", "created_at",
        "partition", "offset",
    ),
)  # fmt: skip


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """Edit 0 is the worker's own, higher ones are a person's; an editor states no confidence."""
    data = record.data
    if isinstance(data, ArtifactProduced):
        return [
            Insert(
                ARTIFACTS,
                (
                    record.key, data.campaign, data.ordinal, data.attempt, 0, data.kind, data.artifact_hash, as_json(data.content),
                    real(data.confidence_score), data.risk_tags, data.disclosure_level, data.taint, as_json(data.sources),
                    as_json(data.provenance), money(data.cost_usd), big(data.input_state_version), record.actor,
                    ts(record.append_ts), record.partition, record.offset,
                ),
            )
        ]  # fmt: skip
    if isinstance(data, HumanEdited):
        return [
            Insert(
                ARTIFACTS,
                (
                    record.key, data.campaign, data.ordinal, data.attempt, data.edit, "edited", data.artifact_hash,
                    as_json(data.content), None, [], data.effect.disclosure, None, b"[]", b"{}", 0,
                    big(data.effect.input_state_version), record.actor, ts(record.append_ts), record.partition, record.offset,
                ),
            )
        ]  # fmt: skip
    return []


MODEL = Model("artifacts", (ARTIFACTS,), rows, types=frozenset({"ArtifactProduced", "HumanEdited"}), outcomes=COUNTS)
