"""`chimera payee`: who may be paid. Exit codes: `chimera.cli.output`.

The rule not to break: to allow one takes the votes that the tenant's rules ask for; to remove one takes a single person.
"""

from __future__ import annotations

from typing import Annotated

import typer

from chimera.cli import output
from chimera.cli.budget import print_votes, votes_on
from chimera.cli.giving import ask, give
from chimera.cli.options import ActorOption, JsonOption, TenantOption
from chimera.commands import verbs
from chimera.settings import Settings

app = typer.Typer(help="Payees: allow, remove, list.", no_args_is_help=True)
PayeeArgument = Annotated[str, typer.Argument(metavar="PAYEE", help="Account, address or merchant, exactly as calls name it.")]


@app.command()
def allow(payee: PayeeArgument, tenant: TenantOption = None, actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """Vote for a payee; the last vote that the rules ask for allows it. Example: chimera payee allow ads.example --tenant acme"""
    wish = verbs.wish(verbs.TenantPayee, actor or Settings().actor, verb="tenant.allow", tenant=tenant, payee=payee)
    give(wish, "payee allow", as_json)


@app.command()
def remove(payee: PayeeArgument, tenant: TenantOption = None, actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """Nothing more is held for this payee; what is held already has to be withdrawn. Example: chimera payee remove ads.example"""
    wish = verbs.wish(verbs.TenantPayee, actor or Settings().actor, verb="tenant.forbid", tenant=tenant, payee=payee)
    give(wish, "payee remove", as_json)


@app.command("list")
def list_(tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """Who may be paid, whether anything was paid to them before, and votes that wait for others."""
    found = ask(verbs.TenantShow(tenant=tenant), as_json)
    votes = votes_on(found, "payee/")
    if as_json:
        output.print_json({"tenant": found["tenant"], "payees": found["payees"], "votes": votes})
        return
    out = output.console()
    out.print(output.table(f"payees of tenant {found['tenant']}", ("payee", "so far"), found["payees"].items()))
    print_votes(votes)
