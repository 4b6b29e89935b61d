"""Votes, and when they make an approval: computed from numbers in the records and the inline policy (law: Quorum).

The rule not to break: no judge's or person's word alone approves anything. The record that completes the quorum is the commit.
"""

from __future__ import annotations

from typing import Any

from chimera.events.does.campaigns import Spot
from chimera.events.does.people import (
    NEW_PAYEE,
    cap_of,
    limits_of,
    needs_cfo,
    people_needed,
    policy_of,
    why_people,
    why_people_for_money,
)
from chimera.events.does.steps import again, close_task, fail, finish_task, too_similar, usable_confidence, write
from chimera.events.does.trust import AGREED, EDITED, REJECTED, decided, in_shadow
from chimera.events.does.work import is_hex64, proposed
from chimera.events.envelope import Record
from chimera.events.hashes import commit_hash
from chimera.events.principals import is_machine
from chimera.events.records import (
    CardHoldSet,
    FundsAnswered,
    HumanApproved,
    HumanEdited,
    HumanRejected,
    JudgeVerdict,
    Vote,
)
from chimera.events.state import LESSONS, THREADS, Agent, Campaign, Change, Effect, Hold, Lesson, Ref, Task

# --- guards ----------------------------------------------------------------------------------------------------------


def artifact_waits(at: Spot, r: Record) -> str | None:
    """There is an artifact of exactly this attempt."""
    t = at.task
    attempt: int = r.data.attempt  # type: ignore[union-attr]
    if attempt > t.attempt:
        return "conflict"
    if attempt < t.attempt or t.status == "planned":
        return "closed"
    return None if t.status == "produced" else "conflict"


def same_edition(at: Spot, r: Record) -> str | None:
    edition: int = r.data.policy_edition  # type: ignore[union-attr]
    policy = at.agent.policy
    return None if policy is not None and edition == policy.edition else "edition"


def same_hashes(at: Spot, r: Record) -> str | None:
    """The vote names exactly what lies there: edit number, input version, artifact, effect, and the commit it would make."""
    d = r.data
    assert isinstance(d, Vote)
    agent, _, t = at
    e = t.effect
    effect_hash, edit = (e.hash, e.edit) if e is not None else (None, 0)
    if d.input_state_version != t.input_state_version or d.edit != edit:
        return "conflict"
    if d.artifact_hash != t.artifact_hash or d.effect_hash != effect_hash:
        return "wrong_hash"
    expected = commit_hash(agent.key, f"{d.campaign}.{d.ordinal}", t.input_state_version, t.artifact_hash, effect_hash)
    return None if d.commit_hash == expected else "wrong_hash"


def first_vote_of_judge(at: Spot, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, JudgeVerdict)
    e = at.task.effect
    if d.judge == "content":
        return "duplicate" if e is not None and e.content_ask is not None else None
    if e is None or not needs_cfo(e):
        return "conflict"
    return "duplicate" if e.cfo is not None else None


def waits_for_people(at: Spot, r: Record) -> str | None:
    e = at.task.effect
    if e is None:
        return "conflict"
    return None if e.status == "people" else "conflict"


def entitled(at: Spot, r: Record) -> str | None:
    """A person, and approver for this class; not requester, not the policy's last editor, for finance not the effect's; once."""
    agent, c, t = at
    e, p = t.effect, agent.policy
    assert e is not None
    assert p is not None
    named = r.actor in p.inline.approvers.get(e.effect_class, ())
    if not named or is_machine(r.actor) or r.actor in (c.requester, p.editor):
        return "not_entitled"
    if e.effect_class == "financial" and r.actor == e.editor and isinstance(r.data, HumanApproved):
        return "not_entitled"
    return "duplicate" if isinstance(r.data, HumanApproved) and r.actor in e.approvals else None


def names_effect(at: Spot, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, HumanRejected | CardHoldSet)
    e = at.task.effect
    assert e is not None
    return None if (d.effect_hash, d.edit) == (e.hash, e.edit) else "wrong_hash"


def may_hold(at: Spot, r: Record) -> str | None:
    """A person; and only what is held is released."""
    d = r.data
    assert isinstance(d, CardHoldSet)
    e = at.task.effect
    assert e is not None
    if is_machine(r.actor):
        return "not_entitled"
    return None if d.held or e.held is not None else "conflict"


