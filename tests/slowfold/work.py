"""Plans, attempts and what comes out of them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from tests.slowfold import base
from tests.slowfold.base import Rejected, State, Void


def plan(s: State, r: Any) -> None:
    d = r.data
    c = base.open_campaign(s, d.campaign)
    base.next_number(c["round"], d.round)
    if d.brief_edition != c["edition"]:
        raise Void("edition")
    if d.answers > s["heard"]:
        raise Void("conflict")
    c["round"] = d.round
    s["heard"] -= d.answers
    if bad_rows(s, c, d):
        if d.answers == 0:
            c["plan_failures"] += 1
        raise Rejected("bad_value")
    if d.answers:
        c["passing"] |= {row.ordinal for row in d.rows}
    else:
        c["planned_edition"] = d.brief_edition
        c["plan_failures"] = 0
        waiting = {o for o, t in c["tasks"].items() if t["status"] == "planned"}
        gone = waiting - c["passing"]
        while more := {o for o in waiting - gone if gone & set(c["tasks"][o]["row"].depends_on)}:
            gone |= more
        for ordinal in gone:
            del c["tasks"][ordinal]
            c["closed"][ordinal] = "dropped"
    for row in d.rows:
        c["tasks"][row.ordinal] = {
            "ordinal": row.ordinal,
            "row": row,
            "status": "planned",
            "attempt": 0,
            "failures": 0,
            "not_before": row.not_before,
            "input": 0,
            "reads": reads_of(s, row),
            "reserved": Decimal(0),
            "reserved_window": 0,
            "started_until": None,
            "artifact": None,
            "effect": None,
        }
    c["next_ordinal"] += len(d.rows)


def reads_of(s: State, row: Any) -> frozenset[str]:
    """What the row states; everything where it states nothing or the policy is strict about its kind."""
    strict = s["policy"] is not None and row.kind in s["policy"]["inline"].strict_kinds
    return frozenset(["*"]) if strict or not row.reads else frozenset(row.reads)


def bad_rows(s: State, c: State, d: Any) -> bool:
    rows = d.rows
    if len(rows) > 500 or (d.reason and not rows):
        return True
    limit = s["allowance"]["limit"] if s["allowance"] else Decimal(0)
    kept = {o for o, t in c["tasks"].items() if d.answers or t["status"] != "planned"} | set(c["done"])
    for i, row in enumerate(rows):
        if row.ordinal != c["next_ordinal"] + i or row.not_before < 0 or row.wait_ms < 0:
            return True
        if base.bad_cost(row.max_cost_usd) or row.max_cost_usd > limit:
            return True
        earlier = {other.ordinal for other in rows[:i]}
        if any(dep not in earlier | kept for dep in row.depends_on):
            return True
    return False


def planned(s: State, r: Any) -> None:
    d = r.data
    c = base.lookup_campaign(s, d.campaign)
    t = base.lookup_task(c, d.ordinal)
    base.next_number(t["attempt"], d.attempt)
    if t["status"] != "planned":
        committed = t["effect"] is not None and t["effect"]["committed"]
        if committed or not base.is_stale(s, c, t):
            raise Void("conflict")
    if any(dep not in c["done"] for dep in t["row"].depends_on):
        raise Void("dependency")
    others = [o for k in s["campaigns"].values() for o in k["tasks"].values() if o is not t]
    if sum(o["status"] != "planned" for o in others) >= 500:
        raise Void("too_many_open")
    if t["status"] != "planned":
        base.end_attempt(s, c, t)
    t["attempt"] = d.attempt
    if base.agent_held(s) or c["status"] == "paused":
        raise Rejected("paused")
    if s["policy"] is None:
        raise Rejected("no_policy")
    if r.append_ts < t["not_before"]:
        raise Rejected("too_early")
    cost = t["row"].max_cost_usd
    a = s["allowance"]
    if a is None and cost > 0:
        raise Rejected("no_allowance")
    if a is not None:
        start = r.append_ts - r.append_ts % a["window_ms"]
        over = start > a["window_start"]
        if cost > 0 and (Decimal(0) if over else a["used"]) + cost > a["limit"]:
            raise Rejected("no_allowance")
        if over:
            a["window_start"], a["used"] = start, Decimal(0)
        a["used"] += cost
        t["reserved"], t["reserved_window"] = cost, a["window_start"]
    t["status"] = "open"
    t["input"] = s["version"]
    t["reads"] = reads_of(s, t["row"])


def started(s: State, r: Any) -> None:
    d = r.data
    _, t = base.at_work(s, d)
    if t["started_until"] is not None:
        raise Void("duplicate")
    base.sane_lease(d.lease_ms)
    t["started_until"] = r.append_ts + d.lease_ms


def produced(s: State, r: Any) -> None:
    d = r.data
    c, t = base.at_work(s, d)
    if d.input_state_version != t["input"]:
        raise Void("conflict")
    if t["row"].costly and t["started_until"] is None:
        raise Void("not_started")
    if bad_artifact(s, t, d):
        base.settle_allowance(s, t, t["reserved"] if base.bad_cost(d.cost_usd) else d.cost_usd)
        base.fail(s, c, t)
        raise Rejected("bad_value")
    base.settle_allowance(s, t, d.cost_usd)
    t["status"] = "produced"
    t["artifact"] = {"hash": d.artifact_hash, "tags": set(d.risk_tags), "taint": d.taint, "at": (r.partition, r.offset)}
    t["cap"] = min([c["done"][dep] for dep in t["row"].depends_on], default=1.0)
    if d.effect is None:
        return
    t["effect"] = new_effect(d.effect)
    if needs_funds(d.effect):
        t["effect"]["funds"] = "asked"
        base.owe(s, "FundsRequested", c, t, d.effect.max_cost_usd)


def bad_artifact(s: State, t: State, d: Any) -> bool:
    if base.bad_confidence(d.confidence_score) or base.bad_cost(d.cost_usd):
        return True
    e = d.effect
    return e is not None and (bad_proposal(s, t, e) or (e.effect_class == "financial" and d.taint != "owner"))


def bad_proposal(s: State, t: State, e: Any) -> bool:
    return (
        re.fullmatch("[0-9a-f]{16}", e.simhash) is None
        or e.agent != s["key"]
        or s["accounts"].get(e.platform) != e.account
        or e.input_state_version != t["input"]
        or base.bad_cost(e.max_cost_usd)
        or e.not_before < 0
    )


def needs_funds(e: Any) -> bool:
    return bool(e.max_cost_usd > 0)


def new_effect(e: Any) -> State:
    return {
        "proposal": e,
        "status": "proposed",
        "edit": 0,
        "editor": "",
        "votes": {},
        "said": set(),
        "people": [],
        "funds": None,
        "committed": False,
        "claim": 0,
        "tokens": {},
        "not_before": e.not_before,
        "lease_until": 0,
        "opened": 0,
        "approved": 0,
    }


def failed(s: State, r: Any) -> None:
    d = r.data
    c, t = base.at_work(s, d)
    if d.lost and (t["started_until"] is None or r.append_ts < t["started_until"]):
        raise Void("too_early")
    if base.bad_cost(d.cost_usd):
        base.fail(s, c, t)
        raise Rejected("bad_value")
    if not d.lost:
        base.settle_allowance(s, t, d.cost_usd)
    if d.needless and not d.lost:
        base.close_task(s, c, t, "needless")
    elif d.not_before is not None:
        t["not_before"] = max(t["not_before"], d.not_before)
        base.plan_again(s, c, t)
    else:
        base.fail(s, c, t)
