"""Cards: effects that wait, or waited, for people."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, HumanApproved, HumanEdited, HumanRejected
from chimera.events.state import Agent, Change, Effect, Ruling
from chimera.projections.rows import Model, Put, Row, Set, Table, Value, stamp, ts

REVIEWS = Table(
    "reviews",
    ("agent_id", "campaign", "ordinal", "attempt"),
    once=frozenset({"first_opened_at"}),
    optional=True,
    only_while=("status", "waiting"),
)
DECIDES = {
    "approved": "approved",
    "rejected": "rejected",
    "expired": "expired",
    "withdrawn": "withdrawn",
    "stale": "stale",
    "closed": "closed",
    "refused": "closed",
    "proposed": "reopened",
}
"""Status of the effect -> what became of a card that was waiting; the first one counts."""
PEOPLE = frozenset((HumanApproved, HumanRejected, HumanEdited))


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per attempt that people were asked about; asked again, it waits again."""
    out: list[Row] = []
    if type(record.data) is HumanApproved and ruling.outcome == "applied":
        data = record.data
        effect = _effect(agent, data.campaign, data.ordinal)
        if effect is not None:
            key = (record.key, data.campaign, data.ordinal, data.attempt)
            out.append(Set(REVIEWS, key, {"approvals": len(effect.approvals), **stamp(record)}))
    for change in ruling.changes:
        if change.what == "effect":
            out += _step(record, change, agent)
    return out


def _step(record: Record, change: Change, agent: Agent | None) -> list[Row]:
    status = DECIDES.get(change.status)
    if status is None and change.status != "people":
        return []
    key = (record.key, change.campaign, change.ordinal, change.attempt)
    now = ts(record.append_ts)
    if status is None:
        effect = _effect(agent, change.campaign, change.ordinal)
        opened: dict[str, Value] = {
            "status": "waiting",
            "why": change.reason,
            "edit": effect.edit if effect is not None else 0,
            "approvals": len(effect.approvals) if effect is not None else 0,
            "reason": "",
            "decided_by": None,
            "first_opened_at": now,
            "opened_at": now,
            "decided_at": None,
        }
        return [Put(REVIEWS, key, opened | stamp(record))]
    kind = type(record.data)
    if status == "reopened":
        if kind is ArtifactProduced:  # the attempt's first proposal: nobody was asked yet
            return []
        if kind is HumanEdited:
            status = "edited"
    decided: dict[str, Value] = {
        "status": status,
        "reason": change.reason,
        "decided_by": record.actor if kind in PEOPLE else None,
        "decided_at": now,
        "updated_at": now,
        "partition": record.partition,
        "offset": record.offset,
    }
    return [Set(REVIEWS, key, decided)]


def _effect(agent: Agent | None, campaign: int, ordinal: int) -> Effect | None:
    found = None if agent is None else agent.campaigns.get(campaign)
    task = None if found is None else found.tasks.get(ordinal)
    return None if task is None else task.effect


MODEL = Model(
    "reviews", (REVIEWS,), rows, types=frozenset({"HumanApproved"}), changes=frozenset({"effect"}),
    statuses=frozenset({"people", *DECIDES}),
)  # fmt: skip
