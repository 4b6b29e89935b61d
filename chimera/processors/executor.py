"""The executor: the only one that acts outside. It claims, reads the quorum back, calls once, and says how it ended.

The rule not to break (law, The right to call): only the coroutine that drew the token calls, after seeing its claim applied,
while its own monotonic clock is within lease minus call timeout of when it *sent* the claim. Folded or reloaded state never
grants a call.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any, Protocol

from chimera.errors import ChimeraError
from chimera.events.does.steps import gate, too_frequent
from chimera.events.envelope import Record
from chimera.events.hashes import digest
from chimera.events.records import (
    ArtifactProduced,
    EffectClaimed,
    EffectDeferred,
    EffectEnded,
    EffectProposal,
    EffectUnknown,
    HumanApproved,
    HumanEdited,
    JudgeVerdict,
    effect_body,
)
from chimera.events.state import Agent, Campaign, Effect, Ref, Task
from chimera.mcp.profiles import Rendered
from chimera.mcp.records import Outcome
from chimera.processors.jobs import Answer, Due, Job, Role, Tools, soonest

log = logging.getLogger(__name__)

NAME = "executor"
LEASE_MS = 60_000
FIRST_DEFER_MS = 1_000
LONGEST_DEFER_MS = 300_000
CALL_TIMEOUT_S = 20.0
CALL_OVERHEAD_S = 2.0


class Sender(Protocol):
    """What the executor has beyond other roles' tools: the gate for effects, and a shield while a call is out."""

    async def send(self, job: Job, call: Rendered, account: str, idempotency_key: str) -> Outcome:
        """Make the call, once."""

    def shield(self, job: Job) -> None:
        """From here on this job ends whoever owns the partition."""

    def signed_by_role(self, record: Record) -> bool:
        """Is the record signed as the law asks of its role?"""


def due(agent: Agent, now: int) -> Due:
    """Claims, unknowns after a lost lease, and what the tool's class says of unknowns."""
    jobs: list[Job] = []
    wake: int | None = None
    for c in agent.campaigns.values():
        for t in c.tasks.values():
            e = t.effect
            if e is None or agent.policy is None:
                continue
            at, what = _next_step(agent, c, e, now)
            if at is None:
                continue
            if at > now:
                wake = soonest(wake, at)
            else:
                jobs.append(_job(agent, c, t, e, what))
    return Due(jobs, wake)


def _next_step(agent: Agent, c: Campaign, e: Effect, now: int) -> tuple[int | None, str]:
    """(broker time, what) of the next move, or (None, "") while only a record can change that."""
    assert agent.policy is not None
    p = agent.policy.inline
    if e.status == "approved":
        if gate(agent, c):
            return None, ""
        at = max(e.not_before, e.approved_ts + p.undo_ms, too_frequent(agent, e, now))
        return at, "claim"
    if e.status in ("claimed", "submitted"):
        return e.lease_until, "lost"
    if e.status == "unknown" and e.tool_class == "keyed":
        return e.lease_until + p.grace_ms, "keyed"
    return None, ""  # reconcilable and at_most_once unknowns: a person's finding ends them until look-ups exist


def _job(agent: Agent, c: Campaign, t: Task, e: Effect, what: str) -> Job:
    facts: dict[str, Any] = {"effect": e.ref, "hash": e.hash, "decided_by": list(e.decided_by), "claims": e.claim}
    number = e.claim + 1 if what == "claim" else e.claim
    return Job(NAME, what, agent.key, agent.tenant, c.campaign_id, c.number, t.ordinal, t.attempt, number, facts)


