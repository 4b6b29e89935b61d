"""The causal tree of what happened: from a brief to the post that came of it, or from any record to all it caused.

The rule not to break: a record hangs below the record that its `ce_causationid` names; only where that is not in the agent's
log does its number decide (an answer below what it answers, an attempt below its plan, a plan below its brief).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chimera.commands.cards import Address
from chimera.events.envelope import Record
from chimera.events.records import BriefChanged, CampaignStarted, PlanDrafted, TaskPlanned
from chimera.events.state import Ruling


class Ruled(NamedTuple):
    """A record with the law's ruling."""

    record: Record
    ruling: Ruling


class Node(NamedTuple):
    """A record and what it caused, in log order."""

    ruled: Ruled
    children: list[Node]


def numbers(ruled: Ruled) -> tuple[int, int, int]:
    """(campaign, ordinal, attempt) that a record speaks of; 0 where it names none."""
    data = ruled.record.data
    if isinstance(data, CampaignStarted | BriefChanged):  # neither a start nor a copy carries the agent's number
        return next((change.campaign for change in ruled.ruling.changes if change.what in ("campaign", "brief")), 0), 0, 0
    return getattr(data, "campaign", 0), getattr(data, "ordinal", 0), getattr(data, "attempt", 0)


def parents(log: Sequence[Ruled]) -> dict[str, str]:
    """Record id -> id of the record it hangs below, for one agent's log in offset order. Roots are left out."""
    seen: dict[str, Ruled] = {}
    latest: dict[tuple[str, int, int, int], str] = {}
    found: dict[str, str] = {}
    for ruled in log:
        record = ruled.record
        if record.id in seen:
            continue  # a second copy of a record adds nothing to the tree
        campaign, ordinal, attempt = numbers(ruled)
        if record.causation in seen:
            found[record.id] = record.causation
        else:
            places = _fallbacks(ruled, campaign, ordinal, attempt)
            by_number = next((latest[place] for place in places if place in latest), "")
            if by_number:
                found[record.id] = by_number
        seen[record.id] = ruled
        if ruled.ruling.outcome == "applied":
            if isinstance(record.data, CampaignStarted | BriefChanged):
                latest["brief", campaign, 0, 0] = record.id
            elif isinstance(record.data, PlanDrafted):
                latest["plan", campaign, 0, 0] = record.id
            elif ordinal:
                latest["task", campaign, ordinal, attempt] = record.id
    return found


def _fallbacks(ruled: Ruled, campaign: int, ordinal: int, attempt: int) -> list[tuple[str, int, int, int]]:
    brief, plan = ("brief", campaign, 0, 0), ("plan", campaign, 0, 0)
    if not campaign or isinstance(ruled.record.data, CampaignStarted):
        return []
    if isinstance(ruled.record.data, TaskPlanned):
        return [plan, brief]
    return [("task", campaign, ordinal, attempt), plan, brief] if ordinal else [brief]


def about(log: Sequence[Ruled], at: Address) -> set[str]:
    """Ids of the records that speak of a campaign (`ordinal` 0), a task, or one attempt of it."""
    wanted = set()
    for ruled in log:
        campaign, ordinal, attempt = numbers(ruled)
        if campaign != at.campaign or (at.ordinal and ordinal != at.ordinal) or (at.attempt and attempt != at.attempt):
            continue
        wanted.add(ruled.record.id)
    return wanted


def grown_from(log: Sequence[Ruled], id_: str) -> set[str]:
    """Ids of a record and of everything that hangs below it."""
    above = parents(log)
    found = {id_}
    for ruled in log:  # in log order a cause comes before its effects
        if above.get(ruled.record.id) in found:
            found.add(ruled.record.id)
    return found


def tree(log: Sequence[Ruled], wanted: Iterable[str]) -> list[Node]:
    """The trees that hold all `wanted` records and what leads to them from their roots."""
    above = parents(log)
    kept: set[str] = set()
    for id_ in wanted:
        step: str | None = id_
        while step is not None and step not in kept:
            kept.add(step)
            step = above.get(step)
    nodes: dict[str, Node] = {}
    roots: list[Node] = []
    for ruled in log:
        id_ = ruled.record.id
        if id_ not in kept or id_ in nodes:
            continue
        nodes[id_] = Node(ruled, [])
        parent = nodes.get(above.get(id_, ""))
        (parent.children if parent is not None else roots).append(nodes[id_])
    return roots
