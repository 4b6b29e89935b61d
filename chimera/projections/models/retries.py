"""Attempts that ended without success while the task goes on, and why."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import Insert, Model, Row, Table, ts

RETRIES = Table(
    "retries",
    ("partition", "offset", "agent_id", "campaign", "ordinal"),
    (
        "agent_id", "campaign", "ordinal", "attempt", "reason", "cause", "failures", "created_at", "partition", "offset",
    ),
)  # fmt: skip


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """A task that goes back to `planned` from an attempt is a retry."""
    out: list[Row] = []
    for change in ruling.changes:
        if change.what != "task" or change.status != "planned" or change.attempt == 0:
            continue
        campaign = None if agent is None else agent.campaigns.get(change.campaign)
        task = None if campaign is None else campaign.tasks.get(change.ordinal)
        out.append(
            Insert(
                RETRIES,
                (
                    record.key, change.campaign, change.ordinal, change.attempt, change.reason, record.type,
                    0 if task is None else task.failures, ts(record.append_ts), record.partition, record.offset,
                ),
            )
        )  # fmt: skip
    return out


MODEL = Model("retries", (RETRIES,), rows, changes=frozenset({"task"}), statuses=frozenset({"planned"}))
