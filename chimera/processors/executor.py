"""The executor: the only one that acts outside. It claims, reads the quorum back, calls once, and says how it ended.

The rule not to break (law, The right to call): only the coroutine that drew the token calls, after seeing its claim applied,
while its own clock (`elapsed`: the machine's sleep counts) is within lease minus call timeout of when it *sent* the claim. Folded
or reloaded state never grants a call.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection
from typing import Any

from chimera import failpoints
from chimera.elapsed import elapsed
from chimera.errors import ChimeraError
from chimera.events.does.steps import gate, too_frequent
from chimera.events.envelope import Record
from chimera.events.records import EffectClaimed, EffectDeferred, EffectEnded, EffectUnknown
from chimera.events.state import Agent, Campaign, Effect, Task
from chimera.processors.inquiry import Inquiry
from chimera.processors.jobs import Answer, Due, Job, Role, Tools, soonest
from chimera.processors.readback import checked
from chimera.processors.sending import FIRST_DEFER_MS, Sender, call_of, said, with_assets
from chimera.processors.vain import LOOK_UPS, NOTHING_NOTED, SWITCH_POLL_MS, Notes

log = logging.getLogger(__name__)

NAME = "executor"
CALL_OVERHEAD_S = 2.0
"""What a claim must leave beyond the call itself: reading the quorum back, appending how it ended."""


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
        self._inquiry = Inquiry(sender, self._notes)

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
            return Answer(await self._inquiry.ended_keyed(job, place, proposal_record, tools), proposal_record.id)
        if job.what in ("poll", "look"):
            found = await self._inquiry.ended_there(job, place, proposal_record, tools)
            return None if found is None else Answer(found, proposal_record.id)
        return await self._claim_and_call(job, place, proposal_record, tools)

    async def _claim_and_call(self, job: Job, place: dict[str, Any], record: Record, tools: Tools) -> Answer | None:
        token = secrets.token_hex(16)
        sent_at = elapsed()
        await failpoints.at("executor.drawn")
        claim = EffectClaimed(**place, effect_hash=job.facts["hash"], claim=job.number, token=token, lease_ms=self._lease_ms)
        ruling = await tools.say(job, Answer(claim, record.id))
        if ruling.outcome != "applied":
            return None
        await failpoints.at("executor.claimed")
        self._sender.shield(job)
        held: dict[str, Any] = {**place, "claim": job.number, "token": token}
        try:
            effect, doubt = await checked(self._sender, job)
        except ChimeraError as error:
            log.warning("the quorum of %s could not be read back: %s", job.facts["hash"], error)
            later = tools.broker_now() + FIRST_DEFER_MS
            return Answer(EffectDeferred(**held, not_before=later, reason="the deciding records could not be read back"), record.id)
        if effect is None:
            log.error("effect %s of %s is not called: %s", job.facts["hash"], job.agent, doubt)
            return Answer(EffectEnded(**held, outcome="refused", reason=doubt), record.id)
        call = call_of(effect, self._call_timeout_s)
        await failpoints.at("executor.checked")
        if (elapsed() - sent_at) * 1000 >= self._lease_ms - (call.timeout_s + CALL_OVERHEAD_S) * 1000:
            return Answer(EffectDeferred(**held, not_before=0, reason="too late within the lease"), record.id)
        outcome = await self._sender.send(job, call, effect.account, effect.effect_hash)
        await failpoints.at("executor.called")
        ended = said(held, outcome, tools.broker_now(), job.facts["claims"])
        return Answer(await with_assets(self._sender, ended, effect, outcome), record.id)
