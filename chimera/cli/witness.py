"""`chimera audit witness | serve`: an auditor's own process that remembers every tree and cosigns what goes on; and what it reads.

The rule not to break: a witness needs no installation and no key of ours. Exit 1: a tree does not go on from what was seen.
"""

from __future__ import annotations

import base64
import socket
import time
from pathlib import Path
from typing import Annotated

import typer

from chimera.audit.served import SCHEMES, Server, Unreachable
from chimera.audit.witness import COSIGNED, Verdict, look, vkey, witness_key
from chimera.cli import output, trees
from chimera.cli.options import JsonOption
from chimera.errors import ChimeraError
from chimera.settings import Settings


def witness(
    shown: Annotated[
        str,
        typer.Option(
            "--trees", metavar="DIR|URL", help="What is shown: .chimera/audit, a copy, an export, or what `audit serve` serves."
        ),
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

    With --every, a server that does not answer is asked again at the next look: that is no second history.

    Example: chimera audit witness --trees https://log.example --state ~/witness --key 3mV…= --every 60
    """
    publics = [trees.public(each) for each in key]
    below = Server(shown) if shown.startswith(SCHEMES) else trees_below(shown)
    public = witness_key(state).public_key().public_bytes_raw()
    while True:
        try:
            verdicts = look(below, state, name, publics, int(time.time()))
        except Unreachable as error:
            if not every:
                raise
            output.note(str(error))
        else:
            _tell(verdicts, name, public, state, as_json)
            if any(verdict.trouble for verdict in verdicts):
                raise typer.Exit(1)
        if not every:
            return
        time.sleep(every)


def serve(
    shown: Annotated[
        str | None, typer.Option("--trees", metavar="DIR", help="Default: those of this home's notary; or an export.")
    ] = None,
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Port 0: any that is free.")] = "127.0.0.1:7434",
) -> None:
    """Serve checkpoints, tiles and leaves read-only over HTTP, at the paths of C2SP tlog-tiles, until Ctrl-C.

    For witnesses and monitors elsewhere. Leaves hold ids, types, stream keys and hashes of records, never their content. There is
    no TLS and no password here: put what has them before it.

    Example: chimera audit serve --listen 0.0.0.0:7434
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise output.usage(f"--listen {listen}: write host:port, e.g. 127.0.0.1:7434")
    directory = trees_below(shown) if shown is not None else Settings().home / "audit"
    # Here and not above: a witness serves nothing.
    import uvicorn

    from chimera.audit.serve import application, logs_below

    count = len(logs_below(directory))
    if not count:
        raise ChimeraError(f"no tree below {directory} is signed yet: is `chimera run notary` running?")
    try:
        door = socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ChimeraError(f"{listen} cannot be listened on ({error.strerror}): choose another --listen") from None
    output.console(stderr=True).print(f"{count} trees at http://{host}:{door.getsockname()[1]}", highlight=False)
    config = uvicorn.Config(application(directory), log_config=None, access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[door])


def trees_below(shown: str) -> Path:
    """The directory of trees that was named, or that of an export. Raises a usage error."""
    directory = Path(shown)
    if not directory.is_dir():
        raise output.usage(f"--trees {shown}: there is no such directory")
    return directory / "trees" if (directory / "manifest.json").exists() else directory


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
