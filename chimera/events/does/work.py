"""What the worker's records do: starts, artifacts with their proposed effect, failures."""

from __future__ import annotations

import re

from chimera.events.does.campaigns import Spot
from chimera.events.does.steps import again, ask_funds, close_task, fail, ref, settle_work, usable_amount, usable_confidence
from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, EffectProposal, WorkFailed, WorkStarted
from chimera.events.state import Agent, Change, Effect, Task

MAX_LEASE_MS = 86_400_000
_HEX64 = re.compile("[0-9a-f]{16}").fullmatch


def attempt_open(at: Spot, r: Record) -> str | None:
    """The task is open for work at exactly this attempt."""
    t = at.task
    attempt: int = r.data.attempt  # type: ignore[union-attr]
    if attempt > t.attempt:
        return "conflict"
    return "duplicate" if attempt < t.attempt or t.status != "open" else None


def not_started(at: Spot, r: Record) -> str | None:
    return "duplicate" if at.task.start_until else None


def sane_lease(at: Spot, r: Record) -> str | None:
    lease: int = r.data.lease_ms  # type: ignore[union-attr]
    return None if 0 < lease <= MAX_LEASE_MS else "bad_value"


def started_if_costly(at: Spot, r: Record) -> str | None:
    return "not_started" if at.task.costly and not at.task.start_until else None


def same_input(at: Spot, r: Record) -> str | None:
    """It was made from the state that the attempt was opened with."""
    version: int = r.data.input_state_version  # type: ignore[union-attr]
    return None if version == at.task.input_state_version else "conflict"


def lost_only_after_lease(at: Spot, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, WorkFailed)
    return "too_early" if d.lost and not (0 < at.task.start_until <= r.append_ts) else None


def work_started(at: Spot, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, WorkStarted)
    _, c, t = at
    t.start_until = r.append_ts + d.lease_ms
    out.append(Change("task", c.number, t.ordinal, t.attempt, "started"))
    return ""


def artifact_produced(at: Spot, r: Record, out: list[Change]) -> str:
    """The one answer to the attempt. Its cost is settled in full whatever comes of it; an unusable answer is a failure."""
    d = r.data
    assert isinstance(d, ArtifactProduced)
    agent, c, t = at
    sane = usable_amount(d.cost_usd)
    settle_work(agent, t, d.cost_usd if sane else t.reserved)
    if not sane or not usable_confidence(d.confidence_score) or (d.effect is not None and _inconsistent(agent, t, d, d.effect)):
        fail(agent, c, t, "bad_value", r, out)
        return "bad_value"
    t.status, t.artifact_hash, t.artifact, t.feedback = "produced", d.artifact_hash, ref(r), None
    out.append(Change("task", c.number, t.ordinal, t.attempt, "produced"))
    if d.effect is not None:
        t.effect = proposed(d.effect, d.taint, d.risk_tags, r)
        out.append(Change("effect", c.number, t.ordinal, t.attempt, "proposed"))
        if d.effect.max_cost_usd > 0:
            ask_funds(agent, c, t, t.effect, out)
    return ""


def proposed(p: EffectProposal, taint: str, tags: list[str], r: Record) -> Effect:
    """The state's small image of a proposal whose SimHash is one (`is_hex64`); its bytes stay where the record lies."""
    return Effect(
        hash=p.effect_hash,
        effect_class=p.effect_class,
        tool_class=p.tool_class,
        platform=p.platform,
        account=p.account,
        thread=p.thread,
        text_hash=p.text_hash,
        simhash=int(p.simhash, 16),
        taint=taint,
        tags=tuple(tags),
        max_cost=p.max_cost_usd,
        payee=p.payee,
        not_before=p.not_before,
        ref=ref(r),
    )


def _inconsistent(agent: Agent, t: Task, d: ArtifactProduced, p: EffectProposal) -> bool:
    """An effect must be this agent's, on its own account, at this input version; nothing tainted is ever financial."""
    return (
        p.agent != agent.key
        or agent.accounts.get(p.platform) != p.account
        or p.input_state_version != t.input_state_version
        or p.not_before < 0
        or not usable_amount(p.max_cost_usd)
        or not is_hex64(p.simhash)
        or (p.effect_class == "financial" and d.taint != "owner")
    )


def is_hex64(text: str) -> bool:
    """A SimHash as records carry it: 16 lower-case hex digits."""
    return _HEX64(text) is not None


def work_failed(at: Spot, r: Record, out: list[Change]) -> str:
    """A failure; or, with `not_before`, a closed gate outside (rate limit ...) that counts as none; or the end of what is not
    wanted any more."""
    d = r.data
    assert isinstance(d, WorkFailed)
    agent, c, t = at
    if not usable_amount(d.cost_usd):
        fail(agent, c, t, "bad_value", r, out)
        return "bad_value"
    learnt = t.feedback
    if not d.lost:
        settle_work(agent, t, d.cost_usd)
    if d.needless and not d.lost:
        close_task(agent, c, t, "needless", out)
    elif d.not_before is not None:
        t.not_before = max(t.not_before, d.not_before)
        again(agent, c, t, d.reason, r, out)
    else:
        fail(agent, c, t, "lost" if d.lost else d.reason, r, out)
    if learnt is not None and not d.lost:
        t.feedback = learnt  # an attempt without an artifact says nothing about the text: why the last one did not pass stays
    return ""
