"""`chimera analyst`: database roles that may ask. Exit codes: 0 done, 1 failure, 2 usage, 3 refused."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from chimera.cli import noting
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, YesOption
from chimera.cli.output import agreed, console, note, pairs, print_json, table
from chimera.errors import ChimeraError
from chimera.projections import analysts, views
from chimera.settings import Settings
from chimera.stack.addresses import load

app = typer.Typer(help="Who may ask: one guarded database role per analyst.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The role's name in PostgreSQL.")]


@app.command()
def add(
    name: NameArgument,
    tenant: Annotated[list[str], typer.Option("--tenant", metavar="TENANT", help="Whose rows they see; repeat it.")],
    limit_s: Annotated[
        int, typer.Option("--limit", min=1, max=3600, help="Seconds that one statement may run.")
    ] = analysts.LIMIT_S,
    password: Annotated[bool, typer.Option(help="Make a password and print it, once.")] = False,
    actor: ActorOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a role that reads analytics_v1 for these tenants, or change it. Example: chimera analyst add ida --tenant acme"""
    with _connect() as connection:
        if dry_run:
            known = analysts.check(connection, name, tenant)
            told = {"analyst": name, "tenants": sorted(set(tenant)), "limit_s": limit_s, "would": "change" if known else "make"}
            _tell(f"analyst {name}: would be {'changed' if known else 'made'}", told, as_json)
            return
        word = secrets.token_urlsafe(24) if password else None
        settings = Settings()
        who, known = actor or settings.actor, analysts.check(connection, name, tenant)
        gaps = analysts.add(connection, name, tenant, by=who, limit_s=limit_s, password=word)
    for each in sorted(set(tenant)):
        noting.note(settings, "analyst_changed" if known else "analyst_made", who=who, tenant=each, resource=name)
    told = {"analyst": name, "tenants": sorted(set(tenant)), "limit_s": limit_s, "address": _address(name), "gaps": gaps}
    _tell(f"analyst {name}", told | ({"password": word} if word else {}), as_json)
    for gap in gaps:
        note(f"not guarded: {gap}")


@app.command("list")
def list_all(as_json: JsonOption = False) -> None:
    """Who may ask, for which tenants, and how many sessions they have open."""
    with _connect() as connection:
        found = analysts.analysts(connection)
    if as_json:
        print_json([a._asdict() for a in found])
        return
    columns = ("analyst", "tenants", "statement limit", "sessions", "added", "by")
    rows = [
        (
            a.name + ("" if a.exists else " (role is gone)"),
            ", ".join(a.tenants),
            f"{a.limit_s} s",
            a.sessions,
            f"{a.added_at:%Y-%m-%d}",
            a.added_by,
        )
        for a in found
    ]
    console().print(table(f"{len(found)} analysts", columns, rows))


@app.command()
def remove(name: NameArgument, dry_run: DryRunOption = False, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Take the role away and end its sessions. Nothing that it saw changes."""
    with _connect() as connection:
        found = next((a for a in analysts.analysts(connection) if a.name == name), None)
        if found is not None and dry_run:
            _tell(
                f"analyst {name}: would be removed",
                {"analyst": name, "tenants": found.tenants, "sessions": found.sessions},
                as_json,
            )
            return
        if found is not None:
            agreed(f"Remove analyst {name} ({found.sessions} sessions)?", yes, as_json)
        ended = analysts.remove(connection, name)
    noting.note(Settings(), "analyst_removed", resource=name)
    _tell(f"analyst {name}: removed", {"analyst": name, "sessions ended": ended}, as_json)


def _tell(title: str, told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    shown = {k: ", ".join(v) if isinstance(v, list) else str(v) for k, v in told.items() if k != "gaps"}
    console().print(pairs(title, shown))


def _address(name: str) -> str:
    """The address as this analyst uses it: no password of ours in it."""
    parts = conninfo_to_dict(load(Settings()).postgres)
    return make_conninfo("", **{k: str(v) for k, v in parts.items() if k != "password"} | {"user": name})


def _connect() -> psycopg.Connection[Any]:
    """As the owner of the read models. Raises `ChimeraError` where there is no database, or no views yet."""
    try:
        connection: psycopg.Connection[Any] = psycopg.connect(
            load(Settings()).postgres, autocommit=True, connect_timeout=5, application_name="chimera analyst"
        )
    except psycopg.OperationalError as error:
        raise ChimeraError(f"no database: {str(error).splitlines()[0]} (`chimera status` says whether it is up)") from error
    if connection.execute("SELECT to_regclass('access.analysts')").fetchone() == (None,):
        connection.close()
        raise ChimeraError(f"the database has no schema {views.ANALYTICS} yet: start the projector (`chimera up`)")
    return connection
