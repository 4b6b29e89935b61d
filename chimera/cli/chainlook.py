"""Asking wallets and their chain, through a gate that only reads: what they hold, and what became of what was sent.

The rule not to break: what the chain says is told as it is; a wallet that cannot be asked is named, and never counts as right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
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


# --- records against the chain -----------------------------------------------------------------------------------------

ENDED = {"success": "executed", "reverted": "refused"}
"""What the chain says of a transaction -> how its effect has ended."""


async def check(settings: Settings, wallets: Sequence[Wallet], rows: Sequence[Mapping[str, Any]], mode: str) -> list[str]:
    """Every recorded transaction held against its receipt, every wallet against the sum of its own: what differs, in words.

    `rows`: of the question `transactions`, in this mode.
    """
    async with reading_gate(settings, wallets) as gate:
        return await differences(gate, wallets, rows, mode)


async def differences(gate: Gate, wallets: Sequence[Wallet], rows: Sequence[Mapping[str, Any]], mode: str) -> list[str]:
    """As `check`, through a gate at hand."""
    found: list[str] = []
    for wallet in wallets:
        mine = [row for row in rows if (row["agent_id"], row["account"]) == (wallet["stream"], wallet["account"])]
        for row in mine:
            if row["hash"]:
                found += [f"{row['card']}: {line}" for line in await _receipt_differs(gate, wallet, row, mode)]
            elif row["status"] == "executed":
                found.append(f"{row['card']}: executed, and nobody knows its hash")
        found += [f"{WALLET}/{wallet['account']}: {line}" for line in await _wallet_differs(gate, wallet, mine, mode)]
    known = {(wallet["stream"], wallet["account"]) for wallet in wallets}
    found += [
        f"{row['card']}: {WALLET}/{row['account']} is nobody's now, so it was not asked"
        for row in rows
        if row["hash"] and (row["agent_id"], row["account"]) not in known
    ]
    return found


async def _receipt_differs(gate: Gate, wallet: Wallet, row: Mapping[str, Any], mode: str) -> list[str]:
    whose = {"agent": wallet["stream"], "tenant": wallet["tenant"], "account": wallet["account"]}
    answer = await gate.call("wallet.receipt", {"handle": row["hash"]}, platform=WALLET, mode=mode, **whose)
    if answer.reason == "not_mined":
        return [] if row["status"] in ("submitted", "unknown") else [f"{row['status']}, and the chain has no {row['hash']}"]
    chain = answer.receipt
    if not chain.get("status"):
        return [f"the chain could not be asked: {answer.reason or answer.result} {answer.detail[:200]}".strip()]
    if row["status"] in ("submitted", "unknown"):
        return []  # the swarm asks for it itself; what is not over differs from nothing yet
    lines = []
    if ENDED.get(chain["status"]) != row["status"]:
        lines.append(f"recorded as {row['status']}, the chain says {chain['status']}")
    quote = gate.profiles.capability("wallet.transfer", WALLET).quote
    symbols = {asset.address.get(mode, "").lower(): asset.symbol for asset in quote.assets} if quote is not None else {}
    pairs = [("asset", row["asset"], symbols.get(chain.get("token", "").lower(), "an unknown token"))]
    pairs += [(name, str(row[name]), chain.get(name, "")) for name in ("block", "nonce", "gas")]
    pairs += [("payee", str(row["payee"]).lower(), chain.get("to", "").lower())]
    lines += [
        f"{name} is recorded as {ours}, the chain says {theirs or 'nothing'}" for name, ours, theirs in pairs if ours != theirs
    ]
    for name in ("amount", "fee"):
        if row[name] is None or Decimal(row[name]) != Decimal(chain.get(name) or -1):
            lines.append(f"{name} is recorded as {_plain(row[name])}, the chain says {chain.get(name) or 'nothing'}")
    return lines


async def _wallet_differs(gate: Gate, wallet: Wallet, rows: Sequence[Mapping[str, Any]], mode: str) -> list[str]:
    """What a wallet got less what is recorded as paid is what it holds, and it sent as many transactions as are recorded."""
    try:
        said = (await ask(gate, wallet, mode, "wallet.statement", {})).data
    except NotTold as silent:
        return [f"its statement could not be asked for: {silent}"]
    sent = [row for row in rows if row["chain_status"]]
    lines = []
    if int(said["transactionCount"]) != len(sent):
        lines.append(f"it sent {said['transactionCount']} transactions, {len(sent)} are recorded with a receipt")
    for symbol, got in said["received"].items():
        paid = sum(
            (Decimal(row["amount"]) for row in sent if row["asset"] == symbol and row["chain_status"] == "success"), Decimal(0)
        )
        fees = sum((Decimal(row["fee"] or 0) for row in sent), Decimal(0)) if symbol == _coin(gate) else Decimal(0)
        if Decimal(got) - paid - fees != Decimal(said["holds"][symbol]):
            left = _plain(Decimal(got) - paid - fees)
            lines.append(f"it should hold {left} {symbol} by the records, the chain says {said['holds'][symbol]}")
    return lines


def _coin(gate: Gate) -> str:
    quote = gate.profiles.capability("wallet.transfer_native", WALLET).quote
    return quote.coin.symbol if quote is not None else ""


def _plain(amount: Any) -> str:
    return "nothing" if amount is None else f"{Decimal(amount).normalize():f}"
