"""How an effect ended, asked where it was sent: polls of submitted jobs, look-ups of unknowns, and the rule of keyed tools.

The rule not to break: what proves nothing ends nothing. It is asked again, seldomer each time, until it is left to a person.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from chimera import failpoints
from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, EffectEnded, EffectProposal, HumanEdited
from chimera.mcp.spec import CapabilitySpec
from chimera.processors.jobs import Job, Tools
from chimera.processors.lookups import Ask, Finding, look_up
from chimera.processors.sending import Said, Sender, with_assets
from chimera.processors.vain import LOOK_UPS, Notes

log = logging.getLogger(__name__)

FIRST_POLL_MS = 1_000
LONGEST_POLL_MS = 30_000
FIRST_LOOK_MS = 5_000
LONGEST_LOOK_MS = 300_000
NOT_ASKED = frozenset(("bad_arguments", "bad_mode", "egress", "effect_needs_send"))
"""Refusals of our own gate: the platform was not asked, so they say nothing of what became of a job there."""


class Inquiry:
    """Asks for ends through the sender, and notes what it asked in vain."""

    def __init__(self, sender: Sender, notes: Notes) -> None:
        self._sender, self._notes = sender, notes

    async def ended_there(self, job: Job, place: dict[str, Any], record: Record, tools: Tools) -> Said | None:
        """What the platform says of a submitted job, or of a call whose end is unknown; None while it proves nothing."""
        effect, spec = self._known(record)
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

    async def ended_keyed(self, job: Job, place: dict[str, Any], record: Record, tools: Tools) -> EffectEnded:
        """Looked up where the profile says how: a brief that changes before the next claim must not post beside what is there.

        Otherwise the rule of its class: it ended as not executed, since the same key makes a second call harmless.
        """
        held: dict[str, Any] = {**place, "claim": job.number}
        effect, spec = self._known(record)
        if effect is not None and spec is not None and spec.find is not None:
            ask = partial(self._sender.ask, job, effect)
            found = await look_up(ask, spec.find, effect, job.facts["since"], tools.broker_now())
            if found.outcome == "executed":
                return self._proved(held, effect, found)
        proof = {"rule": "keyed", "idempotency_key": job.facts["hash"], "why": "the same key makes a second call harmless"}
        return EffectEnded(**held, outcome="not_executed", proof=proof, reason="unknown, keyed tool")

    def _known(self, record: Record) -> tuple[EffectProposal | None, CapabilitySpec | None]:
        """The effect that a record proposes, and what its profile says of such effects now."""
        d = record.data
        effect = d.effect if isinstance(d, ArtifactProduced | HumanEdited) else None
        return effect, None if effect is None else self._sender.capability(effect)

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
        return await with_assets(self._sender, ended, effect, outcome)

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
