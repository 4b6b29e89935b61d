"""The wallet sandbox: Coinbase AgentKit's tools and words over a real EVM chain of our own, with receipts.

The one rule: like the real tools it tells every failure as a success that begins with "Error", and what it calls transferred has a
receipt on the chain.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from html import escape
from typing import Any

import orjson
from mcp.types import CallToolResult, TextContent, Tool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from chimera.mcp.sandbox.chain import ETHER, Chain, Receipt
from chimera.mcp.sandbox.faults import Words
from chimera.mcp.sandbox.timeline import PlatformRefused
from chimera.mcp.sandbox.vendor import Vendor, schema

NETWORK = "chimera-sandbox"
_STRING = {"type": "string"}
_ADDRESS_OR_NULL = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
_DETAILS, _NATIVE = "WalletActionProvider_get_wallet_details", "WalletActionProvider_native_transfer"
_BALANCE, _TRANSFER = "ERC20ActionProvider_get_balance", "ERC20ActionProvider_transfer"
_APPROVE, _ALLOWANCE = "ERC20ActionProvider_approve", "ERC20ActionProvider_get_allowance"
_FIND = "ERC20ActionProvider_get_erc20_token_address"
# AgentKit has no tool for these two; its way to add some (`customActionProvider`) gives them this prefix.
_RECEIPT, _STATEMENT = "CustomActionProvider_get_transaction_receipt", "CustomActionProvider_get_wallet_statement"
TOOLS = (
    Tool(name=_DETAILS, input_schema=schema({})),
    Tool(name=_NATIVE, input_schema=schema({"to": _STRING, "value": _STRING}, "to", "value")),
    Tool(name=_BALANCE, input_schema=schema({"tokenAddress": _STRING, "address": _ADDRESS_OR_NULL}, "tokenAddress")),
    Tool(
        name=_TRANSFER,
        input_schema=schema(
            {"amount": _STRING, "tokenAddress": _STRING, "destinationAddress": _STRING},
            "amount",
            "tokenAddress",
            "destinationAddress",
        ),
    ),
    Tool(
        name=_APPROVE,
        input_schema=schema(
            {"amount": _STRING, "tokenAddress": _STRING, "spenderAddress": _STRING}, "amount", "tokenAddress", "spenderAddress"
        ),
    ),
    Tool(
        name=_ALLOWANCE, input_schema=schema({"tokenAddress": _STRING, "spenderAddress": _STRING}, "tokenAddress", "spenderAddress")
    ),
    Tool(name=_FIND, input_schema=schema({"symbol": _STRING}, "symbol")),
    Tool(name=_RECEIPT, input_schema=schema({"transactionHash": _STRING}, "transactionHash")),
    Tool(name=_STATEMENT, input_schema=schema({})),
)
WORDS = Words(
    busy="Error transferring the asset: HTTP request failed. Status: 429 Too Many Requests",
    refusal="Error transferring the asset: execution reverted",
    broken="Error transferring the asset: HTTP request failed. Status: 503 Service Unavailable",
)


def vendor(chain: Chain) -> Vendor:
    """The server over one chain. The EVM works in one thread of its own, in order."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chain")

    async def act(tool: str, arguments: dict[str, Any], account: str, key: str | None) -> CallToolResult:
        if not account:
            raise PlatformRefused(401, "Unauthorized", "no wallet is configured (_meta chimera/account)")
        told = await asyncio.get_running_loop().run_in_executor(thread, _done, chain, tool, arguments, account, key)
        return CallToolResult(content=[TextContent(type="text", text=told)])

    async def page(request: Request) -> Response:
        rows = await asyncio.get_running_loop().run_in_executor(thread, chain.receipts, 200)
        return HTMLResponse(_PAGE.format(title="Chain (sandbox)", body="\n".join(map(_row, rows)) or "<p>No transaction yet.</p>"))

    async def one(request: Request) -> Response:
        try:
            found = await asyncio.get_running_loop().run_in_executor(thread, chain.receipt, request.path_params["hash"])
        except PlatformRefused:
            return HTMLResponse(_PAGE.format(title="Not found", body="<p>The chain has no such transaction.</p>"), status_code=404)
        return HTMLResponse(_PAGE.format(title="Transaction", body=_row(found)))

    return Vendor("wallet", TOOLS, WORDS, act, _refused, chain, [Route("/", page), Route("/tx/{hash}", one)])


