"""`chimera account`: who acts as whom on which platform, with which credential.

The rule not to break: a credential is a reference (`env:`, `file:`, `command:`); what is no reference is refused without being
repeated, since it may be the secret itself. Exit codes: `chimera.cli.output`; `verify` also ends with 3 where an answer is not the
account's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.giving import give
from chimera.cli.options import ActorOption, JsonOption
from chimera.commands import verbs
from chimera.observe.findings import credential_ends
from chimera.settings import Settings

app = typer.Typer(help="Accounts: link, verify, list, unlink.", no_args_is_help=True)
AccountArgument = Annotated[str, typer.Argument(metavar="PLATFORM/ACCOUNT", help="As `account list` shows it, e.g. x/ava_cooks.")]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")]
_REFERENCES = ("env:", "file:", "command:")
_WORDS = {
    "never_asked": "never asked",
    "not_told": "nobody: ",
    "confirmed": "yes",
    "somebody_else": "NO: it belongs to ",
}


@app.command()
def link(
    agent: Annotated[str, typer.Argument(help="Agent by name or stream key.")],
    account: AccountArgument,
    secret: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="env:NAME, file:PATH or command:PROGRAM ...; '' = as the profile says again."),
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="DATE", help="When the credential ends, e.g. 2027-01-31 (UTC).")] = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an account to an agent of a tenant; nobody else can have it. Doing it again changes the credential.

    Example: chimera account link ava x/ava_cooks --secret file:/run/secrets/ava --expires 2027-01-31
    """
    if secret and not secret.startswith(_REFERENCES):
        raise output.usage("--secret takes a reference, never the secret: begin it with env:, file: or command:")
    platform, handle = _split(account)
    ends = None if expires is None else _date(expires)
    who = actor or Settings().actor
    wish = verbs.wish(verbs.AccountLink, who, agent=agent, platform=platform, account=handle, secret_ref=secret, expires_ts=ends)
    give(wish, "account link", as_json)


@app.command()
def unlink(account: AccountArgument, tenant: TenantOption = None, actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """Make an account nobody's; its agent is told. Example: chimera account unlink x/ava_cooks"""
    platform, handle = _split(account)
    wish = verbs.wish(verbs.AccountUnlink, actor or Settings().actor, platform=platform, account=handle, tenant=tenant)
    give(wish, "account unlink", as_json)


@app.command("list")
def list_(tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """All accounts: whose, where the credential lies, when it ends, and whether the platform says that it is theirs."""
    with open_desk(Settings()) as desk:
        rows = desk.ask(verbs.AccountList(tenant=tenant))["accounts"]
    now = time.time()
    if as_json:
        output.print_json({"accounts": [row | {"ends": credential_ends(row["expires_ts"], now)} for row in rows]})
        return
    columns = ("account", "agent", "tenant", "credential", "ends (UTC)", "theirs, says the platform", "asked (UTC)")
    cells = [
        (
            f"{row['platform']}/{row['account']}",
            row["agent"] + ("" if row["told"] else " (is being told)"),
            row["tenant"] if row["claimed"] else f"{row['tenant']} (does not keep it)",
            row["secret_ref"] or "as the profile says",
            output.when(row["expires_ts"])[:10],
            _WORDS[row["verdict"]] + (row["found"] if row["verdict"] == "somebody_else" else row["trouble"]),
            output.when(row["verified_ts"]),
        )
        for row in rows
    ]
    output.console().print(output.table(f"{len(rows)} accounts", columns, cells))
    for row in rows:
        ends = credential_ends(row["expires_ts"], now)
        if ends:
            output.note(f"the credential of {row['platform']}/{row['account']} {ends}")


@app.command()
def verify(
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[PLATFORM/ACCOUNT]...", help="Only these; default: all.")] = None,
    tenant: TenantOption = None,
    live: Annotated[bool, typer.Option("--live", help="Ask the real platform; default: the sandbox.")] = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the platform, with each account's own credential, whose it is, and keep the answer. Publishes nothing.

    Run it where the gate runs: the references are resolved here. Example: chimera account verify x/ava_cooks --live
    """
    settings = Settings()
    named = {_split(account) for account in accounts or ()}
    who, mode = actor or settings.actor, "live" if live else "sandbox"
    with open_desk(settings) as desk:
        every = desk.ask(verbs.AccountList(tenant=tenant))["accounts"]
        missing = sorted("/".join(name) for name in named - {(row["platform"], row["account"]) for row in every})
        if missing:
            raise output.usage(f"no account {missing[0]}: `chimera account list` shows those there are")
        rows = [row for row in every if not named or (row["platform"], row["account"]) in named]
        # Here and not above: only who asks platforms pays for what that takes.
        from chimera.cli.whose import ask_all

        said = asyncio.run(ask_all(settings, rows, mode))
        told: list[dict[str, Any]] = []
        for row, answer in zip(rows, said, strict=True):
            kept: dict[str, Any] = {"outcome": "not kept", "reason": "no tenant keeps this account"}
            if row["claimed"]:
                fields = {name: row[name] for name in ("tenant", "platform", "account", "secret_ref")}
                wish = verbs.wish(
                    verbs.AccountSaid, who, **fields, mode=mode, found=answer.found[:200], platform_id=answer.platform_id[:200],
                    reason=answer.reason[:64],
                )  # fmt: skip
                ((_, ruled),) = verbs.answers_of(desk.ask(wish))
                kept = {"outcome": ruled.outcome, "reason": ruled.reason}
            theirs = answer.found.removeprefix("@").casefold() == row["account"].removeprefix("@").casefold()
            told.append(
                {"account": f"{row['platform']}/{row['account']}", "agent": row["agent"], "theirs": theirs, "mode": mode}
                | {"found": answer.found, "reason": answer.reason, "detail": answer.detail, "kept": kept}
            )
    _print(told, as_json)
    if not all(each["theirs"] for each in told):
        raise typer.Exit(output.NOT_COUNTED)


def _print(told: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        output.print_json({"accounts": told})
        return
    cells = [
        (
            each["account"],
            each["agent"],
            "yes" if each["theirs"] else f"NO: {each['found']}" if each["found"] else "-",
            " ".join(filter(None, (each["reason"], each["detail"]))) or "-",
            each["kept"]["outcome"],
        )
        for each in told
    ]
    output.console().print(output.table("account verify", ("account", "agent", "theirs", "why not known", "kept"), cells))


def _split(account: str) -> tuple[str, str]:
    platform, _, handle = account.partition("/")
    if not platform or not handle:
        raise output.usage(f"'{account}' is no account: write platform/account, e.g. x/ava_cooks")
    return platform, handle


def _date(text: str) -> int:
    """Milliseconds since 1970 of a day or a time; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise output.usage(f"'{text}' is no date: write it as 2027-01-31 or 2027-01-31T12:00") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
