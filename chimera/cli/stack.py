"""`chimera up | down | status | logs`: the local stack from the shell.

The rule not to break: `up` returns or says "ready" only when every process answers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from chimera.errors import ChimeraError
from chimera.observe.logs import read_line
from chimera.settings import Settings
from chimera.stack.addresses import holder, running_stack
from chimera.stack.children import NOTARY, READY_TIMEOUT_S
from chimera.stack.local import LocalStack, end_of_log, make_home
from chimera.stack.process import log_tail
from chimera.stack.supervisor import ChildFailed, ChildState

PHASE_COLOURS = {"ready": "green", "alarm": "red", "backoff": "yellow", "starting": "yellow"}


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything is ready; stop by `chimera down`.")
    ] = False,
    kafka_port: Annotated[int | None, typer.Option(help="Port for the broker; default: a free one, kept over restarts.")] = None,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="Kafka, Postgres and MCP servers, no roles.")] = False,
) -> None:
    """Start Kafka, PostgreSQL, the sandbox MCP servers and Chimera's processes; Ctrl-C stops them, data stay."""
    settings = Settings()
    if detach:
        _up_detached(settings, kafka_port, servers_only)
        return
    console = Console()
    with LocalStack(settings, kafka_port=kafka_port) as stack:
        try:
            start(stack, lambda text: console.print(f"  {text}", markup=False, highlight=False), servers_only)
            console.print(f"[green]ready[/green] in {stack.home}; Ctrl-C stops everything, data stay")
            if stack.page is not None:
                console.print(_page(stack.page), markup=False, highlight=False, soft_wrap=True)
            _show_until_stopped(stack, console)
        except (KeyboardInterrupt, SystemExit):
            console.print("stopping …")


def start(stack: LocalStack, progress: Callable[[str], None], servers_only: bool = False) -> None:
    """Servers, topics, keys, then the role processes, in this order: a role refuses to start without its topics and keys."""
    stack.start(progress)
    stack.run_step("topics", "apply")
    progress("topics are as topics.yaml says")
    stack.run_step("keys", "init")
    progress("keys are made, the law is adopted")
    if not servers_only:
        stack.add_children(stack.role_children(), progress)
        try:
            stack.add_children(stack.role_children([NOTARY]), progress)
        except ChildFailed as error:  # an alarm, and no reason to leave people without their commands
            progress(f"nothing is signed: {error}")
    stack.announce_ready()


def _show_until_stopped(stack: LocalStack, console: Console) -> None:
    if not console.is_terminal:
        while stack.states():  # raises when the supervisor fails
            time.sleep(1.0)
    with Live(console=console, refresh_per_second=2) as live:
        while True:
            live.update(_table([_row(state) for state in stack.states()]))
            time.sleep(0.5)


def _up_detached(settings: Settings, kafka_port: int | None, servers_only: bool, patience_s: float = READY_TIMEOUT_S + 300) -> None:
    home = settings.home.resolve()
    make_home(home)
    pid = holder(home)
    if pid is not None:
        raise ChimeraError(f"a stack already runs in {home} (pid {pid}): stop it with `chimera down`")
    log = home / "logs" / "stack.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv = [sys.executable, "-m", "chimera.cli.main", "up"]
    argv += ["--servers-only"] if servers_only else []
    argv += [] if kafka_port is None else ["--kafka-port", str(kafka_port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "CHIMERA_HOME": str(home), "PYTHONUNBUFFERED": "1"},
        )
    try:
        _await_detached(process, home, log, patience_s)
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        raise ChimeraError(f"interrupted: the stack in {home} is being stopped; data stay") from None
    typer.echo(f"ready in {home} (pid {process.pid}); stop it with `chimera down`")
    page = running_stack(home).get("page")
    if page is not None:
        typer.echo(_page(page))


def _await_detached(process: subprocess.Popen[bytes], home: Path, log: Path, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while running_stack(home).get("phase") != "ready":
        if process.poll() is not None:
            said = log_tail(log, 1)
            raise ChimeraError("the stack did not start: " + (said[0].removeprefix("error: ") if said else f"see {log}"))
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGTERM)
            raise ChimeraError(f"the stack was not ready within {patience_s:g} s and is being stopped: see {log}")
        time.sleep(0.1)