def _done(chain: Chain, tool: str, arguments: dict[str, Any], account: str, key: str | None) -> str:
    if tool == _DETAILS:
        address = chain.wallet(account)
        return (
            f"Wallet Details:\n- Provider: chimera_sandbox_wallet\n- Address: {address}\n- Network:\n  * Protocol Family: evm\n"
            f"  * Network ID: {NETWORK}\n- Native Balance: {chain.native_balance(address):f} ETH"
        )
    if tool == _FIND:
        if arguments["symbol"].upper() != "USDC":
            raise PlatformRefused(404, "Not Found", f"token symbol {arguments['symbol'][:20]!r} not found on {NETWORK}")
        return f"Token address for USDC on {NETWORK}: {chain.token}"
    if tool == _RECEIPT:
        return orjson.dumps(_told(chain.receipt(arguments["transactionHash"]))).decode()
    if tool == _STATEMENT:
        said = chain.statement(account)
        amounts = {
            name: {k: f"{v:f}" for k, v in part.items()} for name, part in (("received", said.received), ("holds", said.holds))
        }
        return orjson.dumps({"address": said.address, "transactionCount": said.nonce, **amounts}).decode()
    if tool == _NATIVE:
        made = chain.send_native(account, key, arguments["to"], _amount(arguments["value"]))
        return f"Transferred {arguments['value']} ETH to {arguments['to']}\nTransaction hash: {made.hash}"
    token = arguments["tokenAddress"]
    if tool == _BALANCE:
        whose = arguments.get("address") or chain.wallet(account)
        return f"Balance of USDC ({token}) at address {whose} is {chain.token_balance(token, whose):f}"
    if tool == _ALLOWANCE:
        allowed = chain.allowance(token, chain.wallet(account), arguments["spenderAddress"])
        return f"Allowance for {arguments['spenderAddress']} to spend USDC ({token}) is {allowed:f} tokens"
    amount = _amount(arguments["amount"])
    if tool == _APPROVE:
        made = chain.approve(account, key, token, arguments["spenderAddress"], amount)
        return f"Approved {amount:f} USDC ({token}) for {arguments['spenderAddress']}.\nTransaction hash: {made.hash}"
    made = chain.send_token(account, key, token, arguments["destinationAddress"], amount)
    return (
        f"Transferred {amount:f} of USDC ({token}) to {arguments['destinationAddress']}.\n"
        f"Transaction hash for the transfer: {made.hash}"
    )


def _told(receipt: Receipt) -> dict[str, Any]:
    """A receipt in the words of JSON-RPC, numbers as text, with what the transaction moves."""
    return {
        "transactionHash": receipt.hash,
        "status": "success" if receipt.status else "reverted",
        "blockNumber": str(receipt.block),
        "blockHash": receipt.block_hash,
        "minedAt": datetime.fromtimestamp(receipt.at, UTC).isoformat(),
        "from": receipt.sender,
        "nonce": str(receipt.nonce),
        "gasUsed": str(receipt.gas),
        "fee": f"{Decimal(receipt.fee_wei) / ETHER:f}",
        "token": receipt.token,
        "to": receipt.payee,
        "amount": f"{receipt.amount:f}",
    }


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or amount <= 0:
        raise PlatformRefused(400, "Bad Request", f"invalid amount {text[:40]!r}")
    return amount


def _refused(tool: str, no: PlatformRefused) -> CallToolResult:
    """As a success: the real tools do not say otherwise."""
    return CallToolResult(content=[TextContent(type="text", text=f"Error transferring the asset: {no.detail}")])


def _row(receipt: Receipt) -> str:
    when = datetime.fromtimestamp(receipt.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    state, to = "succeeded" if receipt.status else "reverted", escape(receipt.to or "a contract")
    return (
        f'<article><a href="tx/{receipt.hash}">{receipt.hash}</a><p>{escape(receipt.sender)} → {to}</p>'
        f"<small>block {receipt.block} · {state} · fee {receipt.fee_wei} wei · {when}</small></article>"
    )


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head><body><h1>{title}</h1>
{body}
</body></html>
"""
