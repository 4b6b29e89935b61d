"""The gate and the wallet: AgentKit's tools on a real EVM chain, over stdio, with receipts, in good weather and bad."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chimera.mcp.gate import Gate
from chimera.mcp.profiles import Rendered, load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox.chain import Chain
from chimera.mcp.sandbox.faults import FaultBook, Wish

PROFILES = load_profiles(names=["wallet"])
PAYEE = "0x" + "22" * 20


class Purse:
    """A gate with its wallet server, the records of its calls, and the chain's own word once the server is gone."""

    def __init__(self, home: Path) -> None:
        self.home, self.data = home, home / "mcp" / "wallet"
        self.faults = FaultBook(self.data)
        self.records: list[ToolCallRecord] = []

    def run(self, story: Callable[[Gate], Awaitable[None]]) -> None:
        async def on_call(record: ToolCallRecord) -> None:
            self.records.append(record)

        async def go() -> None:
            async with Gate(PROFILES, {}, on_call=on_call, home=self.home) as gate:
                await story(gate)

        asyncio.run(asyncio.wait_for(go(), 100))

    def chain(self) -> Chain:
        return Chain(self.data)


@pytest.fixture
def purse(tmp_path: Path) -> Purse:
    return Purse(tmp_path)


def pay(token: str, amount: str, to: str = PAYEE) -> Rendered:
    return PROFILES.render("wallet.transfer", {"amount": amount, "token": token, "to": to})


def unpriced(call: Rendered, **arguments: str) -> Rendered:
    """A call that the profile would not render, since it has no price."""
    return replace(call, arguments=call.arguments | arguments)


async def send(gate: Gate, rendered: Rendered, key: str) -> Outcome:
    return await gate.send(rendered, agent="agent-1", tenant="tenant-1", account="ava", idempotency_key=key)


async def ask(gate: Gate, capability: str, **inputs: Any) -> dict[str, Any]:
    outcome = await gate.call(capability, inputs, agent="agent-1", tenant="tenant-1", account="ava")
    assert outcome.result == "ok", outcome
    return outcome.data


def test_native_and_token_transfers_end_with_the_chains_receipt(purse: Purse) -> None:
    told: dict[str, Outcome] = {}

    async def story(gate: Gate) -> None:
        token = (await ask(gate, "wallet.token", symbol="USDC"))["address"]
        details = await ask(gate, "wallet.details")
        assert details["native"] == "10"
        told["tokens"] = await send(gate, pay(token, "12.34"), "k1")
        native = PROFILES.render("wallet.transfer_native", {"to": PAYEE, "amount": "0.25"})
        told["ether"] = await send(gate, native, "k2")
        assert (await ask(gate, "wallet.balance", token=token))["balance"] == "9987.66"
        for name, sent in list(told.items()):
            told[f"{name} proved"] = await gate.call(
                "wallet.receipt", {"handle": sent.handle}, agent="a", tenant="t", account="ava"
            )

    purse.run(story)
    proofs = [told.pop("tokens proved"), told.pop("ether proved")]
    assert [(proof.result, proof.receipt["status"], proof.receipt["nonce"]) for proof in proofs] == [
        ("ok", "success", "0"),
        ("ok", "success", "1"),
    ]
    assert {name: (outcome.result, outcome.profile) for name, outcome in told.items()} == {
        "tokens": ("submitted", "wallet"),
        "ether": ("submitted", "wallet"),
    }
    chain = purse.chain()
    for outcome in told.values():
        assert outcome.handle is not None
        assert chain.receipt(outcome.handle).status == 1
    assert (str(chain.native_balance(PAYEE)), str(chain.token_balance(chain.token, PAYEE))) == ("0.25", "12.34")


def test_a_refusal_told_as_a_success_is_a_refusal(purse: Purse) -> None:
    async def story(gate: Gate) -> None:
        token = (await ask(gate, "wallet.token", symbol="USDC"))["address"]
        for why, rendered in (
            ("insufficient_funds", pay(token, "10001")),
            ("invalid_arguments", pay(token, "1", "nobody")),
        ):
            outcome = await send(gate, rendered, f"k {why} {rendered.arguments_sha256}")
            assert (outcome.result, outcome.reason) == ("refused", why), outcome

    purse.run(story)


def test_a_transfer_whose_price_nobody_can_tell_is_refused_before_it_is_sent(purse: Purse) -> None:
    async def story(gate: Gate) -> None:
        token = (await ask(gate, "wallet.token", symbol="USDC"))["address"]
        for n, wrong in enumerate(({"tokenAddress": PAYEE}, {"amount": "a lot"})):
            outcome = await send(gate, unpriced(pay(token, "1"), **wrong), f"k unpriced {n}")
            assert (outcome.result, outcome.reason) == ("refused", "misstated"), outcome

    purse.run(story)


@pytest.mark.parametrize("fault", ["die_after_write", "hang", "nonsense_after_write", "success_as_error"])
def test_a_lost_answer_is_unknown_and_the_same_key_pays_once(purse: Purse, fault: str) -> None:
    async def story(gate: Gate) -> None:
        token = (await ask(gate, "wallet.token", symbol="USDC"))["address"]
        purse.faults.ask(Wish(fault, "ERC20ActionProvider_transfer"))
        lost = await send(gate, replace(pay(token, "5"), timeout_s=3.0), "k")
        assert lost.result == "unknown", lost
        async with asyncio.timeout(60):
            found = await send(gate, pay(token, "5"), "k")
            while found.result == "not_sent":  # the gate starts its child anew, with a pause before
                await asyncio.sleep(0.1)
                found = await send(gate, pay(token, "5"), "k")
        assert found.result == "submitted", found

    purse.run(story)
    chain = purse.chain()
    assert str(chain.token_balance(chain.token, PAYEE)) == "5"
