"""What the jobs of one process work with: the log, what agents remember, and the gate; and what its executor sends by.

The rule not to break: a job gets what it asks for as its own agent and tenant: the gate, memory and threads are told here whose
job it is, and by nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chimera.eventlog.switches import SwitchFollower
from chimera.events.envelope import Record
from chimera.events.fold import may_write
from chimera.events.notes import Kind
from chimera.events.records import EffectProposal
from chimera.events.state import Ref, Ruling
from chimera.mcp.gate import Gate
from chimera.mcp.profiles import Rendered
from chimera.mcp.records import Outcome
from chimera.mcp.spec import CapabilitySpec
from chimera.media.facts import Facts
from chimera.media.store import Asset
from chimera.memory.contract import Query, Remembered
from chimera.memory.episodes.contract import Told
from chimera.processors.jobs import Answer, Job, NotNow
from chimera.processors.outside import readable
from chimera.processors.reading import Reading
from chimera.processors.recalling import Recalling
from chimera.processors.sending import call_of
from chimera.processors.swarm import Swarm
from chimera.processors.threads import Asking


class JobTools:
    """`chimera.processors.jobs.Tools` and `chimera.processors.sending.Sender` of a process."""

    def __init__(
        self,
        swarm: Swarm,
        reading: Reading,
        gate: Gate,
        switches: SwitchFollower,
        recalling: Recalling,
        threads: Asking,
        *,
        call_timeout_s: float,
    ) -> None:
        self._swarm, self._reading, self._gate, self._switches = swarm, reading, gate, switches
        self._recalling, self._threads = recalling, threads
        self._call_timeout_s = call_timeout_s

    async def say(self, job: Job, answer: Answer) -> Ruling:
        return await self._swarm.say(job, answer)

    async def read(self, ref: Ref) -> Record:
        return await self._reading.read(ref)

    async def read_back(self, ref: Ref) -> Record:
        return await self._reading.read_back(ref)

    async def remembered(self, job: Job) -> frozenset[Kind]:
        return await self._recalling.kinds(job)

    async def recall(self, job: Job, query: Query) -> list[Remembered]:
        return await self._recalling.recall(job, query)

    async def earlier(self, job: Job, thread: str) -> list[Told]:
        return await self._threads.earlier(job, thread)

    def broker_now(self) -> int:
        return self._swarm.clock.now()

    async def tool(
        self, job: Job, capability: str, inputs: dict[str, Any], account: str | None = None, platform: str | None = None
    ) -> Outcome:
        outcome = await self._gate.call(
            capability,
            inputs,
            agent=job.agent,
            tenant=job.tenant,
            account=account,
            platform=platform,
            correlation=job.correlation or None,
        )
        if outcome.result == "not_sent" and outcome.reason.startswith("switch"):
            raise NotNow(f"{capability} is stopped ({outcome.reason})")
        return readable(outcome)

    async def send(self, job: Job, call: Rendered, account: str, idempotency_key: str) -> Outcome:
        outcome = await self._gate.send(
            call,
            agent=job.agent,
            tenant=job.tenant,
            account=account,
            idempotency_key=idempotency_key,
            correlation=job.correlation or None,
        )
        return readable(outcome)

    async def ask(self, job: Job, effect: EffectProposal, capability: str, inputs: dict[str, Any]) -> Outcome:
        profile = self._gate.profiles.by_name.get(effect.profile)  # asked where it was ordered, which may be a studio
        outcome = await self._gate.call(
            capability,
            inputs,
            agent=job.agent,
            tenant=job.tenant,
            account=effect.account,
            platform=profile.spec.platform if profile is not None else effect.platform,
            mode=effect.mode,
            correlation=job.correlation or None,
        )
        return readable(outcome)

    def capability(self, effect: EffectProposal) -> CapabilitySpec | None:
        profile = self._gate.profiles.by_name.get(effect.profile)
        return None if profile is None else profile.spec.capabilities.get(effect.capability)

    def url_of(self, effect: EffectProposal, platform_id: str) -> str | None:
        return self._gate.url_of(call_of(effect, self._call_timeout_s), effect.account, platform_id)

    async def receive(self, effect_hash: str, assets: Sequence[Asset]) -> list[Asset]:
        return await self._gate.files.store.receive(effect_hash, list(assets))

    async def facts(self, asset: Asset) -> Facts | None:
        return await self._gate.files.facts(asset)

    def switch_holds(self, reason: str) -> bool:
        return self._switches.holds(reason)

    def shield(self, job: Job) -> None:
        self._swarm.shield(job)

    def signed_by_role(self, record: Record) -> bool:
        law = self._swarm.fold_for(record.partition).law
        return record.data is not None and may_write(law, record.data, record)
