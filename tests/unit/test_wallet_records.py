"""What is recorded of payments, held against the chain: rows of the read model, receipts, and what wallets hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from chimera.cli.chainlook import differences, held
from chimera.events import records as rec
from chimera.mcp.sandbox.chain import REVERTS
from chimera.projections.models import effects, models_for, transactions
from chimera.projections.rows import Insert, Put
from tests.wallethouse import PAYEE, WalletHouse

WALLET = {"stream": "agent/00000000-1111-4111-8111-111111111111", "tenant": "acme", "agent": "a0", "account": "ava"}


def rows_of(house: WalletHouse) -> list[dict[str, Any]]:
    """The rows that the projector would write of the house's log, with their effects' status, as the view joins them."""
    tables: dict[str, dict[Any, dict[str, Any]]] = {"transactions": {}, "effects": {}}
    for made, ruling in zip(house.records, house.rulings, strict=True):
        for model in (transactions.MODEL, effects.MODEL):
            for row in model.rows(made, ruling, None) if model in models_for(made, ruling) else ():
                assert not isinstance(row, Insert)
                there = tables[row.table.name]
                if isinstance(row, Put):
                    blank = dict.fromkeys(("hash", "chain_status", "block", "nonce", "gas", "fee", "token"))
                    there[row.key] = {**blank, **there.get(row.key, {}), **row.values}
                elif row.key in there:
                    there[row.key] |= row.values
    found = []
    for key, sent in tables["transactions"].items():
        of = tables["effects"][key]
        card = "a0/" + ".".join(map(str, key[1:]))
        found.append(sent | {"agent_id": key[0], "card": card, "status": of["status"], "account": of["account"]})
    return found


def play(place: Path, story: Callable[[WalletHouse], Awaitable[None]], faults: str = "") -> None:
    async def go() -> None:
        async with WalletHouse(place, faults) as house:
            await story(house)

    asyncio.run(asyncio.wait_for(go(), 120))


async def three_payments(house: WalletHouse) -> list[dict[str, Any]]:
    """One in ether, one in tokens, one that the chain reverted."""
    house.command(rec.PayeeAllowed, payee=REVERTS)
    for n, (amount, asset, to) in enumerate([("0.5", "ETH", PAYEE), ("12.34", "USDC", PAYEE), ("5", "USDC", REVERTS)]):
        house.pay(amount, asset, to, f"pay{n}")
        await house.settle()
        while house.effects("people"):
            if to == REVERTS and house.end().outcome == "refused":
                break
            for person in ("ann", "bob"):
                if house.effects("people"):
                    house.approve_all(person)
            await house.settle()
    return [row for row in rows_of(house) if row["hash"]]


def test_rows_say_what_the_chain_says_and_the_check_finds_nothing(tmp_path: Path) -> None:
    async def story(house: WalletHouse) -> None:
        rows = await three_payments(house)
        assert [(row["asset"], row["amount"], row["status"], row["chain_status"]) for row in rows] == [
            ("ETH", Decimal("0.5"), "executed", "success"),
            ("USDC", Decimal("12.34"), "executed", "success"),
            ("USDC", Decimal(5), "refused", "reverted"),
        ]
        for row in rows:
            receipt = house.chain.receipt(row["hash"])
            assert (row["block"], row["gas"], row["nonce"]) == (receipt.block, receipt.gas, receipt.nonce)
            assert row["fee"] * 10**18 == receipt.fee_wei
        assert await differences(house.gate, [WALLET], rows, "sandbox") == []

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"amount": Decimal("0.6")}, "amount is recorded as 0.6, the chain says 0.5"),
        ({"gas": 1}, "gas is recorded as 1, the chain says 21000"),
        ({"payee": REVERTS}, f"payee is recorded as {REVERTS.lower()}, the chain says {PAYEE}"),
        ({"asset": "USDC"}, "asset is recorded as USDC, the chain says ETH"),
        ({"status": "refused"}, "recorded as refused, the chain says success"),
        ({"hash": "0x" + "7" * 64}, "executed, and the chain has no 0x7777"),
    ],
    ids=["amount", "gas", "payee", "asset", "status", "hash"],
)
def test_the_check_names_what_differs(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    async def story(house: WalletHouse) -> None:
        house.pay("0.5", "ETH")
        await house.approved_by("ann", "bob")
        (row,) = rows_of(house)
        found = await differences(house.gate, [WALLET], [row | wrong], "sandbox")
        assert any(line.startswith("a0/1.1.1: ") and said in line for line in found), found

    play(tmp_path, story)


def test_a_payment_behind_the_swarms_back_is_found_by_count_and_balance(tmp_path: Path) -> None:
    async def story(house: WalletHouse) -> None:
        house.pay("0.5", "ETH")
        await house.approved_by("ann", "bob")
        house.chain.send_token("ava", None, house.chain.token, PAYEE, Decimal(7))
        found = await differences(house.gate, [WALLET], rows_of(house), "sandbox")
        assert "wallet/ava: it sent 2 transactions, 1 of them are recorded" in found
        assert "wallet/ava: it should hold 10000 USDC by the records, the chain says 9993" in found

    play(tmp_path, story)


def test_what_a_person_found_out_or_what_is_still_asked_for_is_held_against_the_chain_as_far_as_it_is_known(tmp_path: Path) -> None:
    async def story(house: WalletHouse) -> None:
        house.pay("0.5", "ETH")
        await house.approved_by("ann", "bob")
        (row,) = rows_of(house)
        bare = dict.fromkeys(("chain_status", "block", "nonce", "gas", "fee"))
        assert await differences(house.gate, [WALLET], [row | bare], "sandbox") == []
        assert await differences(house.gate, [WALLET], [row | bare | {"status": "submitted"}], "sandbox") == []
        (wrong,) = await differences(house.gate, [WALLET], [row | bare | {"status": "refused"}], "sandbox")
        assert wrong.endswith("recorded as refused, the chain says success")

    play(tmp_path, story)


def test_a_wallet_tells_its_address_and_what_it_holds_of_every_asset_that_has_a_price(tmp_path: Path) -> None:
    async def story(house: WalletHouse) -> None:
        assert await held(house.gate, WALLET, "sandbox") == (house.chain.wallet("ava"), {"ETH": "10", "USDC": "10000"})

    play(tmp_path, story)
