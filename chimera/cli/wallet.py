"""`chimera wallet`: pay somebody, see what wallets hold, hold the records against the chain. Exit codes: `chimera.cli.output`.

The rule not to break: a payment goes the way of every effect, so `transfer` only begins it; the other verbs read.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.giving import begin
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, ReasonOption, TenantOption, WaitOption
from chimera.commands import verbs
from chimera.policy.brief import WALLET
from chimera.settings import Settings
from chimera.stack.addresses import load

app = typer.Typer(help="Wallets: pay, balance, transactions.", no_args_is_help=True)
LiveOption = Annotated[bool, typer.Option("--live", help="Ask the real wallet; default: the sandbox.")]


@app.command()
def transfer(
    agent: Annotated[str, typer.Option("--agent", help="Whose wallet pays, by name.")],
    to: Annotated[str, typer.Option("--to", metavar="PAYEE", help="An address on the tenant's list: `chimera payee list`.")],
    amount: Annotated[str, typer.Option("--amount", help="In whole units, e.g. 0.5.")],
    asset: Annotated[str, typer.Option("--asset", help="By its symbol in the wallet's profile, e.g. ETH or USDC.")],
    reason: ReasonOption,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a payment: funds are held at the profile's quote, judges and people decide, then it is sent once.

    Asked for again while it is on its way, it is the same payment. Example: chimera wallet transfer --agent ava --to
    0x2222222222222222222222222222222222222222 --amount 0.5 --asset ETH --reason 'the kitchen was rented' --dry-run
    """
    settings = Settings()
    most_usd = _quoted(settings, asset.upper(), to, amount)
    said = {"agent": agent, "to": to, "amount": amount, "asset": asset.upper(), "reason": reason, "dry_run": dry_run}
    wish = verbs.wish(verbs.WalletTransfer, actor or settings.actor, **said)

    def told(reply: verbs.Reply) -> None:
        if as_json:
            output.print_json(reply | {"most_usd": f"{most_usd:f}"})
            return
        paid = reply["payment"]
        out = output.console()
        out.print(output.table("dry run", ("agent", "would append"), reply["plan"].items()))
        out.print(f"{WALLET}/{paid['account']} pays {paid['amount']} {paid['asset']} to {paid['to']}: held at {most_usd:.2f} USD")

    begin(wish, "wallet transfer", settings, wait=wait, as_json=as_json, dry=told)


@app.command()
def balance(
    agents: Annotated[
        list[str] | None, typer.Argument(metavar="[AGENT]...", help="Only these; default: all with a wallet.")
    ] = None,
    tenant: TenantOption = None,
    live: LiveOption = False,
    as_json: JsonOption = False,
) -> None:
    """What wallets hold, asked of the wallets themselves. Example: chimera wallet balance ava"""
    from chimera.cli.chainlook import balances  # here: only who asks wallets pays for what that takes

    settings = Settings()
    rows = _wallets(settings, agents, tenant)
    told = asyncio.run(balances(settings, rows, "live" if live else "sandbox"))
    if as_json:
        output.print_json({"wallets": told})
    else:
        cells = [(w["agent"], w["account"], w["address"] or "-", _amounts(w["holds"]), w["reason"] or "-") for w in told]
        output.console().print(output.table("wallets", ("agent", "wallet", "address", "holds", "why not known"), cells))
    if any(w["reason"] for w in told):
        raise typer.Exit(output.FAILURE)


@app.command()
def transactions(
    agents: Annotated[list[str] | None, typer.Argument(metavar="[AGENT]...", help="Only these; default: all.")] = None,
    tenant: TenantOption = None,
    check: Annotated[bool, typer.Option("--check", help="Hold each against the chain; exit 1 where something differs.")] = False,
    live: LiveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Payments as the read models tell them, newest first. Example: chimera wallet transactions --check

    `--check` compares each with its receipt (status, block, gas, fee, amount, payee), and each wallet with the sum of its
    transactions. It asks in one mode: the sandbox's, or with --live the real chain's.
    """
    from chimera.projections import questions  # here: only this verb reads the read models

    settings, mode = Settings(), "live" if live else "sandbox"
    answer = questions.ask(load(settings).postgres, questions.question("transactions"))
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    rows = [row for row in rows if (not agents or row["agent"] in agents) and tenant in (None, row["tenant"])]
    found: list[str] | None = None
    if check:
        from chimera.cli.chainlook import check as against

        wallets = _wallets(settings, agents, tenant)
        found = asyncio.run(against(settings, wallets, [row for row in rows if row["mode"] == mode], mode))
    if as_json:
        output.print_json({"transactions": rows} | ({} if found is None else {"differences": found}))
    else:
        _print_transactions(rows, found)
    if found:
        raise typer.Exit(output.FAILURE)


def _print_transactions(rows: list[dict[str, Any]], found: list[str] | None) -> None:
    out = output.console()
    cells = [
        (
            row["card"],
            f"{WALLET}/{row['account']}",
            f"{row['amount'].normalize():f} {row['asset']}" if row["amount"] is not None else "-",
            row["payee"] or "-",
            f"{row['status']} ({row['chain_status']})" if row["chain_status"] else row["status"],
            "-" if row["block"] is None else str(row["block"]),
            row["hash"] or "-",
        )
        for row in rows
    ]
    columns = ("card", "wallet", "amount", "to", "status (chain)", "block", "hash")
    out.print(output.table(f"{len(rows)} transactions", columns, cells))
    for line in found or ():
        out.print(Text(output.visible(line)))
    if found is not None:
        out.print(f"{len(found)} differences" if found else "the chain says the same")


def _quoted(settings: Settings, asset: str, to: str, amount: str) -> Decimal:
    """The most that it may come to in US dollars. What the worker would refuse later is refused at once."""
    from chimera.mcp.profiles import BadArguments, load_profiles  # only this verb looks at prices

    profiles = load_profiles() if settings.profiles is None else load_profiles(settings.profiles)
    try:
        capability, inputs = profiles.transfer(WALLET, asset, to, amount, "sandbox")
        return profiles.render(capability, inputs, platform=WALLET).cost_usd
    except BadArguments as unknown:
        raise output.usage(str(unknown)) from None


def _wallets(settings: Settings, agents: list[str] | None, tenant: str | None) -> list[dict[str, Any]]:
    with open_desk(settings) as desk:
        every = [row for row in desk.ask(verbs.AccountList(tenant=tenant))["accounts"] if row["platform"] == WALLET]
    known = {row["agent"] for row in every}
    for name in agents or ():
        if name not in known:
            raise output.usage(f"agent '{name}' has no wallet: `chimera account link {name} {WALLET}/{name}` gives it one")
    return [row for row in every if not agents or row["agent"] in agents]


def _amounts(holds: dict[str, str]) -> str:
    return ", ".join(f"{amount} {symbol}" for symbol, amount in holds.items()) or "-"
