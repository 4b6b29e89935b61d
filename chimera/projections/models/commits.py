"""Commits: which record completed a quorum, from which version to which."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import COUNTS, Insert, Model, Row, Table, ts

COMMITS = Table(
    "commits",
    ("partition", "offset"),
    (
        "agent_id", "campaign", "ordinal", "attempt", "input_state_version", "output_state_version", "commit_hash", "completed_by",
        "actor", "created_at", "partition", "offset",
    ),
)  # fmt: skip


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """The change's detail is `input_version output_version commit_hash`."""
    out: list[Row] = []
    for change in ruling.changes:
        if change.what == "commit":
            before, after, hash_ = change.detail.split(" ")
            out.append(
                Insert(
                    COMMITS,
                    (
                        record.key, change.campaign, change.ordinal, change.attempt, int(before), int(after), hash_, record.type,
                        record.actor, ts(record.append_ts), record.partition, record.offset,
                    ),
                )
            )  # fmt: skip
    return out


MODEL = Model("commits", (COMMITS,), rows, changes=frozenset({"commit"}), outcomes=COUNTS)
