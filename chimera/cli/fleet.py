"""`chimera fleet status`: the whole fleet in one look, from the log alone; with `--watch` as it happens.

The rule not to break: it only reads; watching a fleet changes nothing in it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from chimera.cli import output
from chimera.cli.output import JsonOption
from chimera.commands import reviews, views
from chimera.commands.service import CommandService
from chimera.commands.wiring import open_service
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
    """Agents, campaigns, tasks, effects, cards and rulings, counted. With --watch --json one object per look and line."""
    story = views.Story()
    with open_service(Settings(), observe=story) as service:
        if not watch:
            if as_json:
                output.print_json(_look(service, story))
            else:
                output.console().print(_page(service, story, 0.0))
            return
        with suppress(KeyboardInterrupt):  # Ctrl-C is how watching ends
            _watch(service, story, every_s, as_json)


def _watch(service: CommandService, story: views.Story, every_s: float, as_json: bool) -> None:
    """Show the fleet again and again, until interrupted."""
    while as_json:
        output.print_json_line(_look(service, story))
        _follow(service, every_s)
    with Live(_page(service, story, 0.0), console=output.console(), auto_refresh=False) as live:
        while True:
            before, began = story.records, time.monotonic()
            _follow(service, every_s)
            rate = (story.records - before) / (time.monotonic() - began)
            live.update(_page(service, story, rate), refresh=True)


def _follow(service: CommandService, seconds: float) -> None:
    """Fold what comes for so long."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        service.follow(left)


def _look(service: CommandService, story: views.Story) -> dict[str, Any]:
    waiting = reviews.cards(service.agents.values())
    return views.fleet_status(service.agents.values(), story) | {
        "cards": [{"card": str(card.address), "why": card.why, "since_ts": card.effect.opened_ts} for card in waiting[:100]]
    }


def _page(service: CommandService, story: views.Story, rate: float) -> Group:
    look = _look(service, story)
    parts = ("agents", "campaigns", "tasks", "effects_open", "rulings")
    rows: dict[str, object] = {part.replace("_", " "): _counts(look[part]) for part in parts}
    rows["effects executed"] = look["executed"]
    rows["cards waiting"] = look["cards_waiting"]
    rows["records"] = f"{look['records']}" + (f", {rate:.0f}/s" if rate else "")
    rows["last record"] = f"{output.when(look['last_record_ts'])} UTC"
    now = int(time.time() * 1000)
    cells = [(card["card"], card["why"], output.ago(card["since_ts"], now)) for card in look["cards"][:10]]
    made = [output.pairs("fleet", rows)]
    if cells:
        made += [output.table("cards that wait for people", ("card", "why", "waits"), cells)]
    held = [agent.name for agent in service.agents.values() if agent.held and agent.status != "retired"]
    note = Text(f"held: {', '.join(held[:20])}", style="yellow") if held else Text("")
    return Group(*made, note)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in sorted(counts.items(), key=lambda item: -item[1])) or "-"
