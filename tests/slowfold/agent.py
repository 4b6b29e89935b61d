"""What the agent itself is told: who it is, its policy, accounts, gates, campaigns, signals, copies it owes."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.slowfold import base
from tests.slowfold.base import Rejected, State, Void


def new_agent(r: Any) -> State:
    return {
        "key": r.key,
        "tenant": r.tenant,
        "name": r.data.name,
        "version": 1,
        "status": "active",
        "quarantined": False,
        "command_no": 1,
        "recent": [r.id],
        "copies_in": {},
        "owed": [],
        "owed_no": {},
        "delivered": {},
        "policy": None,
        "accounts": {},
        "secrets": {},
        "allowance": None,
        "next_campaign": 1,
        "campaigns": {},
        "gone": [],
        "signals": {},
        "heard": 0,
        "answered": [],
        "refused": [],
        "writes": [],
        "prints": [],
        "claims": [],
        "decided": [],
        "trusted": False,
    }


def soul(s: State, r: Any) -> None:
    base.write(s, {"soul"})


def policy(s: State, r: Any) -> None:
    d = r.data
    if s["policy"] is not None and d.edition <= s["policy"]["edition"]:
        raise Void("duplicate")
    s["policy"] = {"edition": d.edition, "editor": d.editor, "inline": d.inline}
    for c in s["campaigns"].values():
        for t in c["tasks"].values():
            e = t["effect"]
            if e is not None and e["status"] in ("proposed", "people", "approved"):
                judge_again(e)
    if d.stales:
        base.write(s, {"policy"})
    look_at_trust(s)


def person_decided(s: State, actor: str, overridden: bool) -> None:
    """One card more on which a person agreed with the agent or overrode it."""
    if base.is_person(actor):
        s["decided"].append(overridden)
        look_at_trust(s)


def look_at_trust(s: State) -> None:
    """Shares as fractions, over the last decisions that the policy in force looks at; of more than 100 nobody knows."""
    p = s["policy"]["inline"].probation if s["policy"] else None
    if p is None:
        return
    last = s["decided"][-max(1, min(p.window, 100)) :]
    if len(last) < p.decisions:
        return
    share = Fraction(sum(last), len(last)) if last else Fraction(0)
    if not s["trusted"]:
        s["trusted"] = not last or share <= Fraction(p.overrides_ppm, 10**6)
    elif last and share > Fraction(p.demote_above_ppm, 10**6):
        s["trusted"], s["decided"] = False, []


def in_shadow(s: State) -> bool:
    inline = s["policy"]["inline"]
    return inline.shadow or (inline.probation is not None and not s["trusted"])


def judge_again(e: State) -> None:
    """The votes of an older edition count no more; the tags that were seen stay seen."""
    e["status"] = "proposed"
    e["said"] |= {tag for vote in e["votes"].values() for tag in vote["tags"]}
    e["votes"] = {}
    e["people"] = []


def linked(s: State, r: Any) -> None:
    had = (s["accounts"].get(r.data.platform), s["secrets"].get(r.data.platform))
    if had == (r.data.account, r.data.secret_ref):
        return
    s["accounts"][r.data.platform], s["secrets"][r.data.platform] = r.data.account, r.data.secret_ref
    base.write(s, {f"account/{r.data.platform}"})


def unlinked(s: State, r: Any) -> None:
    if r.data.platform not in s["accounts"]:
        raise Void("unknown")
    del s["accounts"][r.data.platform]
    base.write(s, {f"account/{r.data.platform}"})


def tool_changed(s: State, r: Any) -> None:
    if r.data.platform not in s["accounts"]:
        raise Void("unknown")
    base.write(s, {f"account/{r.data.platform}"})


def status(s: State, r: Any) -> None:
    new = r.data.status
    if new == "released":
        if not s["quarantined"]:
            raise Void("conflict")
        s["quarantined"] = False
    elif s["status"] in (new, "retired"):
        raise Void("conflict")
    else:
        s["status"] = new
        if new == "retired":
            for c in list(s["campaigns"].values()):
                base.cancel(s, c, "retired")
    base.note_gates(s, r.append_ts)


def allowance(s: State, r: Any) -> None:
    if base.bad_cost(r.data.limit_usd):
        raise Void("bad_value")
    window = {"window_ms": r.data.window_ms, "window_start": r.append_ts - r.append_ts % r.data.window_ms}
    old = s["allowance"]
    same = old is not None and window == {name: old[name] for name in window}
    if not same:
        for c in s["campaigns"].values():
            for t in c["tasks"].values():
                t["reserved_window"] = None  # of a window that is gone
    s["allowance"] = {**window, "limit": r.data.limit_usd, "used": old["used"] if same else Decimal(0)}


def campaign_started(s: State, r: Any) -> None:
    if s["status"] == "retired":
        raise Void("closed")
    number = s["next_campaign"]
    s["next_campaign"] += 1
    s["campaigns"][number] = {
        "number": number,
        "id": r.data.campaign_id,
        "requester": r.actor,
        "edition": 1,
        "status": "running",
        "round": 0,
        "planned_edition": 0,
        "plan_failures": 0,
        "next_ordinal": 1,
        "tasks": {},
        "done": {},
        "closed": {},
        "passing": set(),
        "until": r.data.listens_until,
        "gates": [],
    }
    base.note_gates(s, r.append_ts)


def brief(s: State, r: Any) -> None:
    c = base.open_campaign(s, r.data.campaign)
    base.next_number(c["edition"], r.data.edition)
    c["edition"] += 1
    c["plan_failures"] = 0
    c["until"] = r.data.listens_until
    base.write(s, {f"brief/{c['number']}"})


def campaign_status(s: State, r: Any) -> None:
    c = base.open_campaign(s, r.data.campaign)
    if r.data.status == c["status"]:
        raise Void("conflict")
    if r.data.status == "cancelled":
        base.cancel(s, c, "cancelled")
    else:
        c["status"] = r.data.status
    base.note_gates(s, r.append_ts)


def completed(s: State, r: Any) -> None:
    c = base.lookup_campaign(s, r.data.campaign)
    if c["planned_edition"] != c["edition"] or c["tasks"]:
        raise Void("conflict")
    if c["until"] > r.append_ts:
        raise Void("too_early")
    del s["campaigns"][c["number"]]
    s["gone"].append(c["number"])


def signal(s: State, r: Any) -> None:
    d = r.data
    base.next_number(s["signals"].get(d.source, 0), d.number)
    s["signals"][d.source] = d.number
    if s["heard"] == 32:
        raise Rejected("backlog")
    s["heard"] += 1
    base.write(s, {f"thread/{item.thread}" for item in d.items})


def delivered(s: State, r: Any) -> None:
    d = r.data
    if d.upto > s["owed_no"].get(d.target, 0):
        raise Void("conflict")
    if d.upto <= s["delivered"].get(d.target, 0):
        raise Void("duplicate")
    s["delivered"][d.target] = d.upto
    s["owed"] = [o for o in s["owed"] if o[0] > d.upto]