class Executor:
    """The answers, with the sender that only a gate process holds."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def role(self) -> Role:
        return Role(NAME, due, self.do)

    async def do(self, job: Job, tools: Tools) -> Answer | None:
        """Claim and call; or say that a claim was lost; or what its tool class says of an unknown."""
        place: dict[str, Any] = {"campaign": job.campaign, "ordinal": job.ordinal, "attempt": job.attempt}
        proposal_record = await tools.read(job.facts["effect"])
        if job.what == "lost":
            return Answer(EffectUnknown(**place, claim=job.number, reason="lease over"), proposal_record.id)
        if job.what == "keyed":
            proof = {"rule": "keyed", "idempotency_key": job.facts["hash"], "why": "the same key makes a second call harmless"}
            ended = EffectEnded(**place, claim=job.number, outcome="not_executed", proof=proof, reason="unknown, keyed tool")
            return Answer(ended, proposal_record.id)
        return await self._claim_and_call(job, place, proposal_record, tools)

    async def _claim_and_call(self, job: Job, place: dict[str, Any], record: Record, tools: Tools) -> Answer | None:
        token = secrets.token_hex(16)
        sent_at = time.monotonic()
        claim = EffectClaimed(**place, effect_hash=job.facts["hash"], claim=job.number, token=token, lease_ms=LEASE_MS)
        ruling = await tools.say(job, Answer(claim, record.id))
        if ruling.outcome != "applied":
            return None
        self._sender.shield(job)
        held: dict[str, Any] = {**place, "claim": job.number, "token": token}
        try:
            effect, doubt = await self._checked(job, record, tools)
        except ChimeraError as error:
            log.warning("the quorum of %s could not be read back: %s", job.facts["hash"], error)
            later = tools.broker_now() + FIRST_DEFER_MS
            return Answer(EffectDeferred(**held, not_before=later, reason="the deciding records could not be read back"), record.id)
        if effect is None:
            log.error("effect %s of %s is not called: %s", job.facts["hash"], job.agent, doubt)
            return Answer(EffectEnded(**held, outcome="refused", reason=doubt), record.id)
        call = _call(effect)
        if (time.monotonic() - sent_at) * 1000 >= LEASE_MS - (call.timeout_s + CALL_OVERHEAD_S) * 1000:
            return Answer(EffectDeferred(**held, not_before=0, reason="too late within the lease"), record.id)
        outcome = await self._sender.send(job, call, effect.account, effect.effect_hash)
        return Answer(_said(held, outcome, tools.broker_now(), job.facts["claims"]), record.id)

    async def _checked(self, job: Job, record: Record, tools: Tools) -> tuple[EffectProposal | None, str]:
        """Read the proposal and the deciding records back and check hash and signatures of what is about to leave."""
        d = record.data
        if not isinstance(d, ArtifactProduced | HumanEdited) or d.effect is None:
            return None, "no proposal where the state says"
        effect = d.effect
        if effect.effect_hash != job.facts["hash"] or digest(effect_body(effect)) != effect.effect_hash:
            return None, "the proposal's bytes do not have the approved hash"
        content = False
        for ref in job.facts["decided_by"]:
            vote = await tools.read(Ref(*ref))
            named = vote.data.effect.effect_hash if isinstance(vote.data, HumanEdited) else getattr(vote.data, "effect_hash", None)
            if not isinstance(vote.data, JudgeVerdict | HumanApproved | HumanEdited) or named != effect.effect_hash:
                return None, f"record {ref} did not decide this effect"
            if not self._sender.signed_by_role(vote):
                return None, f"record {ref} lacks the signature of its role"
            content = content or (isinstance(vote.data, JudgeVerdict) and vote.data.judge == "content")
        return (effect, "") if content else (None, "no content vote among the deciding records")


def _call(effect: EffectProposal) -> Rendered:
    """The exact call that was hashed and approved."""
    return Rendered(
        capability=effect.capability,
        profile=effect.profile,
        mode=effect.mode,
        tool=effect.tool,
        tool_schema_sha256=effect.schema_sha256,
        arguments=effect.arguments,
        effect_class=effect.effect_class,
        tool_class=effect.tool_class,
        timeout_s=CALL_TIMEOUT_S,
        cost_usd=effect.max_cost_usd,
    )


def _said(held: dict[str, Any], outcome: Outcome, now: int, claims: int) -> EffectEnded | EffectDeferred | EffectUnknown:
    """How a call ended, as a record. A timeout after sending is unknown, never failed."""
    if outcome.result == "ok":
        return EffectEnded(
            **held,
            outcome="executed",
            platform_id=outcome.platform_id,
            url=outcome.url,
            cost_usd=outcome.cost_usd,
            reason=outcome.reason,
        )
    why = outcome.reason  # a code; the detail may hold outside words, which have no place in the log's reasons
    if outcome.result == "refused":
        return EffectEnded(**held, outcome="refused", reason=why)
    if outcome.result == "not_sent":
        wait = min(LONGEST_DEFER_MS, FIRST_DEFER_MS << min(claims, 12))
        return EffectDeferred(**held, not_before=now + wait, reason=why)
    return EffectUnknown(**held, reason=why)
