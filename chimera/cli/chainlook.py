"""Asking wallets and their chain, through a gate that only reads: what they hold, and what became of what was sent.

The rule not to break: what the chain says is told as it is; a wallet that cannot be asked is named, and never counts as right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chimera.cli.whose import reading_gate
from chimera.mcp.gate import Gate
from chimera.mcp.records import Outcome
from chimera.policy.brief import WALLET
from chimera.settings import Settings

Wallet = Mapping[str, Any]
"""A row of `account.list`."""


class NotTold(Exception):
    """A wallet did not answer; the text is a code and what it said."""


async def balances(settings: Settings, wallets: Sequence[Wallet], mode: str) -> list[dict[str, Any]]:
    """What each wallet holds by symbol, in whole units as text; where it does not answer, `reason` says why."""
    told: list[dict[str, Any]] = []
    async with reading_gate(settings, wallets) as gate:
        for row in wallets:
            address, reason, holds = "", "", dict[str, str]()
            try:
                address, holds = await held(gate, row, mode)
            except NotTold as silent:
                reason = str(silent)
            said = {"agent": row["agent"], "account": f"{WALLET}/{row['account']}", "address": address}
            told.append(said | {"holds": holds, "reason": reason})
    return told


async def held(gate: Gate, wallet: Wallet, mode: str) -> tuple[str, dict[str, str]]:
    """Address and holdings of a wallet: the chain's own coin, and every token that its profile prices. Raises NotTold."""
    details = await ask(gate, wallet, mode, "wallet.details", {})
    holds = {}
    quote = gate.profiles.capability("wallet.transfer", WALLET).quote
    for asset in quote.assets if quote is not None else ():
        token = asset.address.get(mode)
        if not asset.address:
            holds[asset.symbol] = str(details.data["native"])
        elif token is not None:
            answer = await ask(gate, wallet, mode, "wallet.balance", {"token": token, "address": details.data["address"]})
            holds[asset.symbol] = str(answer.data["balance"])
    return str(details.data["address"]), holds


async def ask(gate: Gate, wallet: Wallet, mode: str, capability: str, inputs: dict[str, Any]) -> Outcome:
    """A reading call for a wallet's account. Raises NotTold."""
    whose = {"agent": wallet["stream"], "tenant": wallet["tenant"], "account": wallet["account"]}
    outcome = await gate.call(capability, inputs, platform=WALLET, mode=mode, **whose)
    if outcome.result != "ok":
        raise NotTold(f"{outcome.reason or outcome.result} {outcome.detail[:200]}".strip())
    return outcome
