"""When people are asked, why, and how many of them: from numbers in the records and the inline policy (law: Quorum).

The rule not to break: asking leaves a state as it was, and of several numbers that apply the one counts that asks more of people.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from chimera.events.does.steps import usable_confidence
from chimera.events.does.trust import in_shadow
from chimera.events.envelope import Record
from chimera.events.records import JudgeVerdict, PolicyInline
from chimera.events.state import Agent, Campaign, Effect, Task
from chimera.events.thresholds import Borders, borders

NEW_PAYEE = "new_payee"
"""What the tenant's answer says beside "held" where nothing was ever paid to the payee."""
_TAINT = {"owner": 0, "allowlisted": 1, "open": 2}


def needs_cfo(e: Effect) -> bool:
    """Paid and financial effects, and whatever else costs money."""
    return e.effect_class != "publish" or e.max_cost > 0


def people_needed(agent: Agent, e: Effect) -> int:
    """How many distinct people, by class and amount; two for a new payee."""
    p = policy_of(agent)
    needed = max(p.people.get(e.effect_class, 2 if e.effect_class == "financial" else 1), 2 if e.new_payee else 1)
    return max([needed, *(tier.people for tier in p.amount_tiers if e.max_cost >= tier.amount_usd)]) if p.amount_tiers else needed


def policy_of(agent: Agent) -> PolicyInline:
    """The policy in force for an agent; who votes on its work was shown to have one."""
    assert agent.policy is not None
    return agent.policy.inline


def limits_of(agent: Agent, e: Effect) -> Borders:
    """The strictest thresholds of its platform and of every tag that anybody gave it so far."""
    return borders(policy_of(agent), e.platform, e.tags)


def cap_of(c: Campaign, t: Task) -> float:
    """How sure one may be of what was made from this: as of the least sure thing that it was made from."""
    return min([c.done[o].cap for o in t.depends_on if o in c.done], default=1.0) if t.depends_on else 1.0


def why_people(agent: Agent, e: Effect, d: JudgeVerdict, r: Record, limits: Borders) -> str:
    """The first reason to ask people, or "" where the content passes by itself."""
    p = policy_of(agent)
    if d.decision == "people":
        return "judge"
    if e.confidence is None or not e.confidence > limits.approve_above:
        return "confidence"
    if e.tags and any(tag in p.sensitive_tags for tag in e.tags):
        return "sensitive"
    if _TAINT[e.taint] > _worst_taint(p, e):
        return "taint"
    if p.audit_sample_ppm:
        drawn = hashlib.sha256(f"{r.offset}:{e.hash}".encode()).digest()
        if int.from_bytes(drawn[:8], "big") % 1_000_000 < p.audit_sample_ppm:
            return "audit_sample"
    return ""


def _worst_taint(p: PolicyInline, e: Effect) -> int:
    """The least trusted source that this class of effect may be made from without people; an answer to somebody has its own."""
    by_class = "owner" if e.effect_class == "financial" else p.taint_auto.get(e.effect_class, "owner")
    answers = e.effect_class == "publish" and e.thread is not None
    return _TAINT[p.taint_auto.get("reply", by_class) if answers else by_class]


def why_people_for_money(agent: Agent, e: Effect) -> str:
    """People for what the CFO doubts, for a tag that only the CFO saw and the threshold it brings, from the policy's amounts on,
    for a new payee, and for financial effects above a small automatic limit that the policy names."""
    p = policy_of(agent)
    if e.cfo == "people":
        return "cfo"
    if e.confidence is not None and not e.confidence > limits_of(agent, e).approve_above:
        return "confidence"
    if e.tags and any(tag in p.sensitive_tags for tag in e.tags):
        return "sensitive"
    if p.amount_tiers and any(e.max_cost >= tier.amount_usd for tier in p.amount_tiers):
        return "amount"
    if e.new_payee:
        return "new_payee"
    named = p.auto_financial_usd > 0 and e.max_cost <= p.auto_financial_usd
    return "financial" if e.effect_class == "financial" and not named else ""


def foreseen(agent: Agent, c: Campaign, t: Task, d: JudgeVerdict, r: Record) -> tuple[Literal["auto", "people", "retry"], str]:
    """Where this content vote alone brings the attempt under the agent's policy, and why; nothing is changed.

    `auto`: it passes without people, `people`: they are asked, `retry`: the attempt failed. Staleness, sameness, funds and the
    CFO's vote have no part in it but for a CFO who already asked for people. The law's own questions, for those who rehearse.
    """
    if d.decision == "fail" or d.failed_rules:
        return "retry", "rules"
    bad = not usable_confidence(d.confidence) and not (d.decision == "people" and d.confidence is None)
    p, e = policy_of(agent), t.effect
    if e is None:
        confidence = d.confidence if d.confidence is not None else p.people_from
        return ("retry", "bad_value") if bad else ("retry", "low_confidence") if confidence < p.people_from else ("auto", "")
    worth = None if bad or d.confidence is None else min(d.confidence, cap_of(c, t))
    tags, known = e.tags, e.confidence
    # Set and put back: a copy of an effect, twice a vote, would be a tenth of what a rehearsal costs.
    e.tags, e.confidence = tuple(dict.fromkeys((*tags, *d.tags))), worth
    try:
        limits = limits_of(agent, e)
        if worth is not None and worth < limits.people_from:
            return "retry", "low_confidence"
        ask = "bad_value" if bad else why_people(agent, e, d, r, limits)
        ask = ask or ("shadow" if in_shadow(agent) else "") or why_people_for_money(agent, e)
        there = 0 if bad else len(e.approvals)  # an editor's vote came before the judges'
        return ("people", ask) if ask and there < people_needed(agent, e) else ("auto", "")
    finally:
        e.tags, e.confidence = tags, known
