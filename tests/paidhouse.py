"""A swarm that spends money, in one process and without servers: agents, their tenant's ledger, the courier, people, the executor,
the gate, and the ads sandbox as a real MCP server.

The rule not to break: nothing here decides. Every record is ruled by the real folds, and money leaves by the real gate alone;
what is left out is Kafka, so the house itself picks whose record comes next.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, cast

from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.fold import fold, fold_tenant
from chimera.events.hashes import commit_hash
from chimera.events.state import Agent, Effect, Ref, Ruling, Task
from chimera.events.tenant import DAY_MS, Tenant
from chimera.mcp.gate import Gate
from chimera.mcp.profiles import Rendered
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox.ads import WORDS, AdsSandbox, OrderBook
from chimera.mcp.sandbox.faults import FaultBook, Faults
from chimera.mcp.spec import CapabilitySpec
from chimera.policy import boardkit
from chimera.processors import courier, judge, planner
from chimera.processors.executor import Executor
from chimera.processors.jobs import Job
from chimera.processors.worker import Worker
from tests.histories import LAW, record
from tests.swarmhouse import PROFILES, Keys, SwarmHouse, _price
from tests.tenant_histories import NOON, TENANT

SOUL = "---\nname: ava\nvoice: {tone: [plain]}\ntopics: [soup]\n---\nCalm.\n"
POLICY = """---
boardkit: 1
name: money
approvers: {publish: [ann], paid: [ann], financial: [ann, bob]}
amount_tiers: [{amount_usd: "20", people: 1}]
undo_s: 0
---
Boosts from twenty dollars on are looked at.
"""


class PaidHouse(SwarmHouse):
    """`names` agents of one tenant on one log in memory; `calls` is what the gate recorded of every call."""

    def __init__(self, place: Path, names: int = 1, seed: int = 0, faults: str = "") -> None:
        super().__init__(place, POLICY)
        self.now = NOON
        self.tenant: Tenant | None = None
        self.calls: list[ToolCallRecord] = []
        self.watch: Callable[[], None] = lambda: None
        """Called after each record of the tenant's stream."""
        self.book = OrderBook(place / "ads")
        weather = FaultBook(place / "ads")
        if faults:
            from chimera.mcp.sandbox.faults import read_wish

            weather.ask(read_wish(faults, ["boostPost"]), 0, "test")
        self.gate = Gate(
            PROFILES, {"ads_url": AdsSandbox(self.book, Faults(weather, WORDS)).server()}, on_call=self._called, home=place
        )
        self.executor = Executor(cast("Any", self), lease_s=60, call_timeout_s=20)
        self._draw = random.Random(seed)
        self._others = [planner.role(), Worker(PROFILES, Keys()).role(), self.executor.role()]
        self._judges = [judge.role(_price)]
        self.keys = [f"agent/{n:08d}-1111-4111-8111-111111111111" for n in range(names)]
        self.command(rec.TenantCreated)
        for n, key in enumerate(self.keys):
            self.command(rec.AgentJoined, agent=key, name=f"a{n}")
            self._enrol(key, f"a{n}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gate.close()
        self.book.close()

    # --- the log -------------------------------------------------------------------------------------------------------

    def add(self, key: str, data: rec.Data, actor: str = "swarm") -> Ruling:
        """Append and rule one record of an agent or the tenant, a millisecond after the last."""
        self.now += 1
        made = replace(record(data, len(self.records), self.now, actor=actor), key=key)
        self.records.append(made)
        if key == TENANT:
            self.tenant, ruling = fold_tenant(LAW, self.tenant, made)
            self.watch()
        else:
            agent, ruling = fold(LAW, self.agents.get(key), made)
            if agent is not None:
                self.agents[key] = agent
        self.rulings.append(ruling)
        return ruling

    def command(self, model: Callable[..., rec.Data], **fields: Any) -> None:
        """A command on the tenant's stream, which counts."""
        number = self.tenant.command_no + 1 if self.tenant is not None else 1
        assert self.add(TENANT, model(command_no=number, **fields), "kim").outcome == "applied"

    def _enrol(self, key: str, account: str) -> None:
        rules = boardkit.parse_rules(POLICY)
        commands: list[rec.Data] = [
            rec.AgentEnrolled(command_no=1, name=account),
            rec.SoulAdopted(command_no=2, digest=boardkit.digest(SOUL), soul=SOUL),
            rec.PolicyAdopted(command_no=3, edition=1, digest="p", editor="eve", inline=boardkit.inline(rules), rules=POLICY),
            rec.AccountLinked(command_no=4, platform="x", account=account),
        ]
        for data in commands:
            assert self.add(key, data, "dee").outcome == "applied"

    def boost(self, key: str, tier: str, days: int, campaign: str = "push", post: int = 1840000000000000000) -> None:
        """A campaign that boosts one post."""
        wanted = {"platform": "x", "platform_id": str(post), "tier": tier, "days": days, "reason": "it went well"}
        number = self.agents[key].command_no + 1
        started = rec.CampaignStarted(
            command_no=number, campaign_id=campaign, name=campaign, brief={"boost": wanted}, brief_hash="b"
        )
        assert self.add(key, started, "dee").outcome == "applied"

    # --- everybody at once -----------------------------------------------------------------------------------------------

    async def settle(self, *, without: Sequence[str] = (), most: int = 400) -> None:
        """Roles and courier answer what they owe, in a random order and from states that others have moved on since, until
        nothing counts any more. `without`: roles that are away."""
        for _ in range(most):
            moves: list[Any] = [
                (role, job)
                for key in self.keys
                for role in self._roles(key)
                if role.name not in without
                for job in self._due(role, key)
            ]
            moves += [(None, key) for key in self.keys] if "courier" not in without else []
            self._draw.shuffle(moves)
            counted = 0
            for role, what in moves:
                if role is None:
                    counted += self.carry(what)
                    continue
                answer = await role.do(what, self)
                counted += answer is not None and self.add(what.agent, answer.data).outcome != "void"
            if not counted:
                return
        raise AssertionError("the house did not come to rest")

    def carry(self, key: str) -> int:
        """What crosses between an agent and its tenant now, one copy each way and what was delivered; how much counted."""
        assert self.tenant is not None
        agent, counted = self.agents[key], 0
        asked = courier.due(agent, self.tenant)
        if asked.copy is not None:
            counted += self.add(TENANT, courier.ask(key, asked.copy)).outcome != "void"  # type: ignore[arg-type]
        if asked.delivered is not None:
            self.add(key, rec.CopiesDelivered(target=self.tenant.label, upto=asked.delivered))
        told = courier.due(self.tenant, agent)
        if told.copy is not None:
            about = self.records[told.copy.ref.offset] if told.copy.ref is not None else None  # type: ignore[union-attr]
            counted += self.add(key, courier.tell(self.tenant.label, told.copy, about)).outcome != "void"  # type: ignore[arg-type]
        if told.delivered is not None:
            self.add(TENANT, rec.CopiesDelivered(target=key, upto=told.delivered))
        return counted

    def open_day(self) -> None:
        """The next UTC day begins, and the courier says so where somebody waits."""
        self.now = (self.now // DAY_MS + 1) * DAY_MS
        assert self.tenant is not None
        day = courier.day_due(self.tenant, self.now)
        if day is not None:
            self.add(TENANT, rec.DayOpened(day=day))

    # --- people --------------------------------------------------------------------------------------------------------

    def effects(self, *statuses: str) -> list[tuple[str, int, Task, Effect]]:
        """(agent, campaign, task, effect) of open effects in these statuses."""
        return [
            (key, c.number, t, t.effect)
            for key, agent in self.agents.items()
            for c in agent.campaigns.values()
            for t in c.tasks.values()
            if t.effect is not None and t.effect.status in statuses
        ]

    def approve_all(self, actor: str = "ann") -> int:
        """A person approves every card; how many."""
        cards = self.effects("people")
        for key, campaign, t, e in cards:
            agent: Agent = self.agents[key]
            assert agent.policy is not None
            vote = rec.HumanApproved(
                campaign=campaign,
                ordinal=t.ordinal,
                attempt=t.attempt,
                policy_edition=agent.policy.edition,
                input_state_version=t.input_state_version,
                artifact_hash=t.artifact_hash,
                effect_hash=e.hash,
                expected_output_version=agent.version + 1,
                commit_hash=commit_hash(key, f"{campaign}.{t.ordinal}", t.input_state_version, t.artifact_hash, e.hash),
                shown_hash="h",
            )
            assert self.add(key, vote, actor).outcome == "applied"
        return len(cards)

    # --- money ---------------------------------------------------------------------------------------------------------

    def spent(self, scope: str = "tenant") -> Decimal:
        """What the ledger says was spent in a scope."""
        assert self.tenant is not None
        return self.tenant.windows[scope].spent if scope in self.tenant.windows else Decimal(0)

    def reserved(self, scope: str = "tenant") -> Decimal:
        """What is set aside in a scope."""
        assert self.tenant is not None
        return self.tenant.windows[scope].reserved if scope in self.tenant.windows else Decimal(0)

    def paid_by_calls(self) -> Decimal:
        """What the gate's records of calls add up to."""
        return sum((call.cost_usd for call in self.calls), Decimal(0))

    async def _called(self, call: ToolCallRecord) -> None:
        self.calls.append(call)

    # --- what the executor may use ---------------------------------------------------------------------------------------

    def broker_now(self) -> int:
        return self.now

    async def send(self, job: Job, call: Rendered, account: str, idempotency_key: str) -> Outcome:
        return await self.gate.send(call, agent=job.agent, tenant="acme", account=account, idempotency_key=idempotency_key)

    async def ask(self, job: Job, effect: rec.EffectProposal, capability: str, inputs: dict[str, Any]) -> Outcome:
        raise AssertionError("a boost is not looked up")

    def shield(self, job: Job) -> None:
        """One process: nobody takes a partition away."""

    async def read_back(self, ref: Ref) -> Record:
        return self.records[ref.offset]

    def signed_by_role(self, record: Record) -> bool:
        return True

    def capability(self, effect: rec.EffectProposal) -> CapabilitySpec | None:
        return PROFILES.by_name[effect.profile].spec.capabilities.get(effect.capability)

    def url_of(self, effect: rec.EffectProposal, platform_id: str) -> str | None:
        return None

    def switch_holds(self, reason: str) -> bool:
        return False
