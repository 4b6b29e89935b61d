"""`chimera keys`: the installation's keys and the law adopted under them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from chimera.commands.keys import ensure_installation, load_keys, log_topics
from chimera.eventlog.append import Appender
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

app = typer.Typer(no_args_is_help=True, help="Keys that sign commands, and the law adopted under them.")


@app.command()
def init() -> None:
    """Make the keys where there are none, and adopt the law in every partition that has none. Repeating it is harmless."""
    settings = Settings()
    with Appender(load_kafka(settings), log_topics(), "chimera-installer") as appender:
        keys = ensure_installation(settings, appender)
    Console().print(f"installation {keys.installation.installation}: root key {keys.root.id}, command key {keys.command.id}")


@app.command("list")
def list_keys(as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False) -> None:
    """Ids and public keys; private keys are never shown."""
    keys = load_keys(Settings().home)
    rows = {"root": keys.root, "command": keys.command}
    if as_json:
        Console().print_json(data={role: {"id": key.id, "public": key.public} for role, key in rows.items()})
    else:
        for role, key in rows.items():
            Console().print(f"{role:8} {key.id}  {key.public}")
