"""Payments from a wallet through the whole swarm: named by a command, held, decided by people, and proved by the chain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from chimera.commands.cards import cards_of, text_of
from chimera.events import records as rec
from chimera.mcp.gate import Gate
from chimera.mcp.sandbox import wallet
from chimera.mcp.sandbox.chain import REVERTS, Chain
from tests.swarmhouse import PROFILES
from tests.unit.test_paid_effects import history
from tests.wallethouse import PAYEE, WalletHouse

USD = Decimal


def play(place: Path, story: Callable[[WalletHouse], Awaitable[None]], faults: str = "") -> None:
    async def go() -> None:
        async with WalletHouse(place, faults) as house:
            await story(house)

    asyncio.run(asyncio.wait_for(go(), 120))


@pytest.mark.parametrize(
    ("asset", "amount", "held"), [("ETH", "0.5", USD(2001)), ("USDC", "12.34", USD("13.34"))], ids=["native", "ERC-20"]
)
def test_a_payment_is_held_at_its_quote_shown_to_two_people_and_ends_with_the_chains_receipt(
    tmp_path: Path, asset: str, amount: str, held: Decimal
) -> None:
    async def story(house: WalletHouse) -> None:
        house.pay(amount, asset)
        await house.settle()
        ((_, _, _, card),) = house.effects("people")
        assert (card.max_cost, house.reserved(), house.spent(), house.calls) == (held, held, 0, [])
        (shown,) = cards_of(house.agents.values())
        words = text_of(cast("Any", house.records[shown.effect.ref.offset].data))
        assert words == f"Pay {amount} {asset} to {PAYEE}: the kitchen was rented"
        await house.approved_by("ann")
        assert house.calls == [], "one person is not enough for a payee who was never paid"
        await house.approved_by("bob")
        ended = house.end()
        assert ended.outcome == "executed"
        assert ended.receipt is not None
        receipt = house.chain.receipt(ended.receipt["hash"])
        assert (ended.platform_id, receipt.status, receipt.payee, f"{receipt.amount:f}") == (receipt.hash, 1, PAYEE, amount)
        told = {name: ended.receipt[name] for name in ("block", "gas", "status", "nonce", "amount", "to")}
        want = {
            "block": str(receipt.block),
            "gas": str(receipt.gas),
            "status": "success",
            "nonce": "0",
            "amount": amount,
            "to": PAYEE,
        }
        assert told == want
        unit = USD(4000) if asset == "ETH" else USD(1)
        fee = USD(ended.receipt["fee"]) * 4000
        assert 0 < fee < 1
        assert abs(house.spent() - (USD(amount) * unit + fee)) < USD("0.00000002"), "settled at what was moved and its real fee"
        assert house.reserved() == 0
        assert "funds settled" in history(house, house.keys[0])

    play(tmp_path, story)


def test_a_payment_that_the_chain_reverts_failed_costs_the_ledger_nothing_and_keeps_its_receipt(tmp_path: Path) -> None:
    async def story(house: WalletHouse) -> None:
        house.command(rec.PayeeAllowed, payee=REVERTS)
        house.pay("5", "USDC", REVERTS)
        await house.approved_by("ann", "bob")
        ended = house.end()
        assert (ended.outcome, ended.reason, (ended.receipt or {})["status"]) == ("refused", "reverted", "reverted")
        assert (ended.receipt or {})["gas"] == "30000"
        assert "refused" in history(house, house.keys[0])
        assert house.spent() == 0
        assert house.chain.token_balance(house.chain.token, REVERTS) == 0

    play(tmp_path, story)


@pytest.mark.parametrize("fault", ["503_after_write", "nonsense_after_write", "success_as_error"])
def test_an_answer_lost_after_the_broadcast_is_unknown_and_the_same_key_pays_once(tmp_path: Path, fault: str) -> None:
    async def story(house: WalletHouse) -> None:
        house.pay("0.5", "ETH")
        await house.approved_by("ann", "bob")
        assert history(house, house.keys[0])[-1] == "unknown"
        assert house.reserved() == USD(2001), "what may have been paid stays held"
        house.now += 600_000
        await house.settle()
        assert house.end().outcome == "executed"
        assert house.chain.native_balance(PAYEE) == USD("0.5")
        assert house.chain.statement("ava").nonce == 1
        assert 2000 < house.spent() < 2001

    play(tmp_path, story, f"WalletActionProvider_native_transfer:{fault}=1")


def test_a_receipt_that_cannot_be_read_is_asked_for_again_by_the_hash(tmp_path: Path) -> None:
    async def story(house: WalletHouse) -> None:
        house.pay("1", "USDC")
        await house.approved_by("ann", "bob")
        assert history(house, house.keys[0])[-1] == "submitted"
        house.now += 60_000
        await house.settle()
        assert house.end().outcome == "executed"
        assert [call.capability for call in house.calls] == ["wallet.transfer", "wallet.receipt", "wallet.receipt"]

    play(tmp_path, story, "CustomActionProvider_get_transaction_receipt:503=1")


def test_nothing_goes_to_somebody_who_is_no_payee(tmp_path: Path) -> None:
    async def story(house: WalletHouse) -> None:
        house.pay("1", "USDC", "0x" + "33" * 20)
        await house.settle()
        steps = history(house, house.keys[0])
        assert steps[:4] == ["proposed", "funds asked", "ledger payee", "funds payee"]
        assert (house.effects("people"), house.calls, house.reserved()) == ([], [], 0)
        closed = [c.reason for r in house.rulings for c in r.changes if c.what == "task" and c.status == "closed"]
        assert "payee" in closed

    play(tmp_path, story)


def test_an_asset_that_the_profile_does_not_know_fails_by_name(tmp_path: Path) -> None:
    async def story(house: WalletHouse) -> None:
        house.pay("1", "DOGE")
        await house.settle()
        assert "no asset 'DOGE' can be moved on wallet; there are: ETH, USDC" in house.reasons()[0]
        assert (house.effects("people"), house.calls) == ([], [])

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"amount": "9"}, "it moves another amount than the 5 USDC that the command named"),
        ({"destinationAddress": "0x" + "33" * 20}, "it pays somebody else than the command named"),
        ({"tokenAddress": "0x" + "33" * 20}, "it moves an unknown asset, the command named USDC"),
    ],
    ids=["amount", "receiver", "asset"],
)
def test_a_call_that_is_not_what_the_command_named_is_refused_by_name(tmp_path: Path, changed: dict[str, str], why: str) -> None:
    """A person who edits the card, under a true hash, gets no further than the judge."""

    async def story(house: WalletHouse) -> None:
        house.pay("5", "USDC")
        await house.settle()
        ((key, campaign, t, _),) = house.effects("people")
        assert house.add(key, house.edit_of(key, campaign, t, changed), "ann").outcome == "applied"
        await house.settle()
        assert any(why in line for line in house.reasons()), house.reasons()
        assert house.calls == []

    play(tmp_path, story)


def test_what_was_approved_in_the_sandbox_is_never_sent_to_the_live_wallet(tmp_path: Path) -> None:
    """Even where the gate knows a live wallet by now, and would use it for what is proposed from now on."""

    async def story(house: WalletHouse) -> None:
        house.pay("0.5", "ETH")
        await house.settle()
        for person in ("ann", "bob"):
            house.approve_all(person)
        real = Chain(tmp_path / "real")
        live = wallet.vendor(real).server()
        house.gate = Gate(PROFILES, {**house.gate.addresses, "wallet_live_url": live}, on_call=house._called, home=tmp_path)
        await house.settle()
        assert house.end().outcome == "executed"
        assert {call.mode for call in house.calls} == {"sandbox"}
        assert (real.native_balance(PAYEE), house.chain.native_balance(PAYEE)) == (0, USD("0.5"))
        real.close()

    play(tmp_path, story)