def _page(address: str) -> str:
    return f"timelines and media of the sandboxes: {address}"


def down(
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait before killing.")] = 60.0,
) -> None:
    """Stop the stack of this home, roles first, servers last; data stay."""
    home = Settings().home.resolve()
    pid = holder(home)
    if pid is None:
        typer.echo(f"no stack runs in {home}")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while holder(home) == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            raise ChimeraError(f"the stack (pid {pid}) did not stop within {timeout_s:g} s and was killed; its data stay")
        time.sleep(0.1)
    typer.echo(f"stopped the stack in {home}; data stay")


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """What runs, where, and how it is; exit code 1 when nothing runs or a process was given up."""
    home = Settings().home.resolve()
    found = running_stack(home)
    children: list[dict[str, Any]] = found.get("children", [])
    if as_json:
        typer.echo(json.dumps({"running": bool(found), "home": str(home), **found}, indent=2))
    elif not found:
        typer.echo(f"no stack runs in {home}: start it with `chimera up`")
    else:
        console = Console()
        console.print(f"{found['phase']} in {home} (pid {found['pid']})", highlight=False)
        for name in ("kafka", "postgres"):
            console.print(f"{name}: {found.get(name, 'not yet known')}", markup=False, highlight=False, soft_wrap=True)
        for name, url in found.get("mcp", {}).items():
            console.print(f"mcp {name}: {url}", markup=False, highlight=False, soft_wrap=True)
        if found.get("page") is not None:
            console.print(_page(found["page"]), markup=False, highlight=False, soft_wrap=True)
        console.print(_table(children))
    if not found or any(child["phase"] == "alarm" for child in children):
        raise typer.Exit(1)


def logs(
    name: Annotated[str | None, typer.Argument(help="Process; default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Last lines of each log.")] = 20,
) -> None:
    """Print the end of the logs of the stack's processes."""
    home = Settings().home.resolve()
    names = sorted(path.stem for path in (home / "logs").glob("*.log"))
    if name is None and not names:
        raise ChimeraError(
            f"no logs in {home / 'logs'}: nothing has run in this home yet (`chimera up`), or name another by --home"
        )
    if name is not None and name not in names:
        raise ChimeraError(f"no log of '{name}' in {home / 'logs'}: there are {', '.join(names) or 'none'}")
    shown = [name] if name is not None else names
    for each in shown:
        for line in end_of_log(home, each, lines):
            typer.echo(_readable(line) if name is not None else f"{each}: {_readable(line)}")
    if follow:
        with suppress(KeyboardInterrupt):  # Ctrl-C is how following ends
            _follow({each: home / "logs" / f"{each}.log" for each in shown}, prefix=name is None)


def _readable(line: str) -> str:
    """A line of a log as people read it; the file holds the whole of it."""
    read = read_line(line)
    return line if read is None else read.plain


def _follow(paths: dict[str, Path], prefix: bool) -> None:
    at = {name: path.stat().st_size for name, path in paths.items()}
    while True:
        for name, path in paths.items():
            size = path.stat().st_size if path.exists() else 0
            at[name] = min(at[name], size)  # the log was rotated
            if size == at[name]:
                continue
            with path.open("rb") as file:
                file.seek(at[name])
                text = file.read()
            at[name] += len(text)
            for line in text.decode("utf-8", "replace").splitlines():
                typer.echo(f"{name}: {_readable(line)}" if prefix else _readable(line))
        time.sleep(0.3)


def _row(state: ChildState) -> dict[str, Any]:
    return {
        "name": state.name,
        "phase": str(state.phase),
        "pid": state.pid,
        "restarts": state.restarts,
        "last_exit": state.last_exit,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("process", "state", "pid", "restarts", "last exit")
    for row in rows:
        colour = PHASE_COLOURS.get(row["phase"], "white")
        table.add_row(
            row["name"], f"[{colour}]{row['phase']}[/]", str(row["pid"] or "–"), str(row["restarts"]), row["last_exit"] or "–"
        )
    return table


COMMANDS: dict[str, Callable[..., None]] = {"up": up, "down": down, "status": status, "logs": logs}
"""The stack's verbs, registered by `chimera.cli.main` at the top level."""
