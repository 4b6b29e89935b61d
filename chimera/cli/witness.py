"""`chimera audit witness`: an auditor's own process that remembers every tree and cosigns what goes on from there.

The rule not to break: it needs no server, no installation and no key of ours. Exit 1: a tree does not go on from what was seen.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Annotated

import typer

from chimera.audit.witness import COSIGNED, Verdict, look, vkey, witness_key
from chimera.cli import output, trees
from chimera.cli.options import JsonOption


def witness(
    shown: Annotated[
        Path,
        typer.Option("--trees", exists=True, file_okay=False, help="What is shown: .chimera/audit, a copy of it, or an export."),
    ],
    state: Annotated[
        Path, typer.Option("--state", file_okay=False, help="The witness's own directory: its key and what it has seen.")
    ],
    key: Annotated[list[str], typer.Option("--key", help="A public key of the notary that you trust (base64); may be repeated.")],
    name: Annotated[str, typer.Option("--name", help="Under which name it cosigns, e.g. auditor.example/witness.")] = "witness",
    every: Annotated[float, typer.Option("--every", min=0, help="Seconds between looks; 0: look once.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """See that every tree goes on from what was seen before, and cosign it (C2SP tlog-cosignature). Exit 1 for a second history.

    Its clock is its own. The notes that it cosigned lie in STATE/cosigned; compare them with those of other witnesses.

    Example: chimera audit witness --trees .chimera/audit --state ~/witness --key 3mV…= --every 60
    """
    publics = [trees.public(each) for each in key]
    below = shown / "trees" if (shown / "manifest.json").exists() else shown
    public = witness_key(state).public_key().public_bytes_raw()
    while True:
        verdicts = look(below, state, name, publics, int(time.time()))
        _tell(verdicts, name, public, state, as_json)
        if any(verdict.trouble for verdict in verdicts):
            raise typer.Exit(1)
        if not every:
            return
        time.sleep(every)


def _tell(verdicts: list[Verdict], name: str, public: bytes, state: Path, as_json: bool) -> None:
    troubles = [verdict for verdict in verdicts if verdict.trouble]
    if as_json:
        told = {"witness": vkey(name, public), "public": base64.b64encode(public).decode(), "consistent": not troubles}
        output.print_json_line(told | {"trees": [verdict._asdict() for verdict in verdicts]})
        return
    grown = sum(verdict.size - verdict.before for verdict in verdicts if not verdict.trouble)
    good = len(verdicts) - len(troubles)
    output.console().print(
        f"{good} trees go on from what was seen, by {grown} records; cosigned in {state / COSIGNED}", highlight=False
    )
    output.console().print(f"this witness is {vkey(name, public)}", highlight=False, soft_wrap=True)
    for verdict in troubles:
        output.console(stderr=True).print(f"{verdict.origin}: {verdict.trouble}", highlight=False, style="red")
