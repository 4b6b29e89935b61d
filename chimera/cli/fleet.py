"""`chimera fleet status`: the whole fleet in one look, from the log alone; with `--watch` as it happens.

The rule not to break: it only reads; watching a fleet changes nothing in it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.options import JsonOption
from chimera.commands import verbs
from chimera.commands.verbs import Reply
from chimera.commands.wiring import OpenDesk
from chimera.errors import ChimeraError
from chimera.settings import Settings

app = typer.Typer(help="The fleet as a whole.", no_args_is_help=True)


@app.callback()
def _fleet() -> None:
    """The fleet as a whole."""


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it until Ctrl-C.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between two looks with --watch.")] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Agents, campaigns, tasks, effects, cards and rulings, counted. With --watch --json one object per look and line;
    a look that fails is an object with `error`, and the next one follows.

    Example: chimera fleet status --watch --json
    """
    with open_desk(Settings()) as desk:
        if not watch:
            look = desk.ask(verbs.FleetStatus())
            if as_json:
                output.print_json(look)
            else:
                output.console().print(_page(look, 0.0))
            return
        with suppress(KeyboardInterrupt):  # Ctrl-C is how watching ends
            _watch(desk, every_s, as_json)


def _watch(desk: OpenDesk, every_s: float, as_json: bool) -> None:
    """Show the fleet again and again, until interrupted. A look that fails is told, and taken again."""
    while as_json:
        try:
            output.print_json_line(desk.ask(verbs.FleetStatus()))
        except ChimeraError as error:
            output.print_json_line({"error": str(error)})
        time.sleep(every_s)
    out = output.console()
    look, began = desk.ask(verbs.FleetStatus()), time.monotonic()
    with ExitStack() as stack:
        # Where nothing can be drawn over (a pipe, a file), one look follows the other.
        live = stack.enter_context(Live(console=out, auto_refresh=False)) if out.is_terminal else None
        page = _page(look, 0.0)
        while True:
            if live is None:
                out.print(page)
            else:
                live.update(page, refresh=True)
            time.sleep(every_s)
            try:
                before, look = look["records"], desk.ask(verbs.FleetStatus())
            except ChimeraError as error:
                page = Group(_page(look, 0.0), Text(output.visible(f"as it was; no newer look: {error}"), style="red"))
                continue
            now = time.monotonic()
            rate, began = (look["records"] - before) / (now - began), now
            page = _page(look, rate)


def _page(look: Reply, rate: float) -> Group:
    parts = ("agents", "campaigns", "tasks", "effects_open", "rulings")
    rows: dict[str, object] = {part.replace("_", " "): _counts(look[part]) for part in parts}
    if look["executed"] is None:
        rows["rulings"] = "?"
    rows["effects executed"] = "?" if look["executed"] is None else look["executed"]
    rows["cards waiting"] = look["cards_waiting"]
    rows["records"] = f"{look['records']}" + (f", {rate:.0f}/s" if rate else "")
    rows["last record"] = f"{output.when(look['last_record_ts'])} UTC"
    now = int(time.time() * 1000)
    cells = [(card["card"], card["why"], output.ago(card["since_ts"], now)) for card in look["cards"][:10]]
    made = [output.pairs("fleet", rows)]
    if cells:
        made += [output.table("cards that wait for people", ("card", "why", "waits"), cells)]
    held = look["held"]
    note = Text(f"held: {', '.join(held[:20])}", style="yellow") if held else Text("")
    lacks = Text(output.visible(look.get("incomplete", "")), style="yellow")
    return Group(*made, note, lacks)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in sorted(counts.items(), key=lambda item: -item[1])) or "-"
