"""A paid effect from its proposal to its settlement in the running swarm, many of them at once, and what the ledger makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from chimera.commands.cards import cards_of, sight
from chimera.events import records as rec
from chimera.events.tenant import DAY_MS
from chimera.processors.sending import call_of
from tests.paidhouse import PaidHouse

USD = Decimal


def history(house: PaidHouse, key: str) -> list[str]:
    """What became of the first boost of an agent, step by step, on both streams."""
    steps = []
    for made, ruling in zip(house.records, house.rulings, strict=True):
        for change in ruling.changes:
            if change.what == "effect" and made.key == key:
                steps.append(change.status)
            elif change.what in ("funds", "ledger") and (made.key == key or change.detail.startswith(key)):
                steps.append(f"{change.what} {change.status}")
    return steps


def test_a_boost_is_proposed_held_shown_to_people_called_and_settled(tmp_path: Path) -> None:
    async def go() -> None:
        async with PaidHouse(tmp_path) as house:
            (ava,) = house.keys
            house.boost(ava, "medium", 1)
            await house.settle()
            assert history(house, ava) == ["proposed", "funds asked", "ledger over_budget", "funds over_budget"]
            house.command(rec.BudgetSet, scope="tenant", limit_usd=USD(100))
            await house.settle()
            (card,) = cards_of(house.agents.values())
            shown = sight(card, house.records[card.effect.ref.offset].data).card
            assert (card.why, shown["max_cost_usd"], shown["arguments"]["tier"]) == ("amount", "20.00", "medium")
            assert (house.reserved(), house.spent(), house.calls) == (USD(20), 0, [])
            house.approve_all()
            await house.settle()
            assert history(house, ava)[4:] == [
                *("ledger held", "funds held", "people", "approved", "claimed", "executed", "funds settled", "ledger settled"),
            ]
            assert [(call.tool, call.result_class, call.cost_usd) for call in house.calls] == [("boostPost", "ok", USD(20))]
            assert house.reserved() == 0
            assert house.spent() == house.paid_by_calls() == house.book.charged_usd() == USD(20)

    asyncio.run(go())


def test_what_policy_lets_pass_unasked_is_bought_without_a_card(tmp_path: Path) -> None:
    async def go() -> None:
        async with PaidHouse(tmp_path) as house:
            house.command(rec.BudgetSet, scope="tenant", limit_usd=USD(100))
            house.boost(house.keys[0], "small", 3)
            await house.settle()
            assert "people" not in history(house, house.keys[0])
            assert house.spent() == house.paid_by_calls() == house.book.charged_usd() == USD("12.50")

    asyncio.run(go())


def test_an_unknown_tier_fails_by_name_before_any_money_is_asked_for(tmp_path: Path) -> None:
    async def go() -> None:
        async with PaidHouse(tmp_path) as house:
            house.boost(house.keys[0], "gigantic", 1)
            await house.settle()
            failed = [r.data.reason for r in house.records if isinstance(r.data, rec.WorkFailed)]
            assert "there is no price for tier 'gigantic', days '1'" in failed[0]
            assert "small 1; small 3" in failed[0]
            assert house.calls == []
            assert house.agents[house.keys[0]].owed_no == {}

    asyncio.run(go())


BUDGETS = {"tenant": USD(700), "day": USD(500), "campaign/push": USD(300), "campaign/pull": USD(400)}
PER_AGENT = USD(60)
SIZES = (("small", 1), ("small", 7), ("medium", 1), ("medium", 3), ("small", 3))


@pytest.mark.parametrize("seed", [1, 2])
def test_fifty_boosts_of_twenty_agents_at_once_pass_no_budget_of_agent_campaign_tenant_or_day(tmp_path: Path, seed: int) -> None:
    """In random orders, from states that others have moved on since: looked at after every record of the tenant's stream."""

    async def go() -> None:
        async with PaidHouse(tmp_path, names=20, seed=seed) as house:
            limits = BUDGETS | dict.fromkeys(house.keys, PER_AGENT)
            for scope, limit in limits.items():
                house.command(rec.BudgetSet, scope=scope, limit_usd=limit)
            fullest: dict[str, Decimal] = {}

            def within() -> None:
                assert house.tenant is not None
                for scope, window in house.tenant.windows.items():
                    limit = limits["day"] if scope.startswith("day/") else limits[scope]
                    used = window.reserved + window.spent
                    assert used <= limit, f"{scope} holds {used} of {limit}"
                    fullest[scope.partition("/")[0]] = max(fullest.get(scope.partition("/")[0], USD(0)), used / limit)

            house.watch = within
            for n in range(50):
                tier, days = SIZES[n * 7 % len(SIZES)]
                house.boost(house.keys[n % 20], tier, days, ("push", "pull")[n // 20 % 2], 1840000000000000000 + n)
            await house.settle()
            while house.approve_all():
                await house.settle()
            assert house.reserved() == 0
            assert house.spent() == house.paid_by_calls() == house.book.charged_usd() > 0
            assert house.tenant is not None
            assert house.tenant.waiting, "the budgets are too wide to say anything"
            assert min(fullest["day"], fullest["campaign"], fullest["agent"]) > USD("0.7")
            assert len({call.arguments_sha256 for call in house.calls}) == len(house.calls)
            # With room for all of them the next day, all go through, and the ledger still ties out.
            limits |= {"tenant": USD(5000), "day": USD(5000), "campaign/push": USD(5000), "campaign/pull": USD(5000)}
            limits |= dict.fromkeys(house.keys, USD(5000))
            for scope, limit in limits.items():
                house.command(rec.BudgetSet, scope=scope, limit_usd=limit)
            house.open_day()
            await house.settle()
            while house.approve_all():
                await house.settle()
            assert len(house.calls) == 50
            assert (house.reserved(), house.tenant.waiting, house.tenant.reserved) == (0, [], {})
            assert house.spent() == house.paid_by_calls() == house.book.charged_usd()
            assert sum(house.spent(key) for key in house.keys) == house.spent("campaign/push") + house.spent("campaign/pull")

    asyncio.run(go())


def test_midnight_between_reserve_and_settle_loses_nothing_and_charges_the_day_it_was_held_in(tmp_path: Path) -> None:
    async def go() -> None:
        async with PaidHouse(tmp_path) as house:
            (ava,) = house.keys
            house.command(rec.BudgetSet, scope="tenant", limit_usd=USD(100))
            house.command(rec.BudgetSet, scope="day", limit_usd=USD(20))
            house.boost(ava, "small", 3, post=1)
            await house.settle(without=("executor",))
            today = f"day/{house.now // DAY_MS}"
            assert (house.reserved(today), house.spent(today)) == (USD("12.50"), 0)
            house.boost(ava, "small", 3, post=2)
            await house.settle(without=("executor",))
            assert history(house, ava)[-1] == "funds over_budget"
            house.open_day()
            tomorrow = f"day/{house.now // DAY_MS}"
            await house.settle(without=("executor",))
            assert house.reserved(today) == house.reserved(tomorrow) == USD("12.50")
            await house.settle()
            assert (house.reserved(), house.spent()) == (0, USD(25))
            assert house.spent(tomorrow) == USD("12.50"), "the first boost counts to the day that held it"
            assert house.spent() == house.paid_by_calls() == house.book.charged_usd()

    asyncio.run(go())


def test_a_boost_whose_answer_is_lost_is_billed_once_and_settled_once(tmp_path: Path) -> None:
    """The call's end is unknown; the same key makes the second call harmless. Each is recorded as what it may have cost."""

    async def go() -> None:
        async with PaidHouse(tmp_path, faults="boostPost:503_after_write=1") as house:
            house.command(rec.BudgetSet, scope="tenant", limit_usd=USD(100))
            house.boost(house.keys[0], "small", 1)
            await house.settle()
            assert history(house, house.keys[0])[-1] == "unknown"
            assert house.reserved() == house.book.charged_usd() == USD(5)
            house.now += 600_000
            await house.settle()
            assert [call.result_class for call in house.calls] == ["unknown", "ok"]
            assert len({call.arguments_sha256 for call in house.calls}) == 1
            assert (house.reserved(), house.spent(), house.book.charged_usd()) == (0, USD(5), USD(5))

    asyncio.run(go())


# --- the check itself --------------------------------------------------------------------------------------------------


def ties_out(house: PaidHouse) -> bool:
    """Ledger, recorded calls and the platform's own book say the same, and nothing is left aside."""
    return house.reserved() == 0 and house.spent() == house.paid_by_calls() == house.book.charged_usd() > 0


async def _called_under_another_key(house: PaidHouse) -> None:
    made = next(r.data for r in house.records if isinstance(r.data, rec.ArtifactProduced) and r.data.effect is not None)
    assert isinstance(made, rec.ArtifactProduced)
    assert made.effect is not None
    await house.gate.send(
        call_of(made.effect, 20.0), agent=house.keys[0], tenant="acme", account=made.effect.account, idempotency_key="another"
    )


async def _unrecorded(house: PaidHouse) -> None:
    house.calls.pop()


async def _settled_for_less(house: PaidHouse) -> None:
    assert house.tenant is not None
    window = house.tenant.windows["tenant"]
    house.tenant.windows["tenant"] = replace(window, spent=window.spent - USD("0.01"))


async def _left_aside(house: PaidHouse) -> None:
    assert house.tenant is not None
    window = house.tenant.windows["tenant"]
    house.tenant.windows["tenant"] = replace(window, reserved=USD("0.01"))


@pytest.mark.parametrize("plant", [_called_under_another_key, _unrecorded, _settled_for_less, _left_aside])
def test_one_cent_or_call_too_many_or_too_few_is_seen(plant: Callable[[PaidHouse], Awaitable[None]], tmp_path: Path) -> None:
    async def go() -> None:
        async with PaidHouse(tmp_path) as house:
            house.command(rec.BudgetSet, scope="tenant", limit_usd=USD(100))
            house.boost(house.keys[0], "small", 3)
            await house.settle()
            assert ties_out(house)
            await plant(house)
            assert not ties_out(house)

    asyncio.run(go())
