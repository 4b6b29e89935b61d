"""The courier between real folds: whatever several of them append, late, twice or in any order, each copy counts exactly once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.fold import fold, fold_tenant
from chimera.events.state import Agent, Ref
from chimera.events.tenant import DAY_MS, Tenant
from chimera.processors.courier import ask, day_due, due, name_of, tell
from tests.histories import INLINE, LAW, agent_with_policy, artifact, proposal, row
from tests.histories import record as plain
from tests.tenant_histories import MIDNIGHT, TENANT


class World:
    """A tenant and its agents, each with its own log; what couriers write is put in a bag and arrives when it arrives."""

    def __init__(self, agents: int) -> None:
        self.now, self.offset = MIDNIGHT, 0
        self.log: dict[tuple[int, int], Record] = {}
        self.tenant: Tenant | None = None
        self.agents: dict[str, Agent | None] = {f"agent/{n}": None for n in range(agents)}
        self.counted: Counter[tuple[str, str, str, int]] = Counter()
        self.bag: list[tuple[str, rec.Data]] = []

    def say(self, key: str, data: rec.Data, actor: str = "kim") -> str:
        """Append; the ruling's outcome."""
        self.offset, self.now = self.offset + 1, self.now + 1
        r = replace(plain(data, self.offset, self.now, actor=actor), key=key)
        self.log[(0, self.offset)] = r
        if key == TENANT:
            self.tenant, ruling = fold_tenant(LAW, self.tenant, r)
        else:
            self.agents[key], ruling = fold(LAW, self.agents[key], r)
        copied = getattr(data, "copied", None)
        if copied is not None and ruling.outcome != "void":
            self.counted[key, copied.source, r.type, copied.number] += 1
            assert ruling.outcome == "applied", f"{r.type} {copied}: {ruling}"
        return ruling.outcome

    def command(self, key: str, model: Callable[..., rec.Data], actor: str = "kim", **fields: object) -> None:
        state = self.tenant if key == TENANT else self.agents[key]
        assert self.say(key, model(command_no=(state.command_no if state else 0) + 1, **fields), actor) == "applied"

    def streams(self) -> tuple[Tenant, list[Agent]]:
        assert self.tenant is not None
        return self.tenant, [agent for agent in self.agents.values() if agent is not None]

    def debts(self) -> list[tuple[str, rec.Data]]:
        """What a courier that sees the states as they are now would write."""
        tenant, agents = self.streams()
        found: list[tuple[str, rec.Data]] = []
        for agent in agents:
            for source, target in ((agent, tenant), (tenant, agent)):
                owed = due(source, target)
                if owed.delivered is not None:
                    found.append((source.key, rec.CopiesDelivered(target=name_of(target), upto=owed.delivered)))
                if owed.copy is None:
                    continue
                if isinstance(source, Tenant):
                    assert not hasattr(owed.copy, "amount")
                    told = self.log.get(owed.copy.ref[:2])
                    found.append((target.key, tell(source.label, owed.copy, told)))
                else:
                    found.append((target.key, ask(source.key, owed.copy)))  # type: ignore[arg-type]
        return found

    def settle(self, draw: random.Random) -> int:
        """Two couriers at work until nothing is owed; how many records they wrote."""
        written = 0
        while True:
            for _ in range(2):
                owed = self.debts()
                draw.shuffle(owed)
                self.bag += owed[: draw.randrange(1, 6)]  # this one dies here, or is slow
            draw.shuffle(self.bag)
            if not self.bag:
                return written
            for key, data in self.bag[: draw.randrange(1, len(self.bag) + 1)]:
                self.say(key, data, "courier")
                written += 1
                if draw.random() < 0.7:
                    self.bag.remove((key, data))  # else it comes a second time, late
            if not self.debts():
                for key, data in self.bag:
                    assert self.say(key, data, "courier") == "void"
                self.bag = []


def members(count: int) -> World:
    """Agents of one tenant with a budget."""
    world = World(count)
    world.command(TENANT, rec.TenantCreated)
    world.command(TENANT, rec.BudgetSet, scope="tenant", limit_usd=Decimal(5))
    for key in world.agents:
        world.command(key, rec.AgentEnrolled, name=key)
        world.command(TENANT, rec.AgentJoined, agent=key, name=key, groups=["eu"])
    return world


