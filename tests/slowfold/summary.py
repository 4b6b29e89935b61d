"""What both folds must agree on after every record, in one comparable form."""

from __future__ import annotations

from typing import Any

from chimera.events.state import Agent
from tests.slowfold import base
from tests.slowfold.base import State


def summary_of_agent(a: Agent | None) -> dict[str, Any] | None:
    """Of the real fold's state."""
    if a is None:
        return None
    campaigns = {}
    for number, c in a.campaigns.items():
        tasks = {}
        for t in c.tasks.values():
            e = t.effect
            tasks[t.ordinal] = (
                t.status,
                t.attempt,
                t.failures,
                max(t.plan_not_before, t.not_before),
                t.stale if t.status != "planned" else None,
                None if e is None else (e.hash, e.status, e.edit, e.claim, e.committed, e.funds, sorted(e.approvals)),
            )
        campaigns[number] = {
            "status": c.status,
            "edition": c.brief_edition,
            "round": c.round,
            "planned": c.planned_edition,
            "plan_failures": c.plan_failures,
            "next": c.next_ordinal,
            "tasks": tasks,
            "done": {o: done.cap for o, done in c.done.items()},
            "closed": dict(c.closed),
            "passing": sorted(c.passing),
        }
    return {
        "version": a.version,
        "status": a.status,
        "quarantined": a.quarantine is not None,
        "command_no": a.command_no,
        "recent": list(a.recent),
        "copies_in": dict(a.copies_in),
        "policy": a.policy.edition if a.policy else 0,
        "accounts": dict(a.accounts),
        "allowance": (a.allowance.limit, a.allowance.used, a.allowance.window_start) if a.allowance else None,
        "signals": {source: number for source, (number, _) in a.signals.items()},
        "heard": len(a.heard),
        "answered": dict(a.answered),
        "next_campaign": a.next_campaign,
        "campaigns": campaigns,
        "owed": sorted((o.number, o.what, o.campaign, o.ordinal, o.attempt, o.amount) for all_ in a.owed.values() for o in all_),
        "open_tasks": a.open_tasks,
        "effects": {
            (c.number, t.ordinal): (
                t.effect.not_before,
                t.effect.approved_ts if t.effect.status == "approved" else 0,
                t.effect.opened_ts if t.effect.status == "people" else 0,
                t.effect.lease_until if t.effect.status in base.IN_FLIGHT else 0,
            )
            for c in a.campaigns.values()
            for t in c.tasks.values()
            if t.effect is not None
        },
        "prints": {account: [tuple(f) for f in texts] for account, texts in a.fingerprints.items() if texts},
        "reserved": {
            (c.number, t.ordinal): t.reserved for c in a.campaigns.values() for t in c.tasks.values() if t.status == "open"
        },
    }


def summary_of_slow(s: State | None) -> dict[str, Any] | None:
    """Of the slow fold's state."""
    if s is None:
        return None
    campaigns = {}
    for number, c in s["campaigns"].items():
        tasks = {}
        for t in c["tasks"].values():
            e = t["effect"]
            tasks[t["ordinal"]] = (
                t["status"],
                t["attempt"],
                t["failures"],
                t["not_before"],
                base.is_stale(s, c, t) if t["status"] != "planned" else None,
                None
                if e is None
                else (
                    e["proposal"].effect_hash,
                    e["status"],
                    e["edit"],
                    e["claim"],
                    e["committed"],
                    e["funds"],
                    sorted(e["people"]),
                ),
            )
        campaigns[number] = {
            "status": c["status"],
            "edition": c["edition"],
            "round": c["round"],
            "planned": c["planned_edition"],
            "plan_failures": c["plan_failures"],
            "next": c["next_ordinal"],
            "tasks": tasks,
            "done": dict(c["done"]),
            "closed": dict(c["closed"]),
            "passing": sorted(c["passing"]),
        }
    prints: dict[str, list[Any]] = {}
    for (platform, account), text, sim, place in s["prints"]:
        prints.setdefault(f"{platform}/{account}", []).append((text, sim, *place))
    prints = {account: texts[-64:] for account, texts in prints.items()}
    return {
        "version": s["version"],
        "status": s["status"],
        "quarantined": s["quarantined"],
        "command_no": s["command_no"],
        "recent": list(s["recent"]),
        "copies_in": dict(s["copies_in"]),
        "policy": s["policy"]["edition"] if s["policy"] else 0,
        "accounts": dict(s["accounts"]),
        "allowance": (s["allowance"]["limit"], s["allowance"]["used"], s["allowance"]["window_start"]) if s["allowance"] else None,
        "signals": dict(s["signals"]),
        "heard": s["heard"],
        "answered": answers_by_thread(s["answered"]),
        "next_campaign": s["next_campaign"],
        "campaigns": campaigns,
        "owed": sorted(s["owed"]),
        "open_tasks": sum(t["status"] != "planned" for c in s["campaigns"].values() for t in c["tasks"].values()),
        "effects": {
            (c["number"], t["ordinal"]): (
                t["effect"]["not_before"],
                t["effect"]["approved"] if t["effect"]["status"] == "approved" else 0,
                t["effect"]["opened"] if t["effect"]["status"] == "people" else 0,
                t["effect"]["lease_until"] if t["effect"]["status"] in base.IN_FLIGHT else 0,
            )
            for c in s["campaigns"].values()
            for t in c["tasks"].values()
            if t["effect"] is not None
        },
        "prints": prints,
        "reserved": {
            (c["number"], t["ordinal"]): t["reserved"]
            for c in s["campaigns"].values()
            for t in c["tasks"].values()
            if t["status"] == "open"
        },
    }


def answers_by_thread(threads: list[str]) -> dict[str, int]:
    """How often each of the latest 32 threads was answered, since it came among them."""
    counts: dict[str, int] = {}
    for thread in threads:
        counts[thread] = counts.pop(thread, 0) + 1
        if len(counts) > 32:
            del counts[next(iter(counts))]
    return counts
