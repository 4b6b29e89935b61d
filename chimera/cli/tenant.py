"""`chimera tenant`: what spans agents: members, budgets, payees. Exit codes: `chimera.cli.output`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from chimera.cli import output
from chimera.cli.options import ActorOption, JsonOption
from chimera.commands import verbs
from chimera.commands.wiring import open_desk
from chimera.settings import Settings

app = typer.Typer(help="Tenants: members, budgets, payees.", no_args_is_help=True)
TenantArgument = Annotated[str, typer.Argument(help="The tenant's name, as the fleet file has it.")]


@app.command()
def create(
    tenant: TenantArgument,
    finance: Annotated[list[str] | None, typer.Option(help="Who votes on budgets and payees; repeat it. Default: anybody.")] = None,
    people: Annotated[int, typer.Option(min=1, help="How many of them it takes.")] = 1,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a tenant. Example: chimera tenant create acme --finance kim --finance lee --people 2"""
    who = actor or Settings().actor
    _give(verbs.wish(verbs.TenantCreate, who, tenant=tenant, finance=tuple(finance or ()), people=people), as_json, "tenant create")


@app.command()
def join(
    tenant: TenantArgument,
    names: Annotated[list[str] | None, typer.Argument(help="Agents; all of the tenant's when not given.")] = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make enrolled agents members, and their accounts theirs alone. Doing it again changes only what differs."""
    chosen = tuple(names) if names else None
    _give(verbs.wish(verbs.TenantJoin, actor or Settings().actor, tenant=tenant, names=chosen), as_json, "tenant join")


@app.command()
def budget(
    tenant: TenantArgument,
    scope: Annotated[str, typer.Argument(help="tenant, day, campaign/<id> or agent/<uuid>.")],
    limit_usd: Annotated[str, typer.Argument(help="US dollars.")],
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vote for a limit; the last vote that the rules ask for sets it. Example: chimera tenant budget acme day 25"""
    try:
        limit = Decimal(limit_usd)
    except InvalidOperation:
        raise output.usage(f"'{limit_usd}' is no amount: write US dollars, e.g. 25 or 0.50") from None
    wish = verbs.wish(verbs.TenantBudget, actor or Settings().actor, tenant=tenant, scope=scope, limit_usd=limit)
    _give(wish, as_json, "tenant budget")


@app.command()
def allow(
    tenant: TenantArgument,
    payee: Annotated[str, typer.Argument(help="Account, address or merchant, exactly as calls name it.")],
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vote for a payee."""
    wish = verbs.wish(verbs.TenantPayee, actor or Settings().actor, verb="tenant.allow", tenant=tenant, payee=payee)
    _give(wish, as_json, "tenant allow")


@app.command()
def forbid(
    tenant: TenantArgument,
    payee: Annotated[str, typer.Argument(help="Who may be paid no more.")],
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Nothing more is held for this payee; what is held already has to be withdrawn."""
    wish = verbs.wish(verbs.TenantPayee, actor or Settings().actor, verb="tenant.forbid", tenant=tenant, payee=payee)
    _give(wish, as_json, "tenant forbid")


@app.command()
def show(tenant: TenantArgument, as_json: JsonOption = False) -> None:
    """Members, budgets with what lies in them, payees, votes, who waits for funds, copies owed."""
    with open_desk(Settings()) as desk:
        found = desk.ask(verbs.TenantShow(tenant=tenant))
    if as_json:
        output.print_json(found)
        return
    voters = "anybody" if found["voters"] is None else " ".join(found["voters"])
    out = output.console()
    out.print(
        output.pairs(
            f"tenant {found['tenant']}",
            {
                "stream": found["stream"],
                "state_version": found["state_version"],
                "members": f"{found['members']}, with {found['accounts']} accounts",
                "campaigns": ", ".join(found["campaigns"]) or "-",
                "votes on money": f"{found['people']} of {voters}",
                "payees": ", ".join(f"{payee} ({word})" for payee, word in found["payees"].items()) or "-",
                "votes that wait": ", ".join(f"{v['on']} by {' '.join(v['by'])}" for v in found["votes"]) or "-",
                "funds": f"{found['held']} held, {len(found['waiting'])} waiting",
                "copies owed": f"{found['copies_owed']} to {found['agents_owed']} agents",
            },
        )
    )
    rows = [(b["scope"], b["limit_usd"] or "none", b["reserved_usd"], b["spent_usd"]) for b in found["budgets"]]
    out.print(output.table("budgets, USD", ("scope", "limit", "reserved", "spent"), rows))


def _give(wish: verbs.Wish, as_json: bool, what: str) -> None:
    with open_desk(Settings()) as desk:
        answers = verbs.answers_of(desk.ask(wish))  # type: ignore[arg-type]  # one of the verbs above
    output.finish(answers, as_json, what)
