"""Votes, the quorum that is the commit, claims and how they end."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

from chimera.events.hashes import commit_hash
from tests.slowfold import base, work
from tests.slowfold.base import Rejected, State, Void

TAINTS = ("owner", "allowlisted", "open")


def matches(s: State, t: State, d: Any) -> None:
    """A vote must name exactly what it votes on."""
    e = t["effect"]
    effect_hash = e["proposal"].effect_hash if e else None
    edit = e["edit"] if e else 0
    if d.edit < edit:
        raise Void("duplicate")
    if d.edit > edit:
        raise Void("conflict")
    if d.policy_edition != s["policy"]["edition"]:
        raise Void("duplicate" if d.policy_edition < s["policy"]["edition"] else "conflict")
    expected = commit_hash(s["key"], f"{d.campaign}.{d.ordinal}", t["input"], t["artifact"]["hash"], effect_hash)
    named = (d.artifact_hash, d.effect_hash, d.input_state_version, d.commit_hash)
    if named != (t["artifact"]["hash"], effect_hash, t["input"], expected):
        raise Void("wrong_hash")


def verdict(s: State, r: Any) -> None:
    d = r.data
    c, t = base.at_attempt(s, d)
    if t["status"] != "produced":
        raise Void("unknown")
    e = t["effect"]
    if e is None:
        matches(s, t, d)
        draft(s, r, c, t)
        return
    if e["status"] not in ("proposed", "people"):
        raise Void("closed")
    matches(s, t, d)
    if d.judge in e["votes"]:
        raise Void("duplicate")
    if d.decision == "fail" or d.failed_rules:
        base.fail(s, c, t)
        return
    vote = {"tags": set(d.tags), "confidence": 0.0, "ask": None}
    e["votes"][d.judge] = vote
    if d.decision == "people" and d.confidence is None:
        vote["ask"] = "abstains"
        quorum(s, r, c, t)
        return
    if d.judge == "cfo":
        vote["ask"] = "people" if d.decision == "people" else None
        quorum(s, r, c, t)
        return
    if base.bad_confidence(d.confidence):
        vote["ask"] = "bad_value"
        quorum(s, r, c, t)
        raise Rejected("bad_value")
    inline = s["policy"]["inline"]
    vote["confidence"] = confidence = min(d.confidence, t["cap"])
    if confidence < inline.people_from:
        base.fail(s, c, t)
        return
    if confidence <= inline.approve_above:
        vote["ask"] = "medium"
    elif d.decision == "people":
        vote["ask"] = "people"
    elif sampled(inline.audit_sample_ppm, r.offset, e["proposal"].effect_hash):
        vote["ask"] = "audit"
    quorum(s, r, c, t)


def sampled(ppm: int, offset: int, effect_hash: str) -> bool:
    drawn = int.from_bytes(hashlib.sha256(f"{offset}:{effect_hash}".encode()).digest()[:8], "big") % 1_000_000
    return drawn < ppm


def draft(s: State, r: Any, c: State, t: State) -> None:
    """An artifact without an effect: the content vote alone decides, people are never asked."""
    d = r.data
    inline = s["policy"]["inline"]
    if d.judge != "content":
        raise Void("unknown")
    if d.decision == "fail" or d.failed_rules:
        base.fail(s, c, t)
        return
    if d.decision == "people" and d.confidence is None:
        confidence = min(inline.people_from, t["cap"])
    elif base.bad_confidence(d.confidence):
        base.fail(s, c, t)
        raise Rejected("bad_value")
    else:
        confidence = min(d.confidence, t["cap"])
    if confidence < inline.people_from:
        base.fail(s, c, t)
        return
    if base.is_stale(s, c, t):
        base.plan_again(s, c, t)
        raise Rejected("stale")
    s["version"] += 1
    s["writes"].append({"version": s["version"], "aspects": frozenset(), "by": (c["number"], t["ordinal"])})
    base.finish(s, c, t, confidence if confidence <= inline.approve_above else 1.0)


def asks_people(s: State, t: State) -> bool:
    """Why people are asked, recounted from everything anyone said."""
    e, inline = t["effect"], s["policy"]["inline"]
    p = e["proposal"]
    if any(vote["ask"] for vote in e["votes"].values()) or inline.shadow:
        return True
    said = set(t["artifact"]["tags"]).union(*(vote["tags"] for vote in e["votes"].values()))
    if said & set(inline.sensitive_tags):
        return True
    worst = "owner" if p.effect_class == "financial" else inline.taint_auto.get(p.effect_class, "owner")
    if TAINTS.index(t["artifact"]["taint"]) > TAINTS.index(worst):
        return True
    small = inline.auto_financial_usd > 0 and p.max_cost_usd <= inline.auto_financial_usd
    if p.effect_class == "financial" and not small:
        return True
    return any(p.max_cost_usd >= tier.amount_usd for tier in inline.amount_tiers)


def people_needed(s: State, p: Any) -> int:
    inline = s["policy"]["inline"]
    n = inline.people.get(p.effect_class, 2 if p.effect_class == "financial" else 1)
    return max([n, 1, *(tier.people for tier in inline.amount_tiers if p.max_cost_usd >= tier.amount_usd)])


def quorum(s: State, r: Any, c: State, t: State) -> None:
    """After every vote and answer: who is still missing, whether people are asked, or whether this record is the commit."""
    e = t["effect"]
    p = e["proposal"]
    if "content" not in e["votes"]:
        return
    if p.effect_class != "publish" and "cfo" not in e["votes"]:
        return
    if work.needs_funds(p) and e["funds"] != "held":
        return
    if asks_people(s, t) and len(e["people"]) < people_needed(s, p):
        if e["status"] != "people":
            e["status"], e["opened"] = "people", r.append_ts
        return
    if not e["committed"]:
        if base.is_stale(s, c, t):
            base.plan_again(s, c, t)
            raise Rejected("stale")
        if too_similar(s, c, t):
            base.fail(s, c, t)
            raise Rejected("too_similar")
        e["committed"] = True
        base.write(s, {f"thread/{p.thread}"} if p.thread else set(), (c["number"], t["ordinal"]))
    e["status"], e["approved"] = "approved", r.append_ts


def too_similar(s: State, c: State, t: State) -> bool:
    p = t["effect"]["proposal"]
    mine = (c["number"], t["ordinal"])
    for text, sim, by in [x[1:] for x in s["prints"] if x[0] == p.account][-64:]:
        if by == mine:
            continue
        if text == p.text_hash or (sim ^ int(p.simhash, 16)).bit_count() <= s["policy"]["inline"].similar_bits:
            return True
    return False


def may_approve(s: State, c: State, e: State, actor: str) -> bool:
    inline = s["policy"]["inline"]
    kind = e["proposal"].effect_class
    if actor not in inline.approvers.get(kind, []):
        return False
    if actor in (c["requester"], s["policy"]["editor"]):
        return False
    return not (kind == "financial" and actor == e["editor"])


def human_approved(s: State, r: Any) -> None:
    c, t, e = base.with_effect(s, r.data)
    if e["status"] != "people":
        raise Void("closed")
    matches(s, t, r.data)
    if r.actor in e["people"]:
        raise Void("duplicate")
    if not may_approve(s, c, e, r.actor):
        raise Void("not_entitled")
    e["people"].append(r.actor)
    quorum(s, r, c, t)


def human_rejected(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    if e["status"] != "people":
        raise Void("closed")
    if d.effect_hash != e["proposal"].effect_hash:
        raise Void("wrong_hash")
    base.close_task(s, c, t, "rejected")


def human_edited(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    if e["status"] != "people":
        raise Void("closed")
    base.next_number(e["edit"], d.edit)
    if d.old_effect_hash != e["proposal"].effect_hash:
        raise Void("wrong_hash")
    if not may_approve(s, c, {**e, "editor": ""}, r.actor):
        raise Void("not_entitled")
    old = e["proposal"]
    same = all(
        getattr(old, name) == getattr(d.effect, name)
        for name in ("effect_class", "tool_class", "platform", "account", "thread", "max_cost_usd", "payee")
    )
    if not same or work.bad_proposal(s, t, d.effect):
        raise Void("bad_value")
    e.update(proposal=d.effect, edit=d.edit, editor=r.actor, votes={}, status="proposed")
    e["people"] = [] if old.effect_class == "financial" else [r.actor]
    t["artifact"]["hash"] = d.artifact_hash


def funds(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    if e["funds"] not in ("asked", "over_budget"):
        raise Void("duplicate")
    if d.answer == "payee":
        base.close_task(s, c, t, "payee")
        return
    e["funds"] = d.answer
    quorum(s, r, c, t)


def withdrawn(s: State, r: Any) -> None:
    c, t, e = base.with_effect(s, r.data)
    if e["status"] != "approved":
        raise Void("closed")
    if r.data.effect_hash != e["proposal"].effect_hash:
        raise Void("wrong_hash")
    base.close_task(s, c, t, "withdrawn")


def claimed(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    p, inline = e["proposal"], s["policy"]["inline"]
    base.next_number(e["claim"], d.claim)
    if e["status"] != "approved":
        raise Void("closed")
    if d.effect_hash != p.effect_hash:
        raise Void("wrong_hash")
    e["claim"] = d.claim
    if base.is_stale(s, c, t):
        base.plan_again(s, c, t)
        raise Rejected("stale")
    if base.agent_held(s) or c["status"] == "paused":
        raise Rejected("paused")
    if r.append_ts < max(e["not_before"], e["approved"] + inline.undo_ms):
        raise Rejected("too_early")
    limit = inline.frequency.get(p.platform)
    if limit is not None:
        recent = [at for platform, at in s["claims"] if platform == p.platform and at > r.append_ts - limit.window_ms]
        if len(recent) >= limit.claims:
            raise Rejected("too_frequent")
    if too_similar(s, c, t):
        base.fail(s, c, t)
        raise Rejected("too_similar")
    e["status"] = "claimed"
    e["tokens"][d.claim] = d.token
    e["lease_until"] = r.append_ts + d.lease_ms
    s["prints"].append((p.account, p.text_hash, int(p.simhash, 16), (c["number"], t["ordinal"])))
    s["claims"].append((p.platform, r.append_ts))


def holds(e: State, d: Any) -> bool:
    """The record names the current claim with its token."""
    return d.claim == e["claim"] and e["tokens"].get(d.claim) == d.token


def back_to_approved(s: State, r: Any, c: State, t: State) -> None:
    if c["status"] == "cancelled":
        base.close_task(s, c, t, base.closing_reason(s))
        return
    t["effect"].update(status="approved", approved=r.append_ts)


def submitted(s: State, r: Any) -> None:
    _, _, e = base.with_effect(s, r.data)
    claim_known(e, r.data.claim)
    if e["status"] != "claimed":
        raise Void("closed")
    if not holds(e, r.data):
        raise Void("wrong_token")
    e["status"], e["lease_until"] = "submitted", r.append_ts + r.data.lease_ms


def claim_known(e: State, claim: int) -> None:
    if claim < e["claim"]:
        raise Void("duplicate")
    if claim > e["claim"]:
        raise Void("conflict")


def deferred(s: State, r: Any) -> None:
    c, t, e = base.with_effect(s, r.data)
    claim_known(e, r.data.claim)
    if e["status"] not in ("claimed", "unknown"):
        raise Void("closed")
    if not holds(e, r.data):
        raise Void("wrong_token")
    e["not_before"] = r.data.not_before
    back_to_approved(s, r, c, t)


def unknown(s: State, r: Any) -> None:
    _, _, e = base.with_effect(s, r.data)
    claim_known(e, r.data.claim)
    if e["status"] not in ("claimed", "submitted"):
        raise Void("closed")
    if not holds(e, r.data) and r.append_ts < e["lease_until"]:
        raise Void("too_early")
    e["status"] = "unknown"


def ended(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    if not 1 <= d.claim <= e["claim"] or d.claim not in e["tokens"]:
        raise Void("unknown")
    proof = d.proof is not None
    if d.outcome == "executed":
        mine = d.token is not None and e["tokens"][d.claim] == d.token
        if not mine and not (proof and e["status"] == "unknown"):
            raise Void("wrong_token")
        base.finish(s, c, t, 1.0, max(Decimal(0), min(d.cost_usd, base.MAX_COST)))
        return
    claim_known(e, d.claim)
    if e["status"] not in base.IN_FLIGHT:
        raise Void("closed")
    if d.outcome == "refused":
        if not proof and not holds(e, d):
            raise Void("wrong_token")
        base.fail(s, c, t)
        return
    if e["status"] != "unknown" or not proof:
        raise Void("wrong_token")
    if r.append_ts < e["lease_until"] + s["policy"]["inline"].grace_ms:
        raise Void("too_early")
    back_to_approved(s, r, c, t)


def expired(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    inline = s["policy"]["inline"]
    status, since, allowed = ("people", e["opened"], inline.expiry_ms)
    if d.what == "approval":
        status, since, allowed = ("approved", e["approved"], inline.lapse_ms)
    if e["status"] != status:
        raise Void("closed")
    if r.append_ts < since + allowed + base.held_ms(c, since, r.append_ts):
        raise Void("too_early")
    base.close_task(s, c, t, "expired")
