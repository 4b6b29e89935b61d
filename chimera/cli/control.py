"""`chimera control`: who may sign in at Mission Control.

The rule not to break: a password is asked for or read from a file, never taken from the command line, where others can see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from chimera.cli import noting, output, webhook
from chimera.cli.home import settled
from chimera.cli.options import JsonOption, YesOption
from chimera.control.access import EVERY_TENANT, ROLES, Role
from chimera.control.accounts import Accounts
from chimera.control.book import AccountTrouble
from chimera.control.tokens import Token, Tokens
from chimera.stack.addresses import control_url

app = typer.Typer(help="Mission Control's accounts: add, list, remove, link, sign-out, token, webhook.", no_args_is_help=True)
token = typer.Typer(help="API tokens of accounts: add, list, revoke.", no_args_is_help=True)
app.add_typer(token, name="token")
app.add_typer(webhook.app, name="webhook")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name that decisions carry: as policies name approvers.")]


@app.command()
def add(
    name: NameArgument,
    role: Annotated[list[str], typer.Option("--role", help=f"One or more of {', '.join(ROLES)}.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Where; * means in every tenant.")] = EVERY_TENANT,
    password_file: Annotated[Path | None, typer.Option("--password-file", help="First line is the password (mode 0600).")] = None,
    ask_password: Annotated[bool, typer.Option("--ask-password", help="Ask for a password here.")] = False,
) -> None:
    """Make an account, or change what it may do there; without a password it comes in by `control link`.

    Example: chimera control add kim --role moderator --tenant acme --ask-password
    """
    settings = settled()
    accounts = Accounts(settings.home)
    password = _password(password_file, ask_password)
    before = _grants(accounts, name)
    granted: dict[str, Sequence[Role]] = {**dict(before), tenant: role}  # type: ignore[dict-item]  # put checks them
    accounts.put(name, granted, password)
    noting.note(
        settings, "account_changed" if before else "account_added", tenant=tenant, resource=name, action=",".join(sorted(role))
    )
    typer.echo(f"{name}: {', '.join(role)} in {'every tenant' if tenant == EVERY_TENANT else tenant}")


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Every account: what it may do where, and how many browsers are signed in."""
    rows = Accounts(settled().home).listed()
    if as_json:
        output.print_json(
            {"accounts": [{"name": name, "grants": grants, "signed_in": n, "password": known} for name, grants, n, known in rows]}
        )
        return
    cells = [
        (name, "; ".join(f"{tenant}: {', '.join(roles)}" for tenant, roles in grants.items()), n, "yes" if known else "no")
        for name, grants, n, known in rows
    ]
    output.console().print(output.table(f"{len(rows)} accounts", ("name", "may", "signed in", "password"), cells))


@app.command()
def remove(name: NameArgument, yes: YesOption = False) -> None:
    """Take an account away; its browsers are signed out at once. What it decided stays in the log."""
    if not yes:
        typer.confirm(f"remove the account '{name}'?", abort=True, err=True)
    settings = settled()
    Accounts(settings.home).remove(name)
    noting.note(settings, "account_removed", resource=name)
    typer.echo(f"{name} is removed")


@app.command()
def link(name: NameArgument) -> None:
    """Print an address that signs NAME in once, within 15 minutes. Whoever has it is NAME: hand it over by a safe way."""
    settings = settled()
    made = Accounts(settings.home).link(name)
    noting.note(settings, "login_link_made", resource=name)
    typer.echo(f"{control_url(settings.home)}/enter/{made}")


@app.command("sign-out")
def sign_out(name: NameArgument) -> None:
    """End every login of an account, at once."""
    settings = settled()
    ended = Accounts(settings.home).end_logins(name)
    noting.note(settings, "signed_off", resource=name)
    typer.echo(f"{name}: {ended} browsers signed out")


@token.command("add")
def token_add(
    name: NameArgument,
    role: Annotated[list[str], typer.Option("--role", help=f"One or more of {', '.join(ROLES)}, of those that NAME has.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Where; * means in every tenant.")] = EVERY_TENANT,
    days: Annotated[int, typer.Option("--days", help="How long it lives, up to 366.")] = 90,
    label: Annotated[str, typer.Option("--label", help="What it is for, so that it is known in lists.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a token with which a program acts as NAME through the API, and print it: it is shown this once.

    Example: chimera control token add kim --role viewer --tenant acme --days 30 --label 'wall board'
    """
    settings = settled()
    made, secret = Tokens(settings.home).add(name, cast(Sequence[Role], role), tenant, days, label)
    noting.note(settings, "token_made", tenant=tenant, resource=made.id, action=",".join(made.roles))
    if as_json:
        output.print_json(_token_row(made) | {"secret": secret})
        return
    typer.echo(secret)
    typer.echo(f"token {made.id} of {name}: {_reach(made)}, until {output.when(int(made.until * 1000))}", err=True)


@token.command("list")
def token_list(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Those of one account.")] = None, as_json: JsonOption = False
) -> None:
    """Every token: whose, what it may do, until when, and when it was used last."""
    found = Tokens(settled().home).listed(name)
    if as_json:
        output.print_json({"tokens": [_token_row(each) for each in found]})
        return
    cells = [(each.id, each.name, each.label, _reach(each), output.when(int(each.until * 1000)), _used(each)) for each in found]
    output.console().print(output.table(f"{len(found)} tokens", ("id", "account", "label", "may", "until", "used last"), cells))


@token.command("revoke")
def token_revoke(id_: Annotated[str, typer.Argument(metavar="ID", help="As `control token list` shows it.")]) -> None:
    """End a token at once."""
    settings = settled()
    gone = Tokens(settings.home).revoke(id_)
    noting.note(settings, "token_revoked", tenant=gone.tenant, resource=gone.id)
    typer.echo(f"token {gone.id} of {gone.name} is revoked")


def _token_row(token: Token) -> dict[str, object]:
    return token._asdict() | {"roles": list(token.roles)}


def _reach(token: Token) -> str:
    return f"{', '.join(token.roles)} in {'every tenant' if token.tenant == EVERY_TENANT else token.tenant}"


def _used(token: Token) -> str:
    return output.when(int(token.seen * 1000)) if token.seen else "never"


def _grants(accounts: Accounts, name: str) -> dict[str, list[Role]]:
    return next((grants for known, grants, _, _ in accounts.listed() if known == name), {})


def _password(file: Path | None, ask: bool) -> str | None:
    if file is None:
        return typer.prompt("Password", hide_input=True, confirmation_prompt=True) if ask else None
    try:
        if file.stat().st_mode & 0o077:
            raise AccountTrouble(f"{file} may be read by others: run `chmod 600 {file}`")
        return file.read_text().splitlines()[0]
    except (OSError, IndexError) as error:
        raise AccountTrouble(f"{file} holds no password ({error})") from error
