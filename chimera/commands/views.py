"""What the lists of the command line show, computed from folded states and rulings: works without Postgres.

The rule not to break: nothing here asks a server; a view is a function of states and of the rulings seen so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chimera.events.does import trust
from chimera.events.envelope import Record
from chimera.events.records import BriefChanged, CampaignStarted
from chimera.events.state import Agent, Campaign, Ruling, Task

WAITING = "people"


@dataclass
class CampaignRow:
    """One campaign of one agent, open or closed. `tasks`: status by ordinal; `effects`: status by ordinal of the last attempt."""

    agent: str
    number: int
    campaign_id: str
    name: str
    actor: str
    started_ts: int
    record_id: str
    status: str = "running"
    brief_edition: int = 1
    brief: dict[str, Any] = field(default_factory=dict)
    tasks: dict[int, str] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    effects: dict[int, str] = field(default_factory=dict)
    ended_ts: int = 0


class Story:
    """Observer of the fold: campaigns with their tasks, also those that have left the state, and counts of rulings."""

    def __init__(self) -> None:
        self.campaigns: dict[tuple[str, int], CampaignRow] = {}
        self.rulings: Counter[str] = Counter()
        self.records = 0
        self.executed = 0
        self.last_ts = 0

    def __call__(self, record: Record, ruling: Ruling) -> None:
        """Take in one ruled record."""
        self.records += 1
        self.last_ts = max(self.last_ts, record.append_ts)
        self.rulings[ruling.outcome] += 1
        if ruling.outcome == "void":
            return
        data = record.data
        for change in ruling.changes:
            if change.what == "campaign" and isinstance(data, CampaignStarted) and change.status == "running":
                self.campaigns[record.key, change.campaign] = CampaignRow(
                    agent=record.key,
                    number=change.campaign,
                    campaign_id=data.campaign_id,
                    name=data.name,
                    actor=record.actor,
                    started_ts=record.append_ts,
                    record_id=record.id,
                    brief=data.brief,
                )
                continue
            row = self.campaigns.get((record.key, change.campaign))
            if row is None:
                continue
            if change.what == "campaign":
                row.status = change.status
                row.ended_ts = record.append_ts if change.status in ("completed", "closed") else row.ended_ts
            elif change.what == "brief" and isinstance(data, BriefChanged):
                row.brief_edition, row.brief = int(change.detail), data.brief
            elif change.what == "task":
                row.tasks[change.ordinal] = change.status
                row.reasons[change.ordinal] = change.reason
            elif change.what == "effect":
                row.effects[change.ordinal] = change.status
                self.executed += change.status == "executed"


def agent_row(agent: Agent) -> dict[str, Any]:
    """One line of `agent list`."""
    tasks = Counter(task.status for campaign in agent.campaigns.values() for task in campaign.tasks.values())
    return {
        "name": agent.name,
        "tenant": agent.tenant,
        "status": "quarantined" if agent.quarantine is not None else agent.status,
        "in_shadow": trust.in_shadow(agent),
        "state_version": agent.version,
        "accounts": dict(agent.accounts),
        "policy_edition": agent.policy.edition if agent.policy is not None else 0,
        "campaigns": [campaign.campaign_id for campaign in agent.campaigns.values()],
        "tasks": dict(tasks),
        "cards_waiting": sum(1 for task in open_tasks(agent) if task.effect is not None and task.effect.status == WAITING),
        "stream": agent.key,
    }


def shadow(agent: Agent) -> dict[str, Any]:
    """Whether people see all that the agent does, why, and what its standing rests on. `needed`: None without probation."""
    policy = agent.policy.inline if agent.policy is not None else None
    decided, overridden = trust.standing(agent)
    rule = policy.probation if policy is not None else None
    everybody = policy is not None and policy.shadow
    return {
        "in_shadow": trust.in_shadow(agent),
        "because": "policy" if everybody else "probation" if trust.in_shadow(agent) else "",
        "decided": decided,
        "overridden": overridden,
        "needed": None if rule is None else rule.decisions,
        "overrides": None if rule is None else rule.overrides_ppm / 1_000_000,
        "demote_above": None if rule is None else rule.demote_above_ppm / 1_000_000,
    }


def open_tasks(agent: Agent) -> list[Task]:
    """Every task that is neither done nor closed."""
    return [task for campaign in agent.campaigns.values() for task in campaign.tasks.values()]


def agent_detail(agent: Agent) -> dict[str, Any]:
    """`agent show`: the row and what stands behind it."""
    allowance = agent.allowance
    policy = agent.policy
    return agent_row(agent) | {
        "quarantine": None if agent.quarantine is None else f"{agent.quarantine.partition}:{agent.quarantine.offset}",
        "soul": None if agent.soul is None else f"{agent.soul.partition}:{agent.soul.offset}",
        "policy": None
        if policy is None
        else {
            "edition": policy.edition,
            "digest": policy.digest,
            "editor": policy.editor,
            "approvers": policy.inline.approvers,
            "record": f"{policy.ref.partition}:{policy.ref.offset}",
        },
        "shadow": shadow(agent),
        "allowance": None
        if allowance is None
        else {"limit_usd": str(allowance.limit), "window_s": allowance.window_ms // 1000, "used_usd": str(allowance.used)},
        "refused": [f"{lesson.by.partition}:{lesson.by.offset}" for lesson in agent.lessons],
        "open_campaigns": [campaign_detail(campaign) for campaign in agent.campaigns.values()],
    }


def campaign_detail(campaign: Campaign) -> dict[str, Any]:
    """One open campaign of one agent with its tasks."""
    return {
        "number": campaign.number,
        "campaign_id": campaign.campaign_id,
        "status": campaign.status,
        "requester": campaign.requester,
        "brief_edition": campaign.brief_edition,
        "round": campaign.round,
        "done": len(campaign.done),
        "closed": {str(ordinal): reason for ordinal, reason in campaign.closed.items()},
        "tasks": [
            {
                "ordinal": task.ordinal,
                "kind": task.kind,
                "status": task.status,
                "attempt": task.attempt,
                "failures": task.failures,
                "waits_because": task.wait_reason,
                "not_before_ts": max(task.plan_not_before, task.not_before),
                "stale": task.stale,
                "effect": None if task.effect is None else task.effect.status,
            }
            for task in campaign.tasks.values()
        ],
    }


def campaign_rows(story: Story, agents: dict[str, Agent]) -> list[dict[str, Any]]:
    """`campaign list`: one row per campaign id, over all agents that have it, newest first."""
    groups: dict[str, list[CampaignRow]] = {}
    for row in story.campaigns.values():
        groups.setdefault(row.campaign_id, []).append(row)
    listed = []
    for id_, rows in groups.items():
        tasks = Counter(status for row in rows for status in row.tasks.values())
        effects = Counter(status for row in rows for status in row.effects.values())
        listed.append(
            {
                "campaign_id": id_,
                "name": rows[-1].name,
                "status": dict(Counter(row.status for row in rows)),
                "agents": [agents[row.agent].name for row in rows if row.agent in agents],
                "brief_edition": max(row.brief_edition for row in rows),
                "tasks": dict(tasks),
                "posts": effects.get("executed", 0),
                "cards_waiting": effects.get(WAITING, 0),
                "started_ts": min(row.started_ts for row in rows),
                "by": rows[0].actor,
            }
        )
    return sorted(listed, key=lambda row: -int(row["started_ts"]))


def open_campaign(agent: Agent, campaign: Campaign) -> dict[str, Any]:
    """One open campaign of one agent as its state alone tells it: a row like those of `campaign show`, without times and brief."""
    over = {n: {"status": "done", "reason": ""} for n in campaign.done}
    over |= {n: {"status": "closed", "reason": reason} for n, reason in campaign.closed.items()}
    tasks = over | {n: {"status": task.status, "reason": task.wait_reason} for n, task in campaign.tasks.items()}
    return {
        "agent": agent.name,
        "stream": agent.key,
        "number": campaign.number,
        "name": campaign.campaign_id,
        "status": campaign.status,
        "brief_edition": campaign.brief_edition,
        "brief": {},
        "tasks": {str(n): tasks[n] for n in sorted(tasks)},
        "effects": {str(n): task.effect.status for n, task in sorted(campaign.tasks.items()) if task.effect is not None},
        "started_ts": 0,
        "ended_ts": 0,
        "by": campaign.requester,
    }


def open_campaigns(agents: Iterable[Agent]) -> list[dict[str, Any]]:
    """`campaign list` of what is open, from states alone: without times, names and posts."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for agent in agents:
        for campaign in agent.campaigns.values():
            groups.setdefault(campaign.campaign_id, []).append(open_campaign(agent, campaign))
    return [
        {
            "campaign_id": id_,
            "name": id_,
            "status": dict(Counter(row["status"] for row in rows)),
            "agents": [row["agent"] for row in rows],
            "brief_edition": max(row["brief_edition"] for row in rows),
            "tasks": dict(Counter(task["status"] for row in rows for task in row["tasks"].values())),
            "posts": None,
            "cards_waiting": sum(status == WAITING for row in rows for status in row["effects"].values()),
            "started_ts": 0,
            "by": rows[0]["by"],
        }
        for id_, rows in sorted(groups.items())
    ]


