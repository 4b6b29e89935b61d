"""`chimera control webhook`: who outside is told that a review waits.

The rule not to break: the secret that signs is printed once, when it is made.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, cast

import typer

from chimera.cli import output
from chimera.cli.home import settled
from chimera.cli.options import JsonOption, YesOption
from chimera.control.telling import ping
from chimera.control.webhooks import WHEN, Delivered, Webhook, Webhooks, When
from chimera.stack.addresses import control_url

app = typer.Typer(help="Webhooks when a review waits: add, list, test, remove.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `control webhook list` shows it.")]


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to POST: https://host/path.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose cards.")],
    when: Annotated[str, typer.Option("--when", help=f"Which cards: {', '.join(WHEN)}.")] = "all",
    link: Annotated[str, typer.Option("--link", help="Address by which people reach the desk, if not this home's own.")] = "",
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Also addresses that are not public, and http. Only for a host that you run.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Have URL told when cards wait for people: ids, counts and a link, signed as Standard Webhooks says. Prints the secret once.

    Example: chimera control webhook add https://hooks.example.com/reviews --tenant acme --when financial
    """
    settings = settled()
    hook = Webhooks(settings.home).add(url, tenant, cast(When, when), link or control_url(settings.home), allow_private)
    if as_json:
        output.print_json(_row(hook) | {"secret": hook.secret})
        return
    typer.echo(hook.secret)
    typer.echo(
        f"webhook {hook.id}: {hook.when} cards of {hook.tenant}; try it with `chimera control webhook test {hook.id}`", err=True
    )


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Every webhook: where, of what, and how its messages fare."""
    found = Webhooks(settled().home).listed()
    if as_json:
        output.print_json({"webhooks": [_row(hook, fares) for hook, fares in found]})
        return
    cells = [(h.id, h.url, h.tenant, h.when, d.waiting, d.done, d.given_up, d.last or "-") for h, d in found]
    columns = ("id", "address", "tenant", "cards", "waiting", "delivered", "given up", "last try")
    output.console().print(output.table(f"{len(found)} webhooks", columns, cells))


@app.command()
def test(id_: IdArgument) -> None:
    """Send one a message of the type `ping` now, and say how it ended (exit 1 when in vain)."""
    ended = asyncio.run(ping(Webhooks(settled().home).named(id_)))
    typer.echo(f"webhook {id_}: {'delivered' if ended.delivered else 'in vain'}: {ended.said}")
    if not ended.delivered:
        raise typer.Exit(1)


@app.command()
def remove(id_: IdArgument, yes: YesOption = False) -> None:
    """Take one away, with what waits for it."""
    hooks = Webhooks(settled().home)
    hook = hooks.named(id_)
    if not yes:
        typer.confirm(f"remove the webhook to {hook.url}?", abort=True, err=True)
    hooks.remove(id_)
    typer.echo(f"webhook {id_} is removed")


def _row(hook: Webhook, fares: Delivered | None = None) -> dict[str, object]:
    told = {name: value for name, value in hook._asdict().items() if name != "secret"}
    return told | ({} if fares is None else fares._asdict())
