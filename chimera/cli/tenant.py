"""`chimera tenant`: what spans agents: create one, let agents join, look at it. Exit codes: `chimera.cli.output`."""

from __future__ import annotations

from typing import Annotated

import typer

from chimera.cli import output
from chimera.cli.giving import ask, give
from chimera.cli.options import ActorOption, JsonOption
from chimera.commands import verbs
from chimera.settings import Settings

app = typer.Typer(help="Tenants: create, join, show.", no_args_is_help=True)
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
    give(verbs.wish(verbs.TenantCreate, who, tenant=tenant, finance=tuple(finance or ()), people=people), "tenant create", as_json)


@app.command()
def join(
    tenant: TenantArgument,
    names: Annotated[list[str] | None, typer.Argument(help="Agents; all of the tenant's when not given.")] = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make enrolled agents members, and their accounts theirs alone. Doing it again changes only what differs."""
    chosen = tuple(names) if names else None
    give(verbs.wish(verbs.TenantJoin, actor or Settings().actor, tenant=tenant, names=chosen), "tenant join", as_json)


@app.command()
def show(tenant: TenantArgument, as_json: JsonOption = False) -> None:
    """Members, budgets with what lies in them, payees, votes, who waits for funds, copies owed."""
    found = ask(verbs.TenantShow(tenant=tenant), as_json)
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
                "votes that wait": ", ".join(f"{v['name']} by {' '.join(v['by'])}" for v in found["votes"]) or "-",
                "funds": f"{found['held']} held, {len(found['waiting'])} waiting",
                "copies owed": f"{found['copies_owed']} to {found['agents_owed']} agents",
            },
        )
    )
    rows = [(b["scope"], b["limit_usd"] or "none", b["reserved_usd"], b["spent_usd"]) for b in found["budgets"]]
    out.print(output.table("budgets, USD", ("scope", "limit", "reserved", "spent"), rows))
