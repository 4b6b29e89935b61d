"""The `chimera` program: finds the verb's module, runs it, and turns known errors into one line.

The rule not to break: starting `chimera VERB` imports that verb alone, so a verb stays quick whatever the others need.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from chimera.cli import stack
from chimera.errors import ChimeraError
from chimera.observe import logs
from chimera.settings import Settings

_OUTSIDE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)
"""What a file system may say that is no fault of a program's."""

VERBS: dict[str, str] = {
    "agent": "chimera.cli.agent",
    "account": "chimera.cli.account",
    "campaign": "chimera.cli.campaign",
    "post": "chimera.cli.post",
    "review": "chimera.cli.review",
    "events": "chimera.cli.events",
    "fleet": "chimera.cli.fleet",
    "tenant": "chimera.cli.tenant",
    "budget": "chimera.cli.budget",
    "payee": "chimera.cli.payee",
    "wallet": "chimera.cli.wallet",
    "privacy": "chimera.cli.privacy",
    "switch": "chimera.cli.switch",
    "topics": "chimera.cli.topics",
    "replay": "chimera.cli.replay",
    "corpus": "chimera.cli.corpus",
    "audit": "chimera.cli.audit",
    "policy": "chimera.cli.policy",
    "soul": "chimera.cli.editions",
    "parked": "chimera.cli.parked",
    "ask": "chimera.cli.ask",
    "sql": "chimera.cli.sql",
    "analyst": "chimera.cli.analyst",
    "metrics": "chimera.cli.metrics",
    "parts": "chimera.cli.parts",
    "demo-data": "chimera.cli.demo_data",
    "keys": "chimera.cli.keys",
    "snapshots": "chimera.cli.snapshots",
    "run": "chimera.cli.run",
    "demo": "chimera.cli.demo",
    "doctor": "chimera.cli.doctor",
    "top": "chimera.cli.top",
    "simulate": "chimera.cli.simulate",
    "sandbox": "chimera.cli.sandbox",
    "mcp": "chimera.cli.mcp",
    "media": "chimera.cli.media",
    "memory": "chimera.cli.memory",
    "stack": "chimera.cli.servers",
    "control": "chimera.cli.control",
}
"""Verb -> module with `command` (a function: the verb has no verbs of its own) or `app` (a Typer with verbs of its own)."""

PANELS: dict[str, tuple[str, ...]] = {
    "Begin, and see that all is well": ("demo", "up", "down", "status", "logs", "doctor", "top", "run", "stack"),
    "The fleet and its work": ("agent", "account", "campaign", "fleet", "post", "memory", "media"),
    "People decide": ("review", "switch", "control"),
    "Tenants, money, rules": ("tenant", "budget", "payee", "wallet", "policy", "soul", "privacy"),
    "Ask": ("ask", "sql", "analyst", "metrics", "parts", "demo-data"),
    "The log: look, replay, prove": ("events", "replay", "corpus", "audit", "parked", "snapshots", "topics", "keys"),
    "Outside, and its sandboxes": ("mcp", "sandbox", "simulate"),
}
"""How `chimera --help` groups the verbs: what one looks for stands beside its like."""
PANEL_OF = {verb: panel for panel, verbs in PANELS.items() for verb in verbs}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chimera {version('chimera-swarm')}")
        raise typer.Exit


def _globals(
    home: Annotated[Path | None, typer.Option(help="Directory of the installation (CHIMERA_HOME; default: .chimera here).")] = None,
    version_: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """A fleet of autonomous influencer agents on an event log. Nothing leaves without a recorded decision."""
    if home is not None:
        os.environ["CHIMERA_HOME"] = str(home)


def build(argv: list[str] | None = None) -> typer.Typer:
    """The program with the verbs that `argv` mentions; with all of them when it mentions none (help, completion)."""
    app = typer.Typer(name="chimera", no_args_is_help=True, pretty_exceptions_enable=False, callback=_globals)
    for name, command in stack.COMMANDS.items():
        app.command(name, rich_help_panel=PANEL_OF[name])(command)
    mentioned = [verb for verb in VERBS if verb in (argv or [])]
    for verb in mentioned or VERBS:
        _register(app, verb)
    return app


def _register(app: typer.Typer, verb: str) -> None:
    """Add one verb. A module that does not exist is left out; one that exists and cannot be imported is an error."""
    if importlib.util.find_spec(VERBS[verb]) is None:
        return
    module, panel = importlib.import_module(VERBS[verb]), PANEL_OF.get(verb)
    if hasattr(module, "command"):
        app.command(verb, rich_help_panel=panel)(module.command)
    else:
        if verb == "replay":  # memory's builds embed, which may take the gate: `chimera.cli.replay` itself cannot reach it
            module.app.add_typer(importlib.import_module("chimera.cli.replay_memory").app, name="memory")
        app.add_typer(module.app, name=verb, rich_help_panel=panel)


def main(argv: list[str] | None = None) -> None:
    """Run the program; exit code 0 done, 1 failure, 2 usage, and what the verbs add (`chimera.cli.output`)."""
    words = sys.argv[1:] if argv is None else argv
    logs.set_up("chimera", level=logging.WARNING)
    try:
        build(words)(args=words, prog_name="chimera")
    except ChimeraError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise SystemExit(1) from None
    except ValidationError as error:
        if error.title != Settings.__name__:
            raise
        for wrong in error.errors(include_url=False):
            name = "CHIMERA_" + "_".join(str(part) for part in wrong["loc"]).upper()
            typer.secho(f"error: {name} is {wrong['input']!r}: {wrong['msg']}; correct or unset it", fg="red", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # before the verb began; later typer ends it in the same way
        raise SystemExit(130) from None
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        typer.secho(f"error: {told}", fg="red", err=True)
        raise SystemExit(1) from None


def _told(error: Exception) -> str | None:
    """What failed outside of this program, in one line with the way out; None where the program itself may be at fault."""
    psycopg = sys.modules.get("psycopg")  # a verb that does not import it cannot meet its errors
    if psycopg is not None and isinstance(error, psycopg.OperationalError):
        why = (str(error).splitlines() or ["no reason given"])[0]
        return f"PostgreSQL does not answer: {why}: `chimera doctor` says more; pausing and switches work without it"
    if isinstance(error, OSError) and error.errno in _OUTSIDE and error.filename is not None:
        return f"{error.filename}: {error.strerror}: make room or set its rights, or name another home (CHIMERA_HOME, --home)"
    return None


if __name__ == "__main__":
    main()