def fleet_now(agents: Iterable[Agent]) -> dict[str, Any]:
    """What the states alone say of the fleet: agents, open effects, cards."""
    known = list(agents)
    tasks = [task for agent in known for task in open_tasks(agent)]
    return {
        "agents": dict(Counter("quarantined" if a.quarantine is not None else a.status for a in known)),
        "effects_open": dict(Counter(task.effect.status for task in tasks if task.effect is not None)),
        "cards_waiting": sum(1 for task in tasks if task.effect is not None and task.effect.status == WAITING),
    }


def open_totals(agents: Iterable[Agent]) -> dict[str, dict[str, int]]:
    """Campaigns and tasks by status, of what is open: all that the states alone can count."""
    campaigns, tasks = Counter[str](), Counter[str]()
    for agent in agents:
        for campaign in agent.campaigns.values():
            campaigns[campaign.status] += 1
            tasks.update(task.status for task in campaign.tasks.values())
            tasks.update(done=len(campaign.done), closed=len(campaign.closed))
    return {"campaigns": dict(campaigns), "tasks": {name: n for name, n in tasks.items() if n}}


def fleet_status(agents: Iterable[Agent], story: Story) -> dict[str, Any]:
    """`fleet status`: everything counted once."""
    return fleet_now(agents) | {
        "campaigns": dict(Counter(row.status for row in story.campaigns.values())),
        "tasks": dict(Counter(status for row in story.campaigns.values() for status in row.tasks.values())),
        "executed": story.executed,
        "rulings": dict(story.rulings),
        "records": story.records,
        "last_record_ts": story.last_ts,
    }
