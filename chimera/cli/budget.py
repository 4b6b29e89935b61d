"""`chimera budget`: what a tenant may spend, and what lies in it. Exit codes: `chimera.cli.output`.

The rule not to break: a limit is set by votes; the answer to one vote says whether it was the last that the tenant's rules ask for.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.giving import ask, give
from chimera.cli.options import ActorOption, JsonOption, TenantOption
from chimera.commands import verbs
from chimera.settings import Settings

app = typer.Typer(help="Budgets: set, list, show.", no_args_is_help=True)
ScopeArgument = Annotated[
    str, typer.Argument(metavar="SCOPE", help="tenant (all its life), day (each UTC day), campaign/<id> or agent/<name>.")
]


@app.command("set")
def set_(
    scope: ScopeArgument,
    limit_usd: Annotated[str, typer.Argument(metavar="USD", help="US dollars.")],
    tenant: TenantOption = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vote for a limit; the last vote that the rules ask for sets it. Example: chimera budget set day 25 --tenant acme"""
    try:
        limit = Decimal(limit_usd)
    except InvalidOperation:
        raise output.usage(f"'{limit_usd}' is no amount: write US dollars, e.g. 25 or 0.50") from None
    give(
        verbs.wish(verbs.TenantBudget, actor or Settings().actor, tenant=tenant, scope=scope, limit_usd=limit),
        "budget set",
        as_json,
    )


@app.command("list")
def list_(tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """Every limit with what is reserved and spent in it, who waits for room, and votes that wait for others."""
    found = ask(verbs.TenantShow(tenant=tenant), as_json)
    votes = votes_on(found, "budget/")
    if as_json:
        output.print_json({"tenant": found["tenant"], "budgets": found["budgets"], "votes": votes, "waiting": found["waiting"]})
        return
    out = output.console()
    rows = [
        (b["scope"], b["limit_usd"] or "none", b["reserved_usd"], b["spent_usd"], b["left_usd"] or "-") for b in found["budgets"]
    ]
    out.print(output.table(f"budgets of tenant {found['tenant']}, USD", ("scope", "limit", "reserved", "spent", "left"), rows))
    print_votes(votes)
    if found["waiting"]:
        cells = [(w["agent"], w["campaign"], w["amount_usd"]) for w in found["waiting"]]
        out.print(output.table("waiting for room", ("agent", "campaign", "USD"), cells))


@app.command()
def show(scope: ScopeArgument, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """One limit: how much is reserved, spent and left, and who has voted for another one. Example: chimera budget show day"""
    found = ask(verbs.TenantShow(tenant=tenant), as_json)
    row = next((b for b in found["budgets"] if scope in (b["scope"], b["name"])), None)
    votes = [vote for vote in votes_on(found, "budget/") if scope in (vote["on"], vote["name"])]
    if row is None and not votes:
        raise output.usage(f"tenant '{found['tenant']}' has no budget '{scope}': `chimera budget list` shows those there are")
    if as_json:
        output.print_json({"tenant": found["tenant"], "budget": row, "votes": votes})
        return
    if row is not None:
        values = {name: row[f"{name}_usd"] or "-" for name in ("limit", "reserved", "spent", "left")}
        output.console().print(output.pairs(f"budget {scope} of tenant {found['tenant']}, USD", values))
    print_votes(votes)


def votes_on(found: dict[str, Any], about: str) -> list[dict[str, Any]]:
    """Votes that wait for others on subjects that begin with `about`, without that beginning."""
    return [
        vote | {"on": vote["on"].removeprefix(about), "name": vote["name"].removeprefix(about)}
        for vote in found["votes"]
        if vote["on"].startswith(about)
    ]


def print_votes(votes: list[dict[str, Any]]) -> None:
    """Nothing where none waits."""
    if votes:
        cells = [(vote["name"], ", ".join(vote["by"]), f"{len(vote['by'])} of {vote['needs']}") for vote in votes]
        output.console().print(output.table("votes that wait for others", ("on", "by", "votes"), cells))
