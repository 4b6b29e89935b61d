"""The executor: the only one that acts outside. It claims, reads the quorum back, calls once, and says how it ended.

The rule not to break (law, The right to call): only the coroutine that drew the token calls, after seeing its claim applied,
while its own monotonic clock is within lease minus call timeout of when it *sent* the claim. Folded or reloaded state never
grants a call.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Protocol

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.events.does.steps import gate, too_frequent
from chimera.events.envelope import Record
from chimera.events.hashes import digest
from chimera.events.records import (
    ArtifactProduced,
    AssetFacts,
    EffectClaimed,
    EffectDeferred,
    EffectEnded,
    EffectProposal,
    EffectSubmitted,
    EffectUnknown,
    HumanApproved,
    HumanEdited,
    JudgeVerdict,
    effect_body,
)
from chimera.events.state import Agent, Campaign, Effect, Ref, Task
from chimera.mcp.profiles import Rendered
from chimera.mcp.records import Outcome
from chimera.mcp.spec import CapabilitySpec
from chimera.media.facts import Facts
from chimera.media.store import Asset
from chimera.processors.jobs import Answer, Due, Job, Role, Tools, soonest
from chimera.processors.lookups import Ask, Finding, look_up
from chimera.processors.vain import NOTHING_NOTED, SWITCH_POLL_MS, Notes

log = logging.getLogger(__name__)

NAME = "executor"
FIRST_DEFER_MS = 1_000
LONGEST_DEFER_MS = 300_000
CALL_OVERHEAD_S = 2.0
"""What a claim must leave beyond the call itself: reading the quorum back, appending how it ended."""
LONGEST_SWITCH_DEFER_MS = 2_000
SUBMITTED_LEASE_MS = 900_000
"""How long a job on the platform may take before its end counts as unknown."""
FIRST_POLL_MS = 1_000
LONGEST_POLL_MS = 30_000
LOOK_UPS = 8
"""How often a process looks an unknown end up before it leaves it to a person."""
FIRST_LOOK_MS = 5_000
LONGEST_LOOK_MS = 300_000
NOT_ASKED = frozenset(("bad_arguments", "bad_mode", "egress", "effect_needs_send"))
"""Refusals of our own gate: the platform was not asked, so they say nothing of what became of a job there."""
LONGEST_HANDLE = 256
"""The state keeps no longer handle."""


class Sender(Protocol):
    """What the executor has beyond other roles' tools: the gate for effects, and a shield while a call is out."""

    async def send(self, job: Job, call: Rendered, account: str, idempotency_key: str) -> Outcome:
        """Make the call, once."""

    def shield(self, job: Job) -> None:
        """From here on this job ends whoever owns the partition."""

    async def read_back(self, ref: Ref) -> Record:
        """The record made from the bytes that Kafka holds, decoded and verified anew for this call."""

    def signed_by_role(self, record: Record) -> bool:
        """Is the record signed as the law asks of its role?"""

    async def ask(self, job: Job, effect: EffectProposal, capability: str, inputs: dict[str, Any]) -> Outcome:
        """A reading call to where the effect was sent, for its account."""

    def capability(self, effect: EffectProposal) -> CapabilitySpec | None:
        """What the profile says of the effect's capability."""

    def url_of(self, effect: EffectProposal, platform_id: str) -> str | None:
        """Where a post of this effect is to be seen."""

    async def receive(self, effect_hash: str, assets: Sequence[Asset]) -> list[Asset]:
        """Note in the media store which files an effect brought; what was noted of it first is what holds."""

    async def facts(self, asset: Asset) -> Facts | None:
        """What a file of the media store is, as far as it can be read."""

    def switch_holds(self, reason: str) -> bool:
        """Does a kill switch still stop what was deferred for this reason?"""


Said = EffectEnded | EffectDeferred | EffectSubmitted | EffectUnknown
"""How a call ended, as a record."""


class _SwitchNotes(Notes):
    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender

    def holds(self, reason: str) -> bool:
        return reason.startswith("switch") and self._sender.switch_holds(reason)