def next_edit(at: Spot, r: Record) -> str | None:
    """It replaces exactly the bytes that lie there, by the same act on the same account, at the same price to the same payee."""
    d = r.data
    assert isinstance(d, HumanEdited)
    t = at.task
    e, p = t.effect, d.effect
    assert e is not None
    if d.edit != e.edit + 1:
        return "duplicate" if d.edit <= e.edit else "conflict"
    if d.old_effect_hash != e.hash or p.effect_hash == e.hash:
        return "wrong_hash"
    if not is_hex64(p.simhash):
        return "bad_value"
    kept = (e.effect_class, e.tool_class, e.platform, e.account, e.thread, e.max_cost, e.payee)
    new = (p.effect_class, p.tool_class, p.platform, p.account, p.thread, p.max_cost_usd, p.payee)
    same = kept == new and (p.agent, p.input_state_version) == (at.agent.key, t.input_state_version)
    return None if same else "conflict"


# --- what votes do ---------------------------------------------------------------------------------------------------


def judge_verdict(at: Spot, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, JudgeVerdict)
    agent, c, t = at
    bad = not usable_confidence(d.confidence) and not (d.decision == "people" and d.confidence is None)
    if t.effect is None:
        return _draft_voted(agent, c, t, d, bad, r, out)
    e = t.effect
    if d.decision == "fail" or d.failed_rules:
        fail(agent, c, t, "rules", r, out, "rejected")
        return ""
    if e.tags or d.tags:
        e.tags = tuple(dict.fromkeys((*e.tags, *d.tags)))
    limits = limits_of(agent, e)
    if d.judge == "cfo":
        e.cfo = "people" if bad or d.decision == "people" else "pass"
    else:
        e.confidence = None if bad or d.confidence is None else min(d.confidence, cap_of(c, t))
        e.content_ask = "bad_value" if bad else why_people(agent, e, d, r, limits)
    if not bad and e.confidence is not None and e.confidence < limits.people_from:
        fail(agent, c, t, "low_confidence", r, out, "rejected")
        return ""
    e.decided_by.append(Ref(r.partition, r.offset))
    if bad:
        e.approvals = []  # an editor's vote came before the one that counts for nothing: a rejected record commits nothing
    reason = _count(agent, c, t, e, r, out)
    return reason or ("bad_value" if bad else "")


def human_approved(at: Spot, r: Record, out: list[Change]) -> str:
    agent, c, t = at
    e = t.effect
    assert e is not None
    e.approvals.append(r.actor)
    e.decided_by.append(Ref(r.partition, r.offset))
    reason = _count(agent, c, t, e, r, out)
    if e.status == "approved" and not e.edit:  # an edited card was counted when it was edited
        decided(agent, r.actor, AGREED, out)
    return reason


def human_rejected(at: Spot, r: Record, out: list[Change]) -> str:
    """What it refuses of the agent's words is remembered by place; a refused takedown says nothing about words."""
    agent, c, t = at
    edited = t.effect is not None and t.effect.edit
    if t.effect is not None and t.effect.text_hash:
        agent.lessons.append(Lesson(Ref(r.partition, r.offset), t.effect.ref))
        del agent.lessons[:-LESSONS]
    close_task(agent, c, t, "rejected", out, "rejected")
    if not edited:
        decided(agent, r.actor, REJECTED, out)
    return ""


def card_hold_set(at: Spot, r: Record, out: list[Change]) -> str:
    """A mark on the card: nothing that decides looks at it."""
    d = r.data
    assert isinstance(d, CardHoldSet)
    _, c, t = at
    assert t.effect is not None
    t.effect.held = Hold(r.actor, max(0, d.until), Ref(r.partition, r.offset)) if d.held else None
    out.append(Change("hold", c.number, t.ordinal, t.attempt, "held" if d.held else "released", d.reason, str(d.until)))
    return ""


def human_edited(at: Spot, r: Record, out: list[Change]) -> str:
    """New bytes with the editor's vote (never for finance); every judge is asked again, and they are committed anew."""
    d = r.data
    assert isinstance(d, HumanEdited)
    agent, c, t = at
    old = t.effect
    assert old is not None
    e = proposed(d.effect, old.taint, list(old.tags), r)
    e.edit, e.editor, e.funds, e.new_payee, e.claim, e.tokens = d.edit, r.actor, old.funds, old.new_payee, old.claim, old.tokens
    if e.effect_class != "financial":  # whoever edits what is paid out may not also approve it
        e.approvals, e.decided_by = [r.actor], [Ref(r.partition, r.offset)]
    t.effect, t.artifact_hash, t.artifact = e, d.artifact_hash, Ref(r.partition, r.offset)
    out.append(Change("effect", c.number, t.ordinal, t.attempt, "proposed", "edited"))
    if d.edit == 1:
        decided(agent, r.actor, EDITED, out)
    return ""


