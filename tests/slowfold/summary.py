"""What both folds must agree on after every record, in one comparable form."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from chimera.events.state import Agent
from chimera.events.tenant import Tenant
from tests.slowfold import base, tenant
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
        "trust": (a.trusted, [letter != "a" for letter in a.decided]),
        "accounts": {platform: (account, a.credentials.get(platform, "")) for platform, account in a.accounts.items()},
        "allowance": (a.allowance.limit, a.allowance.used, a.allowance.window_start) if a.allowance else None,
        "signals": {source: number for source, (number, _) in a.signals.items()},
        "heard": len(a.heard),
        "answered": dict(a.answered),
        "lessons": [tuple(place) for lesson in a.lessons for place in lesson],
        "next_campaign": a.next_campaign,
        "campaigns": campaigns,
        "owed": sorted((o.number, o.what, o.campaign, o.ordinal, o.attempt, o.amount) for all_ in a.owed.values() for o in all_),
        "open_tasks": a.open_tasks,
        "effects": {
            (c.number, t.ordinal): (
                t.effect.not_before,
                t.effect.held[:2] if t.effect.held is not None else None,
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
        "trust": (s["trusted"], s["decided"][-100:]),
        "accounts": {platform: (account, s["secrets"][platform]) for platform, account in s["accounts"].items()},
        "allowance": (s["allowance"]["limit"], s["allowance"]["used"], s["allowance"]["window_start"]) if s["allowance"] else None,
        "signals": dict(s["signals"]),
        "heard": s["heard"],
        "answered": answers_by_thread(s["answered"]),
        "lessons": [place for refusal in s["refused"][-8:] for place in refusal],
        "next_campaign": s["next_campaign"],
        "campaigns": campaigns,
        "owed": sorted(s["owed"]),
        "open_tasks": sum(t["status"] != "planned" for c in s["campaigns"].values() for t in c["tasks"].values()),
        "effects": {
            (c["number"], t["ordinal"]): (
                t["effect"]["not_before"],
                t["effect"].get("held"),
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


def summary_of_tenant(t: Tenant | None) -> dict[str, Any] | None:
    """Of the real fold's state."""
    if t is None:
        return None
    return {
        "name": t.tenant,
        "version": t.version,
        "day": t.day,
        "command_no": t.command_no,
        "recent": list(t.recent),
        "copies_in": dict(t.copies_in),
        "owed_no": dict(t.owed_no),
        "delivered": dict(t.delivered),
        "owed": {
            agent: [(o.number, o.what, tuple(o.ref), o.detail, o.campaign, o.ordinal, o.attempt, o.answer, o.reason) for o in owed]
            for agent, owed in t.owed.items()
        },
        "rulers": (t.rulers.people, t.rulers.approvers, t.rulers.editor),
        "members": {key: (set(m.groups), m.policy, m.soul, list(m.campaigns)) for key, m in t.members.items()},
        "accounts": dict(t.accounts),
        "credentials": {name: (c[:2], c[2:] if c.verified_ts else None) for name, c in t.credentials.items()},
        "payees": dict(t.payees),
        "votes": sorted((v.subject, sorted(v.people)) for v in t.pending),
        "policies": sorted(e.number for e in t.policies.values()),
        "souls": sorted(e.number for e in t.souls.values()),
        "campaigns": {id_: (tuple(c.brief), c.brief_edition, c.status) for id_, c in t.campaigns.items()},
        "budgets": dict(t.budgets),
        "requests": sorted(
            [(q.agent, (q.campaign, q.ordinal, q.attempt), q.amount, q.day) for q in t.reserved.values()]
            + [(q.agent, (q.campaign, q.ordinal, q.attempt), q.amount, 0) for q in t.waiting]
        ),
        "windows": {
            scope: w.reserved + w.spent for scope, w in t.windows.items() if not scope.startswith("day/") or scope == f"day/{t.day}"
        },
    }


def summary_of_slow_tenant(s: State | None) -> dict[str, Any] | None:
    """Of the slow fold's state."""
    if s is None:
        return None
    windows: dict[str, Decimal] = {}
    for q in s["requests"]:
        if q["status"] not in ("held", "settled"):
            continue
        amount = q["amount"] if q["status"] == "held" else q["spent"]
        for scope in ("tenant", f"day/{q['day']}", f"campaign/{q['campaign']}", q["agent"]):
            if amount and (not scope.startswith("day/") or q["day"] == s["clock"] // tenant.DAY):
                windows[scope] = windows.get(scope, Decimal(0)) + amount
    return {
        "name": s["name"],
        "version": s["version"],
        "day": s["clock"] // tenant.DAY,
        "command_no": s["command_no"],
        "recent": s["recent"],
        "copies_in": s["copies_in"],
        "owed_no": s["owed_no"],
        "delivered": s["delivered"],
        "owed": {
            agent: [tuple(o) if len(o) > 4 else (*o, 0, 0, 0, "", "") for o in owed] for agent, owed in s["owed"].items() if owed
        },
        "rulers": (s["people"], tuple(s["approvers"]) if s["approvers"] else None, s["editor"]),
        "members": {key: (m["groups"], m["policy"], m["soul"], m["campaigns"]) for key, m in s["members"].items()},
        "accounts": {"/".join(name): agent for name, agent in s["accounts"].items()},
        "credentials": {"/".join(n): ((c["ref"], c["ends"]), c["said"]) for n, c in s["credentials"].items() if any(c.values())},
        "payees": s["payees"],
        "votes": sorted(("/".join(subject), sorted(people)) for (subject, _), people in s["votes"].items()),
        "policies": sorted(e["edition"] for e in tenant.in_force(s["policies"])),
        "souls": sorted(e["edition"] for e in tenant.in_force(s["souls"])),
        "campaigns": {id_: (c["brief"], c["edition"], c["status"]) for id_, c in s["campaigns"].items()},
        "budgets": s["budgets"],
        "requests": sorted(
            (q["agent"], q["place"], q["amount"], q["day"] or 0) for q in s["requests"] if q["status"] in ("held", "waiting")
        ),
        "windows": windows,
    }
