"""A whole swarm in one process and without servers: real planner, worker, judge, fold, feed reader and offline writer.

The rule not to break: nothing here decides. Records are ruled by the fold, texts come from the writer, feeds pass the reader; only
Kafka and the transport between client and MCP server are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from chimera.eventlog.bulk import Entry
from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.fold import fold
from chimera.events.notes import Kind, MemoryNoted, decode
from chimera.events.records import Taint
from chimera.events.state import Agent, Effect, Ref, Ruling
from chimera.mcp.profiles import Profiles, Rendered, load_profiles
from chimera.mcp.records import Outcome
from chimera.mcp.results import read_result, taint_of
from chimera.mcp.sandbox.feeds import FeedReader
from chimera.mcp.sandbox.serving import CallContext
from chimera.mcp.sandbox.timeline import PlatformRefused
from chimera.mcp.sandbox.vendor import Vendor
from chimera.mcp.sandbox.writer import offline
from chimera.mcp.sandbox.writer.server import _compute
from chimera.mcp.sandbox.x import XSandbox
from chimera.memory.contract import MemoryAway, Query, Remembered
from chimera.memory.episodes.contract import Threads, Told
from chimera.policy import boardkit
from chimera.policy.brief import Brief, listens_until
from chimera.policy.writing import REQUESTS
from chimera.processors import judge, planner
from chimera.processors.jobs import Answer, Job, Role
from chimera.processors.noting import Noter, Scribe
from chimera.processors.worker import Worker
from tests.histories import LAW, START, record
from tests.memoryhouse import InMemory

PROFILES: Profiles = load_profiles()
REQUESTER = "dee"
T = TypeVar("T")


def _price(effect: rec.EffectProposal) -> Decimal | None:
    return PROFILES.price(effect.profile, effect.capability, effect.mode, effect.arguments)


class Keys:
    """Subject keys in memory."""

    def key_for(self, subject: str) -> bytes:
        return hashlib.sha256(subject.encode()).digest()

    known_key = key_for


class SwarmHouse:
    """Agents over one log in memory. `taint`: what the words of feeds are worth (None: as the profile says); `x`: the platform."""

    def __init__(
        self,
        feeds: Path,
        policy: str,
        *,
        taint: Taint | None = None,
        judges: int = 1,
        x: XSandbox | None = None,
        vendors: Mapping[str, Vendor] | None = None,
        profiles: Profiles = PROFILES,
        memory: InMemory | None = None,
        threads: Threads | None = None,
    ) -> None:
        self.records: list[Record] = []
        self.rulings: list[Ruling] = []
        self.agents: dict[str, Agent] = {}
        self.asked: list[tuple[str, Any]] = []
        """What the writer was asked, in order: (purpose, request)."""
        self.unreached: set[tuple[str, int]] = set()
        """(purpose, attempt) of requests that the writer does not answer."""
        self.later = 0
        """Milliseconds that passed without a record."""
        self._x = x
        self.memory, self.threads = memory, threads
        self._vendors, self._profiles = vendors or {}, profiles
        self._policy = policy
        self._taint: Taint | None = taint
        self._reader = FeedReader([feeds])
        self.notes: list[MemoryNoted] = []
        """What its agents were noted to remember, in order; a note that was said again stands here again."""
        self._noter = Noter(Scribe(self.read, Keys()), self._note)
        self._judges = [judge.role(_price) for _ in range(judges)]
        self._others = [planner.role(), Worker(PROFILES, Keys()).role()]

    def add(self, key: str, data: rec.Data, actor: str = "swarm") -> Ruling:
        """Append and rule one record."""
        made = replace(record(data, len(self.records), self.broker_now(), actor=actor), key=key)
        self.records.append(made)
        hear = self._noter.heed(made, self.agents.get(key))
        agent, ruling = fold(LAW, self.agents.get(key), made)
        if agent is not None:
            self.agents[key] = agent
        self.rulings.append(ruling)
        if hear is not None:
            hear(ruling)
        return ruling

    def _note(self, entries: Sequence[Entry]) -> None:
        new = [decode(entry.key.encode(), entry.value) for entry in entries]
        self.notes += new
        if self.memory is not None:
            self.memory.put(new)

    def enrol(self, key: str, soul: str, brief: Brief, account: str) -> None:
        """An agent with a campaign to do."""
        rules = boardkit.parse_rules(self._policy)
        commands: list[rec.Data] = [
            rec.AgentEnrolled(command_no=1, name=account),
            rec.SoulAdopted(command_no=2, digest=boardkit.digest(soul), soul=soul),
            rec.PolicyAdopted(
                command_no=3, edition=1, digest=boardkit.digest(self._policy), editor="eve", inline=boardkit.inline(rules),
                rules=self._policy,
            ),
            rec.AccountLinked(command_no=4, platform="x", account=account),
            rec.CampaignStarted(
                command_no=5, campaign_id=f"c-{account}", name=brief.name, brief=brief.model_dump(mode="json"), brief_hash="b",
                listens_until=listens_until(brief.model_dump(mode="json"), self.broker_now()),
            ),
        ]  # fmt: skip
        for data in commands:
            assert self.add(key, data, REQUESTER).outcome == "applied"

    async def run(self, most: int = 100_000) -> None:
        """Everybody answers what they owe until nobody owes anything that the swarm itself can answer."""
        vain: set[tuple[object, ...]] = set()
        for _ in range(most):
            owed = [(role, job) for key in sorted(self.agents) for role in self._roles(key) for job in self._due(role, key)]
            owed = [(role, job) for role, job in owed if job.key not in vain]
            await self._noter.round()
            if not owed:
                return
            for role, job in owed:
                answer = await role.do(job, self)
                ruling = self.add(job.agent, answer.data) if answer is not None else None
                if ruling is None or ruling.outcome == "void":
                    vain.add(job.key)
        raise AssertionError("the swarm did not come to rest")

    def _roles(self, key: str) -> list[Role]:
        """Every partition's agents have a judge of their process."""
        return [*self._others, self._judges[sum(key.encode()) % len(self._judges)]]

    def _due(self, role: Role, key: str) -> Sequence[Job]:
        return role.due(self.agents[key], self.broker_now()).jobs

    # --- what jobs may use ---------------------------------------------------------------------------------------------

    def broker_now(self) -> int:
        return START + len(self.records) + self.later

    async def read(self, ref: Ref) -> Record:
        return self.records[ref.offset]

    async def remembered(self, job: Job) -> frozenset[Kind]:
        return await self._from_memory(lambda memory: memory.kinds(job.tenant, job.agent), frozenset())

    async def recall(self, job: Job, query: Query) -> list[Remembered]:
        return await self._from_memory(lambda memory: memory.recall(job.tenant, query), [])

    async def _from_memory(self, ask: Callable[[InMemory], T], nothing: T) -> T:
        try:
            return nothing if self.memory is None else ask(self.memory)
        except MemoryAway:
            return nothing

    async def earlier(self, job: Job, thread: str) -> list[Told]:
        return [] if self.threads is None else self.threads.thread(job.tenant, job.agent, thread, 8)

    async def say(self, job: Job, answer: Answer) -> Ruling:
        return self.add(job.agent, answer.data)

    async def tool(
        self, job: Job, capability: str, inputs: dict[str, Any], account: str | None = None, platform: str | None = None
    ) -> Outcome:
        if capability == "text.complete":
            request = REQUESTS[inputs["purpose"]].model_validate(inputs["request"])
            self.asked.append((inputs["purpose"], request))
            if (inputs["purpose"], getattr(request, "attempt", 0)) in self.unreached:
                return Outcome("unknown", "timeout")
            try:
                made = _compute(inputs["purpose"], request)
            except offline.CannotWrite as error:
                return Outcome("refused", "cannot_write", str(error))
            return Outcome("ok", data={"purpose": inputs["purpose"], "writer": "offline", **made.model_dump(mode="json")})
        if self._x is not None and capability.startswith("social."):
            return await self._ask_x(PROFILES.render(capability, inputs, platform=platform), str(account), None)
        if capability.startswith("search."):
            return await self._search(self._profiles.render(capability, inputs))
        assert capability == "feeds.read", f"a role asked for {capability}"
        spec = PROFILES.provider(capability).spec.capabilities[capability]
        reading = read_result(spec.result, await self._reader.handle("read_feed", inputs, CallContext(None, None)))
        assert spec.taint is not None
        taint: Taint = self._taint or taint_of(spec.taint, inputs)
        return Outcome(reading.result, reading.reason, reading.detail, reading.data, taint=taint)

    async def _search(self, call: Rendered) -> Outcome:
        """Asked of the provider that the settings choose, in its own words."""
        spec = self._profiles.by_name[call.profile].spec.capabilities[call.capability]
        vendor = self._vendors[call.profile]
        try:
            answer = await vendor.act(call.tool, call.arguments, "ava", None)
        except PlatformRefused as no:
            answer = vendor.refused(call.tool, no)
        reading = read_result(spec.result, answer)
        taint = taint_of(spec.taint, call.arguments)
        return Outcome(reading.result, reading.reason, reading.detail, reading.data, taint=taint, profile=call.profile)

    async def _ask_x(self, call: Rendered, account: str, key: str | None) -> Outcome:
        assert self._x is not None
        answer = await self._x.handle(call.tool, call.arguments, CallContext(account, key))
        reading = read_result(PROFILES.capability(call.capability, "x").result, answer)
        return Outcome(reading.result, reading.reason, reading.detail, reading.data, platform_id=reading.platform_id)

    async def go_out(self) -> list[Outcome]:
        """Every approved effect whose time has come is claimed and called, as the executor does it."""
        answers = []
        for key, agent in self.agents.items():
            for c in list(agent.campaigns.values()):
                for t in list(c.tasks.values()):
                    e = t.effect
                    if e is None or e.status != "approved" or e.not_before > self.broker_now():
                        continue
                    at = {"campaign": c.number, "ordinal": t.ordinal, "attempt": t.attempt, "claim": e.claim + 1, "token": e.hash}
                    claim = rec.EffectClaimed(**at, effect_hash=e.hash, lease_ms=60_000)
                    assert self.add(key, claim).outcome == "applied"
                    made = self.records[e.ref.offset].data
                    assert isinstance(made, rec.ArtifactProduced)
                    assert made.effect is not None
                    sent = made.effect
                    call = replace(PROFILES.render("social.me", {}, platform="x"), tool=sent.tool, arguments=sent.arguments)
                    answers.append(await self._ask_x(replace(call, capability=sent.capability), sent.account, e.hash))
                    outcome: Any = "executed" if answers[-1].result == "ok" else "refused"
                    ended = rec.EffectEnded(**at, outcome=outcome, platform_id=answers[-1].platform_id)
                    assert self.add(key, ended).outcome == "applied"
        return answers

    # --- what became of it ---------------------------------------------------------------------------------------------

    def proposals(self) -> list[rec.EffectProposal]:
        """Every effect that was ever proposed."""
        made = [r.data.effect for r in self.records if isinstance(r.data, rec.ArtifactProduced)]
        return [effect for effect in made if effect is not None]

    def standing(self) -> list[tuple[str, Effect]]:
        """(stream key, effect) of what is approved or waits for people."""
        return [
            (key, t.effect)
            for key, agent in self.agents.items()
            for c in agent.campaigns.values()
            for t in c.tasks.values()
            if t.effect is not None
        ]

    def text_of(self, effect: Effect) -> str:
        """The words of a standing effect."""
        data = self.records[effect.ref.offset].data
        assert isinstance(data, rec.ArtifactProduced)
        text: str = data.content["text"]
        return text
