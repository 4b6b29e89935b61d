"""Votes, the quorum that is the commit, claims and how they end."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from chimera.events.hashes import commit_hash
from tests.slowfold import agent, base, work
from tests.slowfold.base import Rejected, State, Void

TAINTS = ("owner", "allowlisted", "open")


def matches(s: State, t: State, d: Any) -> None:
    """A vote must name exactly what it votes on."""
    e = t["effect"]
    effect_hash = e["proposal"].effect_hash if e else None
    edit = e["edit"] if e else 0
    if d.policy_edition != s["policy"]["edition"]:
        raise Void("edition")
    if d.edit != edit or d.input_state_version != t["input"]:
        raise Void("conflict")
    expected = commit_hash(s["key"], f"{d.campaign}.{d.ordinal}", t["input"], t["artifact"]["hash"], effect_hash)
    if (d.artifact_hash, d.effect_hash, d.commit_hash) != (t["artifact"]["hash"], effect_hash, expected):
        raise Void("wrong_hash")


def verdict(s: State, r: Any) -> None:
    d = r.data
    c, t = base.at_attempt(s, d)
    if t["status"] != "produced":
        raise Void("conflict")
    e = t["effect"]
    if e is None:
        matches(s, t, d)
        draft(s, r, c, t)
        return
    matches(s, t, d)
    if d.judge == "cfo" and not needs_cfo(e):
        raise Void("conflict")
    if d.judge in e["votes"]:
        raise Void("duplicate")
    if d.decision == "fail" or d.failed_rules:
        base.fail(s, c, t)
        return
    vote: dict[str, Any] = {"tags": set(d.tags), "confidence": None, "ask": None}
    e["votes"][d.judge] = vote
    if d.decision == "people" and d.confidence is None:
        vote["ask"] = "abstains"
        quorum(s, r, c, t)
        return
    if base.bad_confidence(d.confidence):
        vote["ask"] = "bad_value"
        e["people"] = []  # whoever approved, approved before the vote that counts for nothing
        quorum(s, r, c, t)
        raise Rejected("bad_value")
    if d.judge == "cfo":
        vote["ask"] = "people" if d.decision == "people" else None
        if not too_low(s, c, t):
            quorum(s, r, c, t)
        return
    inline = s["policy"]["inline"]
    vote["confidence"] = min(d.confidence, t["cap"])
    if too_low(s, c, t):
        return
    if d.decision == "people":
        vote["ask"] = "people"
    elif sampled(inline.audit_sample_ppm, r.offset, e["proposal"].effect_hash):
        vote["ask"] = "audit"
    quorum(s, r, c, t)


def too_low(s: State, c: State, t: State) -> bool:
    """Whatever was said of the tags so far: is the content vote below what they and the platform ask for? Then it failed."""
    confidence = t["effect"]["votes"].get("content", {"confidence": None})["confidence"]
    if confidence is None or confidence >= border(s, t, "people_from"):
        return False
    base.fail(s, c, t)
    return True


def border(s: State, t: State, name: str) -> float:
    """The highest of what the policy says by default, of the platform, and of any tag."""
    inline = s["policy"]["inline"]
    own = [inline.platform_thresholds.get(t["effect"]["proposal"].platform)]
    own += [threshold for tag, threshold in inline.tag_thresholds.items() if tag in tags_said(t)]
    return max([getattr(inline, name)] + [getattr(o, name) for o in own if o is not None and getattr(o, name) is not None])


def tags_said(t: State) -> set[str]:
    """By the worker, and by every judge of any edition and edit."""
    e = t["effect"]
    return set(t["artifact"]["tags"] | e["said"]).union(*(vote["tags"] for vote in e["votes"].values()))


def sampled(ppm: int, offset: int, effect_hash: str) -> bool:
    drawn = int.from_bytes(hashlib.sha256(f"{offset}:{effect_hash}".encode()).digest()[:8], "big") % 1_000_000
    return drawn < ppm


def draft(s: State, r: Any, c: State, t: State) -> None:
    """An artifact without an effect: the content vote alone decides, people are never asked."""
    d = r.data
    inline = s["policy"]["inline"]
    if d.judge != "content":
        raise Void("conflict")
    if d.decision == "fail" or d.failed_rules:
        base.fail(s, c, t)
        return
    if d.decision == "people" and d.confidence is None:
        confidence = inline.people_from
    elif base.bad_confidence(d.confidence):
        base.fail(s, c, t)
        raise Rejected("bad_value")
    else:
        confidence = d.confidence
    if confidence < inline.people_from:
        base.fail(s, c, t)
        return
    if base.is_stale(s, c, t):
        base.plan_again(s, c, t)
        raise Rejected("stale")
    s["version"] += 1
    s["writes"].append({"version": s["version"], "aspects": frozenset(), "by": (c["number"], t["ordinal"])})
    high = confidence > inline.approve_above and d.decision == "pass"
    base.finish(s, c, t, min(t["cap"], 1.0 if high else min(confidence, inline.approve_above)), r.append_ts)


def asks_people(s: State, t: State) -> bool:
    """Why people are asked, recounted from everything anyone said."""
    e, inline = t["effect"], s["policy"]["inline"]
    p = e["proposal"]
    if agent.in_shadow(s):
        e["votes"]["content"]["ask"] = e["votes"]["content"]["ask"] or "shadow"
    if any(vote["ask"] for vote in e["votes"].values()):
        return True
    if tags_said(t) & set(inline.sensitive_tags):
        return True
    confidence = e["votes"]["content"]["confidence"]
    if confidence is not None and confidence <= border(s, t, "approve_above"):
        return True
    classes = ["reply", "publish"] if p.effect_class == "publish" and p.thread is not None else [p.effect_class]
    allowed = [inline.taint_auto[name] for name in classes if name in inline.taint_auto]
    worst = "owner" if p.effect_class == "financial" or not allowed else allowed[0]
    if TAINTS.index(t["artifact"]["taint"]) > TAINTS.index(worst):
        return True
    if e.get("new_payee"):
        return True
    small = 0 < inline.auto_financial_usd >= p.max_cost_usd
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
    if needs_cfo(e) and "cfo" not in e["votes"]:
        return
    if work.needs_funds(p) and e["funds"] != "held":
        return
    if asks_people(s, t) and len(e["people"]) < max(people_needed(s, p), 2 if e.get("new_payee") else 1):
        if e["status"] != "people":
            e["status"], e["opened"] = "people", r.append_ts
        return
    if base.is_stale(s, c, t):
        base.plan_again(s, c, t)
        raise Rejected("stale")
    if too_similar(s, c, t):
        base.fail(s, c, t)
        raise Rejected("too_similar")
    if not e["committed"]:
        e["committed"] = True
        base.write(s, {f"thread/{p.thread}"} if p.thread else set(), (c["number"], t["ordinal"]))
        if p.thread:
            s["answered"].append(p.thread)
    e["held"] = None
    e["status"], e["approved"], e["edition"] = "approved", r.append_ts, s["policy"]["edition"]
    e["ahead"] = max(0, e["not_before"] - r.append_ts)


def too_similar(s: State, c: State, t: State) -> bool:
    """Against the account's last 64 claimed texts, one per task, whatever was claimed first."""
    p = t["effect"]["proposal"]
    mine = (c["number"], t["ordinal"])
    if not p.text_hash:
        return False
    for text, sim, by in [x[1:] for x in s["prints"] if x[0] == (p.platform, p.account)][-64:]:
        if by == mine:
            continue
        if text == p.text_hash or (sim ^ int(p.simhash, 16)).bit_count() <= s["policy"]["inline"].similar_bits:
            return True
    return False


