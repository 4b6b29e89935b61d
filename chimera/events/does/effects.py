"""What the executor's records do: claims, submissions, deferrals, unknowns, ends; undo and expiry (law: The right to call)."""

from __future__ import annotations

from chimera.events.does.campaigns import Spot
from chimera.events.does.steps import (
    IN_FLIGHT,
    again,
    close_task,
    fail,
    finish_task,
    gate,
    judge_again,
    too_frequent,
    too_similar,
    usable_amount,
)
from chimera.events.envelope import Record
from chimera.events.records import (
    EffectClaimed,
    EffectDeferred,
    EffectEnded,
    EffectSubmitted,
    EffectUnknown,
    EffectWithdrawn,
    Expired,
)
from chimera.events.state import FINGERPRINTS, Agent, Campaign, Change, Effect, Task


def _effect(at: Spot) -> Effect:
    e = at.task.effect
    assert e is not None
    return e


# --- guards ----------------------------------------------------------------------------------------------------------


def effect_open(at: Spot, r: Record) -> str | None:
    """An effect of exactly this attempt is open."""
    t = at.task
    attempt: int = r.data.attempt  # type: ignore[union-attr]
    if attempt > t.attempt:
        return "conflict"
    if attempt < t.attempt or t.status == "planned":
        return "closed"
    return None if t.effect is not None else "conflict"


def names_hash(at: Spot, r: Record) -> str | None:
    effect_hash: str = r.data.effect_hash  # type: ignore[union-attr]
    return None if effect_hash == _effect(at).hash else "wrong_hash"


def is_approved(at: Spot, r: Record) -> str | None:
    return None if _effect(at).status == "approved" else "conflict"


def next_claim(at: Spot, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, EffectClaimed)
    e = _effect(at)
    return None if d.claim == e.claim + 1 else "duplicate" if d.claim <= e.claim else "conflict"


def current_claim(at: Spot, r: Record) -> str | None:
    """It speaks of the live claim."""
    claim: int = r.data.claim  # type: ignore[union-attr]
    e = _effect(at)
    if claim != e.claim or not e.tokens or e.tokens[-1][0] != claim:
        return "duplicate" if claim <= e.claim else "conflict"
    return None if e.status in IN_FLIGHT else "duplicate"


def current_token(at: Spot, r: Record) -> str | None:
    token: str = r.data.token  # type: ignore[union-attr]
    return None if token == _effect(at).tokens[-1][1] else "wrong_token"


def just_claimed(at: Spot, r: Record) -> str | None:
    return None if _effect(at).status == "claimed" else "conflict"


def known_not_sent(at: Spot, r: Record) -> str | None:
    """A submitted effect was sent."""
    return None if _effect(at).status in ("claimed", "unknown") else "conflict"


def may_say_unknown(at: Spot, r: Record) -> str | None:
    """The holder at any time, anyone once the lease is over."""
    d = r.data
    assert isinstance(d, EffectUnknown)
    e = _effect(at)
    if e.status == "unknown":
        return "duplicate"
    if d.token is not None and d.token == e.tokens[-1][1]:
        return None
    return None if r.append_ts >= e.lease_until else "wrong_token" if d.token is not None else "too_early"


def may_end(at: Spot, r: Record) -> str | None:
    """executed: any token of the open effect, or proof while unknown; refused: current token, or proof; not_executed: proof,
    unknown, and lease and grace over."""
    d = r.data
    assert isinstance(d, EffectEnded)
    e = _effect(at)
    if d.outcome == "executed" and d.token is not None and (d.claim, d.token) in e.tokens:
        return None
    reason = current_claim(at, r)
    if reason is not None:
        return reason
    if d.outcome == "refused" and d.token is not None and d.token == e.tokens[-1][1]:
        return None
    if d.proof is None:
        return "wrong_token" if d.token is not None else "no_proof"
    if d.outcome == "refused":
        return None
    if e.status != "unknown":
        return "conflict"
    agent = at.agent
    if d.outcome == "not_executed" and agent.policy is not None and r.append_ts < e.lease_until + agent.policy.inline.grace_ms:
        return "too_early"
    return None


def is_over(at: Spot, r: Record) -> str | None:
    """A card whose expiry, or an approval whose lapse, is over; held time does not count, nor time before it may be claimed."""
    d = r.data
    assert isinstance(d, Expired)
    agent, c, t = at
    e, p = t.effect, agent.policy
    assert e is not None
    assert p is not None
    if d.what == "card":
        if e.status != "people":
            return "conflict"
        waited = r.append_ts - e.opened_ts - (c.held(r.append_ts) - e.opened_held)
        return None if waited >= p.inline.expiry_ms else "too_early"
    if e.status != "approved":
        return "conflict"
    waited = r.append_ts - e.approved_ts - e.ahead_ms - (c.held(r.append_ts) - e.approved_held)
    return None if waited >= p.inline.lapse_ms else "too_early"


