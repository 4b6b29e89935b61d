"""`chimera events security`: the newest security events. Needs Kafka alone.

The rule not to break: it shows what the topic holds; what a process of this home could not send yet is said to be missing.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.options import JsonOption
from chimera.commands.agents import near
from chimera.commands.security import Told, figures, newest
from chimera.events.security import WHATS
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

_STYLES = {"done": "green", "refused": "yellow", "failed": "red"}


def security(
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=10_000, help="How many records to look at.")] = 50,
    what: Annotated[str | None, typer.Option("--what", help="Only this, e.g. login_refused.")] = None,
    who: Annotated[str | None, typer.Option("--who", help="Only of this name.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's; * is the installation's own.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The newest security events: log-ins, refusals, keys, kill switches, exports. With --json one object per line.

    Example: chimera events security -n 500 --what login_refused
    """
    if what is not None and what not in WHATS:
        raise output.usage(f"--what {what}{near(what, WHATS)}")
    settings = Settings()
    shown = [
        each
        for each in newest(load_kafka(settings), lines)
        if what in (None, each.said.what) and who in (None, each.said.who) and tenant in (None, each.tenant)
    ]
    if as_json:
        for each in shown:
            output.print_json_line({**each._asdict(), "said": each.said.model_dump()})
    else:
        columns = ("appended (UTC)", "what", "who", "from", "action", "on", "tenant", "outcome", "times")
        output.console().print(output.table(f"{len(shown)} security events", columns, [_cells(each) for each in shown]))
    waiting = figures(settings.home).waiting_bytes
    if waiting:
        output.note(f"{waiting} bytes of newer ones wait in {settings.home}/security until Kafka takes them")


def _cells(told: Told) -> tuple[object, ...]:
    said = told.said
    words = said.outcome + (f": {said.reason}" if said.reason else "")
    outcome = Text(words, style=_STYLES[said.outcome])
    named = (said.what, said.who, said.origin or said.door, said.action, said.resource)
    return (output.when(told.appended), *(Text(each or "-") for each in named), told.tenant, outcome, said.count)
