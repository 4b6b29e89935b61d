"""`chimera doctor`: what is missing, what lags, and what to do about it. Exit 0 = nothing is wrong, 1 = there are problems."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from chimera.cli import output
from chimera.cli.options import JsonOption
from chimera.observe.doctor import examine
from chimera.observe.findings import Finding, is_ill
from chimera.settings import Settings

_MARKS = {"fine": ("ok", "green"), "warning": ("look", "yellow"), "problem": ("WRONG", "bold red"), "unknown": ("?", "magenta")}


def command(
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what is not fine.")] = False,
) -> None:
    """Look at stack, Kafka, topics, keys, law, processes, lag, read models, cards and disk; say what to do. Changes nothing.

    Example: chimera doctor --quiet
    """
    settings = Settings()
    if as_json:
        found = examine(settings)
    else:
        err = output.console(stderr=True)
        with err.status("looking …") as spinner:
            found = examine(settings, lambda what: spinner.update(f"looking at {what} …"))
    ill = is_ill(found)
    shown = [finding for finding in found if not quiet or finding.level != "fine"]
    if as_json:
        output.print_json({"fine": not ill, "findings": [finding._asdict() for finding in shown]})
    else:
        output.console().print(_page(shown))
        output.console().print(_verdict(found))
    if ill:
        raise typer.Exit(output.FAILURE)


def _page(found: list[Finding]) -> Table:
    made = Table(box=None, pad_edge=False, show_header=False, show_edge=False)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for finding in found:
        mark, colour = _MARKS[finding.level]
        text = Text(output.visible(finding.what))
        if finding.level != "fine":
            text.append(f"  [{output.visible(finding.where)}]", style="dim")
        if finding.todo:
            text.append(f"\n→ {output.visible(finding.todo)}", style="cyan")
        made.add_row(Text(mark, style=colour), text)
    return made


def _verdict(found: list[Finding]) -> Text:
    problems = sum(finding.level == "problem" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)
    if problems:
        return Text(f"{problems} problem{'' if problems == 1 else 's'}, {warnings} to look at", style="bold red")
    return Text(f"nothing is wrong, {warnings} to look at" if warnings else "all is well", style="green")