def due(agent: Agent, now: int, notes: Notes = NOTHING_NOTED, effects: Collection[str] | None = None) -> Due:
    """Of these classes of effects (None: all): claims, polls of submitted jobs, unknowns after a lost lease, and what the tool's
    class says of unknowns."""
    jobs: list[Job] = []
    wake: int | None = None
    for c in agent.campaigns.values():
        for t in c.tasks.values():
            e = t.effect
            if e is None or agent.policy is None or (effects is not None and e.effect_class not in effects):
                continue
            at, what = _next_step(agent, c, t, e, now, notes)
            if at is None:
                continue
            if at > now:
                wake = soonest(wake, at, e.lease_until if what == "poll" else None)
            else:
                jobs.append(_job(agent, c, t, e, what))
    return Due(jobs, wake)


def _next_step(agent: Agent, c: Campaign, t: Task, e: Effect, now: int, notes: Notes) -> tuple[int | None, str]:
    """(broker time, what) of the next move, or (None, "") while only a record can change that."""
    assert agent.policy is not None
    p = agent.policy.inline
    if e.status == "approved":
        if gate(agent, c):
            return None, ""
        at = max(e.not_before, e.approved_ts + p.undo_ms, too_frequent(agent, e, now))
        return (now + SWITCH_POLL_MS if at <= now and notes.holds(e.wait_reason) else at), "claim"
    if e.status == "submitted" and now < e.lease_until:
        return notes.of("poll", agent, c, t, e).again_at, "poll"
    if e.status in ("claimed", "submitted"):
        return e.lease_until, "lost"
    if e.status == "unknown" and e.tool_class == "keyed":
        return e.lease_until + p.grace_ms, "keyed"
    if e.status == "unknown" and (e.handle or e.tool_class == "reconcilable"):
        note = notes.of("look", agent, c, t, e)
        if note.tries < LOOK_UPS:
            return max(e.lease_until + p.grace_ms, note.again_at), "look"
    return None, ""  # nothing can be asked, or nothing answered: a person finds out (`chimera review resolve`)


def _job(agent: Agent, c: Campaign, t: Task, e: Effect, what: str) -> Job:
    facts: dict[str, Any] = {"effect": e.ref, "hash": e.hash, "decided_by": list(e.decided_by), "claims": e.claim}
    if what in ("poll", "look", "keyed"):
        since = min(ts for ts in (e.approved_ts, e.claimed_ts) if ts) if e.approved_ts or e.claimed_ts else 0
        facts |= {"handle": e.handle, "token": e.tokens[-1][1] if e.tokens else None, "since": since}
    number = e.claim + 1 if what == "claim" else e.claim
    return Job(NAME, what, agent.key, agent.tenant, c.campaign_id, c.number, t.ordinal, t.attempt, number, facts)