def may_approve(s: State, c: State, e: State, actor: str, *, edits: bool = False) -> bool:
    inline = s["policy"]["inline"]
    kind = e["proposal"].effect_class
    if actor not in inline.approvers.get(kind, []) or not base.is_person(actor):
        return False
    if actor in (c["requester"], s["policy"]["editor"]):
        return False
    return edits or not (kind == "financial" and actor == e["editor"])


def needs_cfo(e: State) -> bool:
    return bool(e["proposal"].effect_class != "publish" or e["proposal"].max_cost_usd > 0)


def human_approved(s: State, r: Any) -> None:
    c, t = base.at_attempt(s, r.data)
    if t["status"] != "produced":
        raise Void("conflict")
    e = t["effect"]
    matches(s, t, r.data)
    if e is None or e["status"] != "people":
        raise Void("conflict")
    if not may_approve(s, c, e, r.actor):
        raise Void("not_entitled")
    if r.actor in e["people"]:
        raise Void("duplicate")
    e["people"].append(r.actor)
    quorum(s, r, c, t)
    if e["status"] == "approved" and e["edit"] == 0:
        agent.person_decided(s, r.actor, overridden=False)


def human_rejected(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    if e["status"] != "people":
        raise Void("conflict")
    if (d.effect_hash, d.edit) != (e["proposal"].effect_hash, e["edit"]):
        raise Void("wrong_hash")
    if e["proposal"].text_hash:
        s["refused"].append(((r.partition, r.offset), t["artifact"]["at"]))
    base.close_task(s, c, t, "rejected")
    if e["edit"] == 0:
        agent.person_decided(s, r.actor, overridden=True)


def hold(s: State, r: Any) -> None:
    """Who looks into a card: a mark that nothing else reads."""
    d = r.data
    _, _, e = base.with_effect(s, d)
    if e["status"] != "people":
        raise Void("conflict")
    if (d.effect_hash, d.edit) != (e["proposal"].effect_hash, e["edit"]):
        raise Void("wrong_hash")
    if not base.is_person(r.actor):
        raise Void("not_entitled")
    if not d.held and e.get("held") is None:
        raise Void("conflict")
    e["held"] = (r.actor, max(0, d.until)) if d.held else None


def human_edited(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    if e["status"] != "people":
        raise Void("conflict")
    base.next_number(e["edit"], d.edit)
    old = e["proposal"]
    if d.old_effect_hash != old.effect_hash or d.effect.effect_hash == old.effect_hash:
        raise Void("wrong_hash")
    same = all(
        getattr(old, name) == getattr(d.effect, name)
        for name in ("effect_class", "tool_class", "platform", "account", "thread", "max_cost_usd", "payee")
    )
    if re.fullmatch("[0-9a-f]{16}", d.effect.simhash) is None:
        raise Void("bad_value")
    if not same or d.effect.agent != s["key"] or d.effect.input_state_version != t["input"]:
        raise Void("conflict")
    if d.policy_edition != s["policy"]["edition"]:
        raise Void("edition")
    if not may_approve(s, c, e, r.actor, edits=True):
        raise Void("not_entitled")
    e["said"] |= {tag for vote in e["votes"].values() for tag in vote["tags"]}
    e["not_before"] = d.effect.not_before
    e.update(proposal=d.effect, edit=d.edit, editor=r.actor, votes={}, status="proposed", committed=False, held=None)
    e["people"] = [] if old.effect_class == "financial" else [r.actor]
    t["artifact"].update(hash=d.artifact_hash, at=(r.partition, r.offset))
    if d.edit == 1:
        agent.person_decided(s, r.actor, overridden=True)


def funds(s: State, r: Any) -> None:
    d = r.data
    c = s["campaigns"].get(d.campaign, {"tasks": {}})
    t = c["tasks"].get(d.ordinal)
    e = t["effect"] if t is not None and t["attempt"] == d.attempt else None
    if e is None or e["funds"] not in ("asked", "over_budget"):
        raise Void("closed")
    if d.answer == "payee":
        base.close_task(s, c, t, "payee")
        return
    e["funds"], e["new_payee"] = d.answer, d.reason == "new_payee"
    quorum(s, r, c, t)


def withdrawn(s: State, r: Any) -> None:
    c, t, e = base.with_effect(s, r.data)
    if r.data.effect_hash != e["proposal"].effect_hash:
        raise Void("wrong_hash")
    if e["status"] != "approved":
        raise Void("conflict")
    base.close_task(s, c, t, "withdrawn")


def claimed(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    p, inline = e["proposal"], s["policy"]["inline"]
    if d.effect_hash != p.effect_hash:
        raise Void("wrong_hash")
    base.next_number(e["claim"], d.claim)
    if e["status"] != "approved":
        raise Void("conflict")
    base.sane_lease(d.lease_ms)
    e["claim"] = d.claim
    if base.is_stale(s, c, t):
        base.plan_again(s, c, t)
        raise Rejected("stale")
    if base.agent_held(s) or c["status"] == "paused":
        raise Rejected("paused")
    if r.append_ts < max(e["not_before"], e["approved"] + inline.undo_ms):
        raise Rejected("too_early")
    limit = inline.frequency.get(p.platform) if p.text_hash else None
    if limit is not None:
        recent = [at for platform, at in s["claims"] if platform == p.platform and at > r.append_ts - limit.window_ms]
        if len(recent) >= limit.claims:
            fits = recent[-limit.claims] if limit.claims > 0 else r.append_ts
            e["not_before"] = max(e["not_before"], fits + limit.window_ms)
            raise Rejected("too_frequent")
    if too_similar(s, c, t):
        base.fail(s, c, t)
        raise Rejected("too_similar")
    e["status"] = "claimed"
    e["tokens"][d.claim] = d.token
    e["lease_until"] = r.append_ts + d.lease_ms
    mine = (c["number"], t["ordinal"])
    if p.text_hash:
        sim = int(p.simhash, 16) if re.fullmatch("[0-9a-f]{16}", p.simhash) else 0
        s["prints"] = [x for x in s["prints"] if x[3] != mine or x[0] != (p.platform, p.account)]
        s["prints"].append(((p.platform, p.account), p.text_hash, sim, mine))
    if limit is not None:
        s["claims"].append((p.platform, r.append_ts))
    e["claimed"] = r.append_ts


def holds(e: State, d: Any) -> bool:
    """The record names the current claim with its token."""
    return d.claim == e["claim"] and e["tokens"].get(d.claim) == d.token


def back_to_approved(s: State, r: Any, c: State, t: State) -> None:
    e = t["effect"]
    mine = (e["proposal"].platform, e["claimed"])
    if mine in s["claims"]:
        s["claims"].remove(mine)  # what was not sent does not count towards frequency
    if c["status"] == "cancelled":
        base.close_task(s, c, t, "cancelled")
        return
    if e["edition"] != s["policy"]["edition"]:
        agent.judge_again(e)
        return
    e["status"] = "approved"


def submitted(s: State, r: Any) -> None:
    _, _, e = base.with_effect(s, r.data)
    claim_known(e, r.data.claim)
    if not holds(e, r.data):
        raise Void("wrong_token")
    if e["status"] != "claimed":
        raise Void("conflict")
    base.sane_lease(r.data.lease_ms)
    e["status"], e["lease_until"] = "submitted", r.append_ts + r.data.lease_ms


def claim_known(e: State, claim: int) -> None:
    """It speaks of the live claim."""
    if claim > e["claim"]:
        raise Void("conflict")
    if claim < e["claim"] or claim not in e["tokens"] or e["status"] not in base.IN_FLIGHT:
        raise Void("duplicate")


def deferred(s: State, r: Any) -> None:
    c, t, e = base.with_effect(s, r.data)
    claim_known(e, r.data.claim)
    if not holds(e, r.data):
        raise Void("wrong_token")
    if e["status"] not in ("claimed", "unknown"):
        raise Void("conflict")
    e["not_before"] = max(e["not_before"], r.data.not_before)
    back_to_approved(s, r, c, t)


def unknown(s: State, r: Any) -> None:
    _, _, e = base.with_effect(s, r.data)
    claim_known(e, r.data.claim)
    if e["status"] == "unknown":
        raise Void("duplicate")
    if not holds(e, r.data) and r.append_ts < e["lease_until"]:
        raise Void("too_early" if r.data.token is None else "wrong_token")
    e["status"] = "unknown"


def ended(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    mine = d.token is not None and e["tokens"].get(d.claim) == d.token
    if not (d.outcome == "executed" and mine):
        claim_known(e, d.claim)
        by_token = d.outcome == "refused" and mine
        if not by_token and d.proof is None:
            raise Void("no_proof" if d.token is None else "wrong_token")
        if d.outcome != "refused" and e["status"] != "unknown":
            raise Void("conflict")
    if d.outcome == "executed":
        base.finish(s, c, t, 1.0, r.append_ts, e["proposal"].max_cost_usd if base.bad_cost(d.cost_usd) else d.cost_usd)
        return
    if d.outcome == "refused":
        base.fail(s, c, t)
        return
    if r.append_ts < e["lease_until"] + s["policy"]["inline"].grace_ms:
        raise Void("too_early")
    back_to_approved(s, r, c, t)


def expired(s: State, r: Any) -> None:
    d = r.data
    c, t, e = base.with_effect(s, d)
    inline = s["policy"]["inline"]
    status, since, allowed = ("people", e["opened"], inline.expiry_ms)
    if d.what == "approval":
        status, since, allowed = ("approved", e["approved"], inline.lapse_ms + e["ahead"])
    if e["status"] != status:
        raise Void("conflict")
    if r.append_ts < since + allowed + base.held_ms(c, since, r.append_ts):
        raise Void("too_early")
    base.close_task(s, c, t, "expired")