# --- what they do ----------------------------------------------------------------------------------------------------


def effect_withdrawn(at: Spot, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, EffectWithdrawn)
    agent, c, t = at
    close_task(agent, c, t, "withdrawn", out, "withdrawn")
    return ""


def effect_claimed(at: Spot, r: Record, out: list[Change]) -> str:
    """The claim's number is used up either way; only an applied claim draws the right to call."""
    d = r.data
    assert isinstance(d, EffectClaimed)
    agent, c, t = at
    e, p = _effect(at), agent.policy
    assert p is not None
    e.claim, now = d.claim, r.append_ts
    if t.stale:
        again(agent, c, t, "stale", r, out, "stale")
        return "stale"
    reason, later = gate(agent, c), 0
    if not reason and now < max(e.not_before, e.approved_ts + p.inline.undo_ms):
        reason = "too_early"
    if not reason and (later := too_frequent(agent, e, now)):
        reason, e.not_before = "too_frequent", max(e.not_before, later)
    if reason:
        e.wait_reason = reason
        return reason
    if too_similar(agent, c, t, e):
        fail(agent, c, t, "too_similar", r, out, "rejected")
        return "too_similar"
    e.status, e.claimed_ts, e.lease_until, e.wait_reason = "claimed", now, now + d.lease_ms, ""
    e.tokens.append((d.claim, d.token))
    _enter(agent, c, t, e, now)
    out.append(Change("effect", c.number, t.ordinal, t.attempt, "claimed", "", str(d.claim)))
    return ""


def _enter(agent: Agent, c: Campaign, t: Task, e: Effect, now: int) -> None:
    """Note the claimed text and time: sameness and frequency of later effects look at them."""
    if e.text_hash:
        texts = agent.fingerprints.setdefault(f"{e.platform}/{e.account}", [])
        if t.attempt > 1 or len(e.tokens) > 1:  # the first claim of its first attempt: none of these texts is the task's own
            texts[:] = [f for f in texts if (f[2], f[3]) != (c.number, t.ordinal)]
        texts.append((e.text_hash, e.simhash, c.number, t.ordinal))
        del texts[:-FINGERPRINTS]
    assert agent.policy is not None
    frequency = agent.policy.inline.frequency.get(e.platform)
    if frequency is not None and e.text_hash:
        times = [ts for ts in agent.claims.get(e.platform, ()) if ts > now - frequency.window_ms]
        agent.claims[e.platform] = [*times, now]


def _unenter_claim(agent: Agent, e: Effect) -> None:
    """What was not sent does not count towards frequency."""
    times = agent.claims.get(e.platform, [])
    if e.claimed_ts in times:
        times.remove(e.claimed_ts)


def effect_submitted(at: Spot, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, EffectSubmitted)
    _, c, t = at
    e = _effect(at)
    e.status, e.handle, e.lease_until = "submitted", d.handle[:256], r.append_ts + d.lease_ms
    out.append(Change("effect", c.number, t.ordinal, t.attempt, "submitted", "", e.handle))
    return ""


def effect_deferred(at: Spot, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, EffectDeferred)
    agent, c, t = at
    e = _effect(at)
    e.not_before = max(e.not_before, d.not_before)
    _back(agent, c, t, e, "deferred", d.reason, out)
    return ""


def effect_unknown(at: Spot, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, EffectUnknown)
    _, c, t = at
    _effect(at).status = "unknown"
    out.append(Change("effect", c.number, t.ordinal, t.attempt, "unknown", d.reason, str(d.claim)))
    return ""


def effect_ended(at: Spot, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, EffectEnded)
    agent, c, t = at
    e = _effect(at)
    if d.outcome == "executed":
        # An impossible cost tells nothing of the real one: the most it may have been is what counts.
        finish_task(agent, c, t, 1.0, "executed", r, out, d.cost_usd if usable_amount(d.cost_usd) else e.max_cost)
    elif d.outcome == "refused":
        fail(agent, c, t, "refused", r, out, "refused")
    else:
        _back(agent, c, t, e, "not_executed", d.reason, out)
    return ""


def _back(agent: Agent, c: Campaign, t: Task, e: Effect, status: str, reason: str, out: list[Change]) -> None:
    """Back to approved, or to the judges under a newer edition; in a campaign that closes, closed instead."""
    _unenter_claim(agent, e)
    out.append(Change("effect", c.number, t.ordinal, t.attempt, status, reason))
    if c.status == "cancelled":
        close_task(agent, c, t, "cancelled", out)
        return
    e.wait_reason = reason
    if agent.policy is not None and agent.policy.edition != e.approved_edition:
        judge_again(c, t, e, out)  # the edition changed while it was out
        return
    e.status = "approved"
    out.append(Change("effect", c.number, t.ordinal, t.attempt, "approved", status))


def expired(at: Spot, r: Record, out: list[Change]) -> str:
    agent, c, t = at
    close_task(agent, c, t, "expired", out, "expired")
    return ""