class Executor:
    """The answers, with the sender that only a gate process holds.

    `lease_s` is how long a claim holds, `call_timeout_s` how long the call itself may take; `effects`: only these classes. Raises
    `ChimeraError` for a lease in which no call fits: every claim would be deferred, for ever.
    """

    def __init__(self, sender: Sender, *, lease_s: float, call_timeout_s: float, effects: Collection[str] | None = None) -> None:
        if lease_s <= call_timeout_s + CALL_OVERHEAD_S:
            raise ChimeraError(
                f"claim_lease_s {lease_s:g} leaves no room for a call of call_timeout_s {call_timeout_s:g}: "
                f"set CHIMERA_CLAIM_LEASE_S above {call_timeout_s + CALL_OVERHEAD_S:g}"
            )
        self._sender, self._effects = sender, effects
        self._lease_ms, self._call_timeout_s = int(lease_s * 1000), call_timeout_s
        self._notes = _SwitchNotes(sender)

    def role(self) -> Role:
        return Role(NAME, self.due, self.do)

    def due(self, agent: Agent, now: int) -> Due:
        """`due` with what this process remembers of vain look-ups and sees of the switches."""
        return due(agent, now, self._notes, self._effects)

    async def do(self, job: Job, tools: Tools) -> Answer | None:
        """Claim and call; or say that a claim was lost; or what its tool class says of an unknown."""
        place: dict[str, Any] = {"campaign": job.campaign, "ordinal": job.ordinal, "attempt": job.attempt}
        proposal_record = await tools.read(job.facts["effect"])
        if job.what == "lost":
            await failpoints.at("executor.lost")
            return Answer(EffectUnknown(**place, claim=job.number, reason="lease over"), proposal_record.id)
        if job.what == "keyed":
            return Answer(await self._ended_keyed(job, place, proposal_record, tools), proposal_record.id)
        if job.what in ("poll", "look"):
            found = await self._ended_there(job, place, proposal_record, tools)
            return None if found is None else Answer(found, proposal_record.id)
        return await self._claim_and_call(job, place, proposal_record, tools)

    async def _claim_and_call(self, job: Job, place: dict[str, Any], record: Record, tools: Tools) -> Answer | None:
        token = secrets.token_hex(16)
        sent_at = time.monotonic()
        await failpoints.at("executor.drawn")
        claim = EffectClaimed(**place, effect_hash=job.facts["hash"], claim=job.number, token=token, lease_ms=self._lease_ms)
        ruling = await tools.say(job, Answer(claim, record.id))
        if ruling.outcome != "applied":
            return None
        await failpoints.at("executor.claimed")
        self._sender.shield(job)
        held: dict[str, Any] = {**place, "claim": job.number, "token": token}
        try:
            effect, doubt = await self._checked(job)
        except ChimeraError as error:
            log.warning("the quorum of %s could not be read back: %s", job.facts["hash"], error)
            later = tools.broker_now() + FIRST_DEFER_MS
            return Answer(EffectDeferred(**held, not_before=later, reason="the deciding records could not be read back"), record.id)
        if effect is None:
            log.error("effect %s of %s is not called: %s", job.facts["hash"], job.agent, doubt)
            return Answer(EffectEnded(**held, outcome="refused", reason=doubt), record.id)
        call = call_of(effect, self._call_timeout_s)
        await failpoints.at("executor.checked")
        if (time.monotonic() - sent_at) * 1000 >= self._lease_ms - (call.timeout_s + CALL_OVERHEAD_S) * 1000:
            return Answer(EffectDeferred(**held, not_before=0, reason="too late within the lease"), record.id)
        outcome = await self._sender.send(job, call, effect.account, effect.effect_hash)
        await failpoints.at("executor.called")
        said = _said(held, outcome, tools.broker_now(), job.facts["claims"])
        return Answer(await self._with_assets(said, effect, outcome), record.id)

    async def _with_assets(self, said: Said, effect: EffectProposal, outcome: Outcome) -> Said:
        """The end with what it brought, once the media store says the same."""
        if not outcome.assets or not isinstance(said, EffectEnded):
            return said
        kept = await self._sender.receive(effect.effect_hash, outcome.assets)
        await failpoints.at("executor.received")
        facts = [_facts(asset, await self._sender.facts(asset)) for asset in kept]
        told = {"assets": [asset.name for asset in kept], "asset_facts": facts, "server_version": outcome.server_version}
        return said.model_copy(update=told)

    # --- ends that are asked for -------------------------------------------------------------------------------------

    async def _ended_there(self, job: Job, place: dict[str, Any], record: Record, tools: Tools) -> Said | None:
        """What the platform says of a submitted job, or of a call whose end is unknown; None while it proves nothing."""
        d = record.data
        effect = d.effect if isinstance(d, ArtifactProduced | HumanEdited) else None
        spec = self._sender.capability(effect) if effect is not None else None
        if effect is None or spec is None:
            self._vain(job, tools.broker_now(), "no profile knows this effect any more", final=True)
            return None
        ask = partial(self._sender.ask, job, effect)
        held: dict[str, Any] = {**place, "claim": job.number}
        if job.facts["handle"]:
            return await self._polled(job, held, effect, spec, ask, tools)
        if spec.find is None:
            self._vain(job, tools.broker_now(), f"the profile does not say how to find a {effect.capability}", final=True)
            return None
        found = await look_up(ask, spec.find, effect, job.facts["since"], tools.broker_now())
        if found.outcome is None:
            self._vain(job, tools.broker_now(), found.why, blocked=found.blocked)
            return None
        self._notes.forget(job)
        return self._proved(held, effect, found)

    async def _ended_keyed(self, job: Job, place: dict[str, Any], record: Record, tools: Tools) -> EffectEnded:
        """Looked up where the profile says how: a brief that changes before the next claim must not post beside what is there.

        Otherwise the rule of its class: it ended as not executed, since the same key makes a second call harmless.
        """
        held: dict[str, Any] = {**place, "claim": job.number}
        d = record.data
        effect = d.effect if isinstance(d, ArtifactProduced | HumanEdited) else None
        spec = self._sender.capability(effect) if effect is not None else None
        if effect is not None and spec is not None and spec.find is not None:
            ask = partial(self._sender.ask, job, effect)
            found = await look_up(ask, spec.find, effect, job.facts["since"], tools.broker_now())
            if found.outcome == "executed":
                return self._proved(held, effect, found)
        proof = {"rule": "keyed", "idempotency_key": job.facts["hash"], "why": "the same key makes a second call harmless"}
        return EffectEnded(**held, outcome="not_executed", proof=proof, reason="unknown, keyed tool")

    def _proved(self, held: dict[str, Any], effect: EffectProposal, found: Finding) -> EffectEnded:
        if found.outcome != "executed" or found.platform_id is None:
            return EffectEnded(**held, outcome="not_executed", proof=found.proof, reason=found.why)
        return EffectEnded(
            **held,
            outcome="executed",
            proof=found.proof,
            platform_id=found.platform_id,
            url=self._sender.url_of(effect, found.platform_id),
            cost_usd=effect.max_cost_usd,
            reason="found on the platform",
        )

    async def _polled(
        self, job: Job, held: dict[str, Any], effect: EffectProposal, spec: CapabilitySpec, ask: Ask, tools: Tools
    ) -> Said | None:
        if spec.poll is None:
            self._vain(job, tools.broker_now(), f"the profile does not say how to poll a {effect.capability}", final=True)
            return None
        outcome = await ask(spec.poll, {"handle": job.facts["handle"]})
        await failpoints.at("executor.polled")
        if outcome.result not in ("ok", "refused") or outcome.reason in NOT_ASKED:
            blocked = outcome.result == "not_sent" and outcome.reason.startswith("switch")
            self._vain(job, tools.broker_now(), f"{outcome.result} {outcome.reason}".strip(), blocked=blocked)
            return None
        self._notes.forget(job)
        # While it is submitted its current token says how it ended; once it is unknown that takes proof.
        by: dict[str, Any] = {"token": job.facts["token"]}
        if job.what == "look":
            by = {"proof": {"kind": "poll", "by": spec.poll, "handle": job.facts["handle"], "looked_at_ts": tools.broker_now()}}
        by["receipt"] = outcome.receipt or None
        if outcome.result == "refused":
            return EffectEnded(**held, **by, outcome="refused", reason=outcome.reason)
        url = outcome.url or (self._sender.url_of(effect, outcome.platform_id) if outcome.platform_id else None)
        cost = outcome.cost_usd or effect.max_cost_usd  # what the provider says, else the most that it may have been
        if spec.quote is not None:
            cost = spec.quote.actual(effect.arguments, effect.mode, outcome.receipt.get("fee"))
        ended = EffectEnded(**held, **by, outcome="executed", platform_id=outcome.platform_id, url=url, cost_usd=cost)
        return await self._with_assets(ended, effect, outcome)

    def _vain(self, job: Job, now: int, why: str, *, blocked: bool = False, final: bool = False) -> None:
        """Nothing is proved: ask again later, longer each time; after enough look-ups it is a person's."""
        first, longest = (FIRST_POLL_MS, LONGEST_POLL_MS) if job.what == "poll" else (FIRST_LOOK_MS, LONGEST_LOOK_MS)
        note = self._notes.vain(job, now, first, longest, counts=not blocked)
        while final and note.tries < LOOK_UPS:
            note = self._notes.vain(job, now, first, longest)
        where = f"{job.agent} {job.campaign}.{job.ordinal}.{job.attempt}"
        if job.what == "look" and note.tries >= LOOK_UPS:
            log.warning("how effect %s ended must be found by a person (`chimera review resolve`): %s", where, why)
        else:
            log.info("%s of %s proves nothing yet: %s", job.what, where, why)

    async def _checked(self, job: Job) -> tuple[EffectProposal | None, str]:
        """Read the proposal and the deciding records back and check hash and signatures of what is about to leave."""
        d = (await self._sender.read_back(job.facts["effect"])).data
        if not isinstance(d, ArtifactProduced | HumanEdited) or d.effect is None:
            return None, "no proposal where the state says"
        effect = d.effect
        if effect.effect_hash != job.facts["hash"] or digest(effect_body(effect)) != effect.effect_hash:
            return None, "the proposal's bytes do not have the approved hash"
        content = False
        for ref in job.facts["decided_by"]:
            vote = await self._sender.read_back(Ref(*ref))
            named = vote.data.effect.effect_hash if isinstance(vote.data, HumanEdited) else getattr(vote.data, "effect_hash", None)
            if not isinstance(vote.data, JudgeVerdict | HumanApproved | HumanEdited) or named != effect.effect_hash:
                return None, f"record {ref} did not decide this effect"
            if not self._sender.signed_by_role(vote):
                return None, f"record {ref} lacks the signature of its role"
            content = content or (isinstance(vote.data, JudgeVerdict) and vote.data.judge == "content")
        return (effect, "") if content else (None, "no content vote among the deciding records")