def funds_answered(agent: Agent, r: Record, out: list[Change]) -> str:
    """The copy's number is used up whatever it finds."""
    d = r.data
    assert isinstance(d, FundsAnswered)
    c = agent.campaigns.get(d.campaign)
    t = c.tasks.get(d.ordinal) if c is not None else None
    e = t.effect if t is not None and t.attempt == d.attempt else None
    if c is None or t is None or e is None or e.funds not in ("asked", "over_budget"):
        return "closed"
    out.append(Change("funds", c.number, t.ordinal, t.attempt, d.answer, d.reason))
    if d.answer == "payee":
        close_task(agent, c, t, "payee", out)
        return ""
    e.funds, e.new_payee = d.answer, d.reason == NEW_PAYEE
    return _count(agent, c, t, e, r, out) if d.answer == "held" and e.status == "proposed" else ""


def _draft_voted(agent: Agent, c: Campaign, t: Task, d: JudgeVerdict, bad: bool, r: Record, out: list[Change]) -> str:
    """An artifact without effect is committed by the content vote alone; a middling one caps what is made from it."""
    p = policy_of(agent)
    if d.decision == "fail" or d.failed_rules:
        fail(agent, c, t, "rules", r, out)
        return ""
    if bad:
        fail(agent, c, t, "bad_value", r, out)
        return "bad_value"
    confidence = d.confidence if d.confidence is not None else p.people_from
    if confidence < p.people_from:
        fail(agent, c, t, "low_confidence", r, out)
        return ""
    if t.stale:
        again(agent, c, t, "stale", r, out)
        return "stale"
    sure = confidence > p.approve_above and d.decision == "pass"
    cap = min(cap_of(c, t), 1.0 if sure else min(confidence, p.approve_above))
    _commit(agent, c, t, None, r, out)
    finish_task(agent, c, t, cap, "closed", r, out)
    return ""


def _count(agent: Agent, c: Campaign, t: Task, e: Effect, r: Record, out: list[Change]) -> str:
    """Count the votes; approve and commit where this record completes the quorum."""
    if e.content_ask is None or (needs_cfo(e) and e.cfo is None) or (e.funds is not None and e.funds != "held"):
        return ""
    if not e.content_ask and in_shadow(agent):
        e.content_ask = "shadow"  # and stays a card for people, whatever is thought of the agent when they decide
    ask = e.content_ask or why_people_for_money(agent, e)
    if ask and len(e.approvals) < people_needed(agent, e):
        if e.status != "people":
            e.status, e.opened_ts, e.opened_held = "people", r.append_ts, c.held(r.append_ts)
            out.append(Change("effect", c.number, t.ordinal, t.attempt, "people", ask))
        return ""
    if t.stale:
        again(agent, c, t, "stale", r, out, "stale")
        return "stale"
    if too_similar(agent, c, t, e):
        fail(agent, c, t, "too_similar", r, out, "rejected")
        return "too_similar"
    assert agent.policy is not None
    e.status, e.approved_edition, e.confidence, e.held = "approved", agent.policy.edition, None, None
    e.approved_ts, e.approved_held = r.append_ts, c.held(r.append_ts)
    e.ahead_ms = max(0, e.not_before - r.append_ts)
    if not e.committed:
        e.committed = True
        _commit(agent, c, t, e, r, out)
    out.append(Change("effect", c.number, t.ordinal, t.attempt, "approved", ask))
    return ""


def _commit(agent: Agent, c: Campaign, t: Task, e: Effect | None, r: Record, out: list[Change]) -> None:
    """Raise the version; a reply writes its thread. Recorded with input and output version and the commit hash."""
    aspects: tuple[str, ...] = ()
    if e is not None and e.thread:
        aspects = (f"thread/{e.thread}",)
        before = sum(count for thread, count in agent.answered if thread == e.thread)
        others = [(thread, count) for thread, count in agent.answered if thread != e.thread]
        agent.answered = [*others, (e.thread, before + 1)][-THREADS:]
    write(agent, aspects, own=(c.number, t.ordinal))
    d: Any = r.data
    if type(d) is FundsAnswered:  # everybody else votes, and the vote's own was held against this by `same_hashes`
        bound = commit_hash(
            agent.key, f"{c.number}.{t.ordinal}", t.input_state_version, t.artifact_hash, e.hash if e is not None else None
        )
    else:
        bound = d.commit_hash
    detail = f"{t.input_state_version} {agent.version} {bound}"
    out.append(Change("commit", c.number, t.ordinal, t.attempt, "committed", "", detail))
