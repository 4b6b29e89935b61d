"""One record at a time, guarded in the law's order: readable, known, signed, hashed, numbered, in time, then its own row."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from chimera.events.envelope import Record
from chimera.events.state import Law
from tests.slowfold import agent, base, effects, work
from tests.slowfold.base import Rejected, State, Void

ROWS: dict[str, Callable[[State, Any], None]] = {
    "SoulAdopted": agent.soul,
    "PolicyAdopted": agent.policy,
    "AccountLinked": agent.linked,
    "AccountUnlinked": agent.unlinked,
    "ToolChanged": agent.tool_changed,
    "AgentStatusSet": agent.status,
    "AllowanceSet": agent.allowance,
    "CampaignStarted": agent.campaign_started,
    "BriefChanged": agent.brief,
    "CampaignStatusSet": agent.campaign_status,
    "PlanDrafted": work.plan,
    "TaskPlanned": work.planned,
    "CampaignCompleted": agent.completed,
    "WorkStarted": work.started,
    "ArtifactProduced": work.produced,
    "WorkFailed": work.failed,
    "SignalObserved": agent.signal,
    "JudgeVerdict": effects.verdict,
    "HumanApproved": effects.human_approved,
    "HumanRejected": effects.human_rejected,
    "HumanEdited": effects.human_edited,
    "CardHoldSet": effects.hold,
    "FundsAnswered": effects.funds,
    "EffectWithdrawn": effects.withdrawn,
    "EffectClaimed": effects.claimed,
    "EffectSubmitted": effects.submitted,
    "EffectDeferred": effects.deferred,
    "EffectUnknown": effects.unknown,
    "EffectEnded": effects.ended,
    "Expired": effects.expired,
    "CopiesDelivered": agent.delivered,
}
NO_COPIES = ("AgentEnrolled", "AgentStatusSet", "ToolChanged", "EffectWithdrawn", "CardHoldSet")
"""Commands that name no courier."""

Answer = tuple[str, str, int]


def signed(law: Law, r: Record) -> bool:
    """Rule 5: the command service always signs, and so are copies (by the courier's key where the law lists one); the others
    where the law lists a key. Only rows that name the courier take copies."""
    role = r.data.ROLE  # type: ignore[union-attr]
    if getattr(r.data, "copied", None) is not None:
        if r.type in NO_COPIES:
            return False
        role = "courier" if "courier" in law.keys else "command"
    if r.type == "EffectEnded" and r.data.command_no > 0:  # type: ignore[union-attr]
        role = "command"
    if role == "courier" and "courier" not in law.keys:
        role = "command"
    if role == "command":
        return r.signed_by in law.keys.get("command", frozenset())
    return role not in law.keys or r.signed_by in law.keys[role]


def numbered(s: State, r: Record) -> str:
    """Which of the two number spaces a record uses: command, copy or neither. Raises where it is not the next one."""
    d: Any = r.data
    copied = getattr(d, "copied", None)
    if copied is not None:
        base.next_number(s["copies_in"].get(copied.source, 0), copied.number)
        return "copy"
    if hasattr(d, "command_no") and (r.type != "EffectEnded" or d.command_no > 0):
        if r.id in s["recent"]:
            raise Void("duplicate")
        base.next_number(s["command_no"], d.command_no)
        return "command"
    return ""


def slow_step(law: Law, s: State | None, r: Record) -> tuple[State | None, Answer]:
    """The state after the record, and (outcome, reason, version)."""
    version = s["version"] if s is not None else 0

    def void(reason: str) -> tuple[State | None, Answer]:
        return s, ("void", reason, version)

    if r.defect is not None:
        if s is not None and not s["quarantined"]:
            s = copy.deepcopy(s)
            s["quarantined"] = True
            base.note_gates(s, r.append_ts)
        return void("unreadable")
    if r.data is None or r.type not in (*ROWS, "AgentEnrolled"):
        return void("unknown_type")
    d: Any = r.data
    if not signed(law, r):
        return void("forged")
    if not r.hash_ok:
        return void("wrong_hash")
    if r.type == "AgentEnrolled":
        if s is not None:
            return void("duplicate")
        if d.copied is not None or d.command_no > 1:
            return void("conflict")
        if d.command_no < 1:
            return void("duplicate")
        if 0 < d.not_after < r.append_ts:
            return void("too_late")
        return agent.new_agent(r), ("applied", "", 1)
    if s is None:
        return void("unknown")
    if r.tenant != s["tenant"]:
        return void("forged")
    new = copy.deepcopy(s)
    space = ""
    try:
        if getattr(d, "copied", None) is not None and d.copied.source != f"tenant/{s['tenant']}":
            return void("forged")
        space = numbered(new, r)
        if 0 < getattr(d, "not_after", 0) < r.append_ts:
            raise Void("too_late")
        ROWS[r.type](new, told(new, r) if space == "copy" else r)
    except Rejected as no:
        use_number(new, r, space)
        base.forget_passing(new)
        return new, ("rejected", str(no), new["version"])
    except Void as no:
        if space != "copy":
            return void(str(no))
        s = copy.deepcopy(s)
        use_number(s, r, space)
        return s, ("rejected", str(no), version)
    use_number(new, r, space)
    base.forget_passing(new)
    return new, ("applied", "", new["version"])


def told(s: State, r: Record) -> Record:
    """ "Copies carry no agent-side numbers": a campaign's copy names it by its id; the youngest open one of that id is meant."""
    d: Any = r.data
    if r.type not in ("BriefChanged", "CampaignStatusSet"):
        return r
    own = [c for _, c in sorted(s["campaigns"].items()) if c["id"] == d.campaign_id]
    update = {"campaign": own[-1]["number"] if own else 0}
    if r.type == "BriefChanged":
        update["edition"] = own[-1]["edition"] + 1 if own else 0
    return replace(r, data=d.model_copy(update=update))


def use_number(s: State, r: Record, space: str) -> None:
    d: Any = r.data
    if space == "copy":
        s["copies_in"][d.copied.source] = d.copied.number
    if space == "command":
        s["command_no"] = d.command_no
        s["recent"] = [*s["recent"], r.id][-32:]


def slow_fold(law: Law, history: Iterable[Record]) -> tuple[State | None, list[Answer]]:
    """Fold a history of one agent's records from nothing."""
    s: State | None = None
    answers: list[Answer] = []
    for r in history:
        s, answer = slow_step(law, s, r)
        answers.append(answer)
    return s, answers