def read_before_calls(record: Record) -> bool:
    """Will `Executor` ask for this record's bytes before a call: a proposal, or a vote on one?"""
    d = record.data
    if isinstance(d, ArtifactProduced | HumanEdited):
        return d.effect is not None
    return isinstance(d, JudgeVerdict | HumanApproved) and d.effect_hash is not None


def call_of(effect: EffectProposal, timeout_s: float) -> Rendered:
    """The exact call that was hashed and approved, and how long it may take."""
    return Rendered(
        capability=effect.capability,
        profile=effect.profile,
        mode=effect.mode,
        tool=effect.tool,
        tool_schema_sha256=effect.schema_sha256,
        arguments=effect.arguments,
        effect_class=effect.effect_class,
        tool_class=effect.tool_class,
        timeout_s=timeout_s,
        cost_usd=effect.max_cost_usd,
    )


def _facts(asset: Asset, facts: Facts | None) -> AssetFacts:
    if facts is None:
        return AssetFacts(bytes=asset.size)
    seen = {"width": facts.width, "height": facts.height, "duration_s": facts.duration_s, "codec": facts.codec}
    return AssetFacts(bytes=asset.size, **seen)


def _said(held: dict[str, Any], outcome: Outcome, now: int, claims: int) -> Said:
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
    if outcome.result == "submitted" and outcome.handle is not None and len(outcome.handle) <= LONGEST_HANDLE:
        return EffectSubmitted(**held, handle=outcome.handle, lease_ms=SUBMITTED_LEASE_MS)
    if outcome.result == "not_sent" and why.startswith("switch"):
        # Held back by `due` while the switch is closed, so the wait may be short: it is tried again soon after opening.
        return EffectDeferred(**held, not_before=now + min(LONGEST_SWITCH_DEFER_MS, 250 << min(claims, 12)), reason=why)
    if outcome.result == "not_sent":
        wait = min(LONGEST_DEFER_MS, FIRST_DEFER_MS << min(claims, 12))
        return EffectDeferred(**held, not_before=now + wait, reason=why)
    return EffectUnknown(**held, reason=why or "its handle is too long to keep")
