"""What the records about campaigns and plans do: start, brief, status, plan, opening of attempts, completion."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from chimera.events.does.steps import (
    MAX_USD,
    cancel,
    end_attempt,
    gate,
    let_pass,
    open_attempt,
    ref,
    reserve,
    settle_holds,
    write,
)
from chimera.events.envelope import Record
from chimera.events.records import BriefChanged, CampaignCompleted, CampaignStarted, CampaignStatusSet, PlanDrafted, TaskPlanned
from chimera.events.state import MAX_OPEN_TASKS, ZERO, Agent, Campaign, Change, Task

MAX_ROWS = 500


class Spot(NamedTuple):
    """Where in an agent's state a record about a task lands: what its guards look at, found once for all of them."""

    agent: Agent
    campaign: Campaign
    task: Task


_spot: Callable[[tuple[Agent, Campaign, Task]], Spot] = partial(tuple.__new__, Spot)
"""Past its own constructor, which takes longer than the tuple."""


def spot_of(agent: Agent, r: Record) -> Spot | str:
    """Where the record lands, or why there is no such place: the reason that `campaign_open` or `task_there` gives."""
    d: Any = r.data
    c = agent.campaigns.get(d.campaign)
    t = c.tasks.get(d.ordinal) if c is not None else None
    if c is None or t is None:
        return campaign_open(agent, r) or task_there(agent, r) or "unknown"
    return _spot((agent, c, t))


def campaign_open(agent: Agent, r: Record) -> str | None:
    """A number below the next one that is not open is closed: closed things may leave the state."""
    number: int = r.data.campaign  # type: ignore[union-attr]  # every record of this guard has one (law's table)
    if number in agent.campaigns:
        return None
    return "closed" if 0 < number < agent.next_campaign else "unknown"


def not_retired(agent: Agent, r: Record) -> str | None:
    return "closed" if agent.status == "retired" else None


def not_cancelled(agent: Agent, r: Record) -> str | None:
    """A cancelled campaign only runs out."""
    return "closed" if agent.campaigns[r.data.campaign].status == "cancelled" else None  # type: ignore[union-attr]


def next_brief(agent: Agent, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, BriefChanged)
    last = agent.campaigns[d.campaign].brief_edition
    return None if d.edition == last + 1 else "duplicate" if d.edition <= last else "conflict"


def other_status(agent: Agent, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, CampaignStatusSet)
    return "conflict" if agent.campaigns[d.campaign].status == d.status else None


def next_round(agent: Agent, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, PlanDrafted)
    last = agent.campaigns[d.campaign].round
    return None if d.round == last + 1 else "duplicate" if d.round <= last else "conflict"


def current_brief(agent: Agent, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, PlanDrafted)
    return None if d.brief_edition == agent.campaigns[d.campaign].brief_edition else "edition"


def task_there(agent: Agent, r: Record) -> str | None:
    """The task is in the plan and not over."""
    c = agent.campaigns[r.data.campaign]  # type: ignore[union-attr]
    ordinal: int = r.data.ordinal  # type: ignore[union-attr]
    if ordinal in c.tasks:
        return None
    return "closed" if 0 < ordinal < c.next_ordinal else "unknown"


def next_attempt(at: Spot, r: Record) -> str | None:
    """The next attempt; also while the open one is stale and uncommitted, which it then replaces."""
    attempt: int = r.data.attempt  # type: ignore[union-attr]
    t = at.task
    if attempt != t.attempt + 1:
        return "duplicate" if attempt <= t.attempt else "conflict"
    if t.status != "planned" and (not t.stale or (t.effect is not None and t.effect.committed)):
        return "conflict"
    return None


def dependencies_done(at: Spot, r: Record) -> str | None:
    done = at.campaign.done
    for ordinal in at.task.depends_on:
        if ordinal not in done:
            return "dependency"
    return None


def room_for_task(at: Spot, r: Record) -> str | None:
    """An attempt that replaces a stale one does not make one more."""
    return "too_many_open" if at.agent.open_tasks >= MAX_OPEN_TASKS and at.task.status == "planned" else None


def all_over(agent: Agent, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, CampaignCompleted)
    c = agent.campaigns[d.campaign]
    if c.planned_edition != c.brief_edition or c.tasks:
        return "conflict"
    return "too_early" if r.append_ts < c.listens_until else None


def heard_so_many(agent: Agent, r: Record) -> str | None:
    """A round answers what was heard, and no more."""
    d = r.data
    assert isinstance(d, PlanDrafted)
    return None if d.answers <= len(agent.heard) else "conflict"


def campaign_started(agent: Agent, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, CampaignStarted)
    number, agent.next_campaign = agent.next_campaign, agent.next_campaign + 1
    agent.campaigns[number] = Campaign(number, d.campaign_id, r.actor, 1, ref(r), listens_until=d.listens_until)
    settle_holds(agent, r.append_ts)
    out.append(Change("campaign", number, 0, 0, "running", "", d.campaign_id))
    return ""