def test_every_copy_counts_exactly_once_whatever_two_couriers_write_late_twice_or_in_any_order() -> None:
    for seed in range(8):
        draw, world = random.Random(seed), members(6)
        world.command(TENANT, rec.PolicyPublished, edition=1, digest="d", editor="eve", inline=INLINE)
        world.command(TENANT, rec.SoulPublished, edition=1, digest="d", soul="calm")
        world.command(TENANT, rec.CampaignOpened, actor="dee", campaign_id="tea", name="t", brief={}, brief_hash="b")
        world.command(TENANT, rec.CampaignChanged, campaign_id="tea", edition=2, brief={"n": 2}, brief_hash="b2")
        world.settle(draw)
        world.command(TENANT, rec.AccountClaimed, agent="agent/0", platform="x", account="@zero")
        world.command(TENANT, rec.TenantCampaignStatusSet, campaign_id="tea", status="paused")
        world.settle(draw)
        tenant, agents = world.streams()
        assert tenant.owed == {}
        for agent in agents:
            c = agent.campaigns[1]
            assert (agent.policy is not None, c.status, c.brief_edition, agent.next_campaign) == (True, "paused", 2, 2)
            told = [n for (key, _, _, n), _ in world.counted.items() if key == agent.key]
            assert sorted(told) == list(range(1, len(told) + 1))
        assert set(world.counted.values()) == {1}
        assert world.agents["agent/0"] is not None
        assert world.agents["agent/0"].accounts == {"x": "@zero"}


def test_an_effect_that_costs_is_held_waits_and_is_settled_through_the_couriers() -> None:
    """5 dollars for three agents that ask for 2 each: the third is told over_budget, shows no card, and gets what becomes free."""
    draw, world = random.Random(1), World(3)
    world.command(TENANT, rec.TenantCreated)
    world.command(TENANT, rec.BudgetSet, scope="tenant", limit_usd=Decimal(5))
    base = agent_with_policy()
    base.command(rec.CampaignStarted, campaign_id="tea", name="t", brief={}, brief_hash="b")
    base.add(rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[row(1)]))
    base.add(rec.TaskPlanned(campaign=1, ordinal=1, attempt=1))
    for key in world.agents:
        for r in base.records:
            assert r.data is not None
            world.say(key, r.data, r.actor)
        effect = proposal(input_version=3, effect_class="paid", cost=Decimal(2), agent=key)
        world.say(key, artifact(1, 1, 1, 3, effect), "worker")
        world.command(TENANT, rec.AgentJoined, agent=key, name=key)
    world.settle(draw)

    def funds() -> list[str | None]:
        open_ = [a.campaigns[1].tasks[1].effect for a in world.streams()[1] if a.campaigns]
        return [effect.funds for effect in open_ if effect is not None]

    assert sorted(f or "" for f in funds()) == ["held", "held", "over_budget"]
    holder = next(a for a in world.streams()[1] if a.campaigns[1].tasks[1].effect.funds == "held")  # type: ignore[union-attr]
    world.command(holder.key, rec.CampaignStatusSet, campaign=1, status="cancelled")
    world.settle(draw)
    assert funds() == ["held", "held"]
    tenant, agents = world.streams()
    assert tenant.windows["tenant"].reserved == 4
    assert tenant.windows["tenant"].spent == 0
    assert all(agent.owed == {} for agent in agents)


def test_what_a_copy_says_is_what_its_record_said_without_the_agents_numbers() -> None:
    told = World(1)
    told.command(TENANT, rec.TenantCreated)
    for key in told.agents:
        told.command(key, rec.AgentEnrolled, name="a")
        told.command(TENANT, rec.AgentJoined, agent=key, name="a")
    told.command(TENANT, rec.PolicyPublished, edition=4, digest="d", editor="eve", inline=INLINE, rules="# r", stales=True)
    ((_, copy),) = told.debts()
    assert isinstance(copy, rec.PolicyAdopted)
    assert (copy.edition, copy.editor, copy.rules, copy.stales, copy.command_no) == (4, "eve", "# r", True, 0)
    assert copy.copied == rec.Copied(source="tenant/acme", number=1)


def test_a_day_is_opened_where_one_has_begun_and_somebody_waits() -> None:
    world = members(1)
    tenant, _ = world.streams()
    assert day_due(tenant, MIDNIGHT + DAY_MS) is None, "nobody waits"
    world.command(TENANT, rec.BudgetSet, scope="day", limit_usd=Decimal(1))
    copied = rec.Copied(source="agent/0", number=1)
    body = {"campaign_id": "c", "effect_class": "paid", "effect_hash": "e", "amount_usd": Decimal(2)}
    world.say(TENANT, rec.FundsRequested(copied=copied, campaign=1, ordinal=1, attempt=1, **body))
    assert day_due(tenant, MIDNIGHT + DAY_MS - 1) is None
    assert day_due(tenant, MIDNIGHT + DAY_MS) == (MIDNIGHT + DAY_MS) // DAY_MS


def test_a_debt_that_refers_to_another_record_is_an_error_with_its_place() -> None:
    world = members(1)
    world.command(TENANT, rec.SoulPublished, edition=1, digest="d", soul="calm")
    tenant, (agent,) = world.streams()
    copy = due(tenant, agent).copy
    assert copy is not None
    with pytest.raises(ValueError, match=r"copy 1 of tenant/acme is a SoulAdopted, but TenantCreated lies at \(0, 1\)"):
        tell(tenant.label, copy._replace(ref=Ref(0, 1)), world.log[0, 1])  # type: ignore[arg-type, call-arg]