def brief_changed(agent: Agent, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, BriefChanged)
    c = agent.campaigns[d.campaign]
    c.brief_edition, c.brief, c.plan_failures, c.listens_until = d.edition, ref(r), 0, d.listens_until
    write(agent, (f"brief/{d.campaign}",))
    out.append(Change("brief", d.campaign, 0, 0, "changed", "", str(d.edition)))
    return ""


def campaign_status_set(agent: Agent, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, CampaignStatusSet)
    c = agent.campaigns[d.campaign]
    if d.status == "cancelled":
        cancel(agent, c, "cancelled", out)
    else:
        c.status = d.status
        settle_holds(agent, r.append_ts)
        out.append(Change("campaign", d.campaign, 0, 0, d.status, d.reason))
    return ""


def plan_drafted(agent: Agent, r: Record, out: list[Change]) -> str:
    """A new round drops what is not open, or adds to it where it answers signals; ordinals go on. An impossible plan uses its round
    up, and what it would have answered is let go."""
    d = r.data
    assert isinstance(d, PlanDrafted)
    c = agent.campaigns[d.campaign]
    c.round = d.round
    del agent.heard[: d.answers]
    if _impossible(agent, c, d):
        c.plan_failures += not d.answers
        out.append(Change("plan", c.number, 0, 0, "rejected", "bad_value", str(d.round)))
        return "bad_value"
    if d.answers:
        c.passing += [row.ordinal for row in d.rows]
    else:
        c.planned_edition, c.plan_failures = d.brief_edition, 0
        _drop_unopened(c, out)
    here = ref(r)
    for row in d.rows:
        ordinal, kind = row.ordinal, row.kind
        c.tasks[ordinal] = Task(
            ordinal=ordinal,
            kind=kind,
            depends_on=tuple(row.depends_on),
            reads=tuple(dict.fromkeys(row.reads)) or ("*",),
            max_cost=row.max_cost_usd,
            plan_not_before=row.not_before,
            wait_ms=row.wait_ms,
            costly=row.costly,
            ref=here,
        )
        if row.wait_ms:
            c.delayed.append(ordinal)
        out.append(Change("task", c.number, ordinal, 0, "planned", "", kind))
    c.next_ordinal += len(d.rows)
    out.append(Change("plan", c.number, 0, 0, "adopted", "", str(d.round)))
    return ""


def _drop_unopened(c: Campaign, out: list[Change]) -> None:
    """What is not open goes; what answers somebody stays, unless it was to be made from something that goes."""
    for t in [t for t in c.tasks.values() if t.status == "planned"]:
        if t.ordinal not in c.passing or any(c.closed.get(o) == "dropped" for o in t.depends_on):
            del c.tasks[t.ordinal]
            c.closed[t.ordinal] = "dropped"
            out.append(Change("task", c.number, t.ordinal, t.attempt, "dropped", "replanned"))
    let_pass(c)


def _impossible(agent: Agent, c: Campaign, d: PlanDrafted) -> bool:
    """May this plan not stand? A dropped, closed or later ordinal is nothing to depend on."""
    limit = agent.allowance.limit if agent.allowance is not None else ZERO
    lasting = {o for o, t in c.tasks.items() if d.answers or t.status != "planned"} | c.done.keys()
    if len(d.rows) > MAX_ROWS or (d.reason and not d.rows):  # a planner that says why it has no rows has no plan
        return True
    limit, first = min(limit, MAX_USD), c.next_ordinal
    for expected, row in enumerate(d.rows, first):
        if row.ordinal != expected or row.not_before < 0 or row.wait_ms < 0 or not ZERO <= row.max_cost_usd <= limit:
            return True
        for o in row.depends_on:
            if o not in lasting and not first <= o < expected:
                return True
    return False


def task_planned(at: Spot, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, TaskPlanned)
    agent, c, t = at
    if t.status != "planned":
        end_attempt(agent, c, t, "stale", "replaced", out)
        out.append(Change("task", c.number, t.ordinal, t.attempt, "planned", "stale"))
    t.attempt = d.attempt
    reason = gate(agent, c)
    if not reason and agent.policy is None:
        reason = "no_policy"
    if not reason and r.append_ts < max(t.plan_not_before, t.not_before):
        reason = "too_early"
    if not reason and not reserve(agent, t, r.append_ts):
        reason = "no_allowance"
    if reason:
        t.wait_reason = reason  # a closed gate says nothing about the work: its feedback stays
        return reason
    open_attempt(agent, c, t, d.attempt, r.append_ts)
    out.append(Change("task", c.number, t.ordinal, t.attempt, "open", "", str(t.input_state_version)))
    return ""


def campaign_completed(agent: Agent, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, CampaignCompleted)
    del agent.campaigns[d.campaign]
    out.append(Change("campaign", d.campaign, 0, 0, "completed"))
    return ""
