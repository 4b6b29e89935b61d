"""`chimera replay`: refold the log and compare; the verbs of builds are in `replay_builds`.

The rule not to break: replay reads the log and writes tables of its own; it never acts.
Exit codes: 0 equal or done, 1 different, refused or failed, 2 usage, 3 not confirmed.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from chimera.cli import output, past, replay_builds
from chimera.commands.keys import load_installation
from chimera.projections.tuned import tuned
from chimera.projections.verify import Report
from chimera.projections.verify import verify as refold_and_compare
from chimera.settings import Settings
from chimera.stack.addresses import load

app = typer.Typer(help="Rebuild what the log says and compare it with what the tables say.", no_args_is_help=True)


replay_builds.add_to(app)


@app.command()
def verify(
    processes: Annotated[int, typer.Option("--processes", min=1, help="How many fold side by side.")] = min(2, os.cpu_count() or 1),
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Refold the log from offset 0 and compare a checksum per table; names the first difference. Exit 1 when they differ."""
    settings = Settings()
    addresses = load(settings)
    root_public = load_installation(settings.home).root_public
    tuned()
    columns = (TextColumn("refolding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()) as bar:
        task = bar.add_task("refold", total=None)
        report = refold_and_compare(
            addresses.kafka,
            addresses.postgres,
            root_public,
            processes=processes,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(orjson.dumps(as_data(report)))
    else:
        _print(report)
    if not report.equal:
        raise typer.Exit(1)


def as_data(report: Report) -> dict[str, object]:
    """The report as JSON values; sums as text, because they exceed 64 bits."""
    return {
        "equal": report.equal,
        "records": report.records,
        "tables": [
            {**t._asdict(), "live_sum": str(t.live_sum), "refold_sum": str(t.refold_sum), "equal": t.equal} for t in report.tables
        ],
        "difference": None if report.difference is None else report.difference._asdict(),
        "stopped": {str(p): why for p, why in report.stopped.items()},
        "parked": [p._asdict() for p in report.parked],
        "unmade": [p._asdict() for p in report.unmade],
    }


def _print(report: Report) -> None:
    console = output.console()
    rows = [
        (t.table, t.live_rows, t.refold_rows, Text("equal", "green") if t.equal else Text("DIFFERENT", "red"))
        for t in report.tables
    ]
    title = f"{report.records} records refolded from offset 0"
    console.print(output.table(title, ("table", "live rows", "refolded rows", "checksum"), rows))
    for partition, why in report.stopped.items():
        console.print(f"[yellow]partition {partition} stands still:[/] ", end="")
        console.print(why, markup=False)
    for p in report.parked:
        console.print("[yellow]parked, not compared:[/] ", end="")
        console.print(f"{p.model} of {p.stream} from chimera.log[{p.partition}] offset {p.offset} on: {p.reason}", markup=False)
    for p in report.unmade:
        console.print("[red]the refold cannot make:[/] ", end="")
        console.print(f"{p.model} of {p.stream} from chimera.log[{p.partition}] offset {p.offset} on: {p.reason}", markup=False)
    d = report.difference
    if d is not None:
        key = ", ".join(f"{name}={value}" for name, value in d.key.items())
        console.print(f"first difference: {d.table} ({key}), column {d.column}:", markup=False)
        console.print(f"  live   {d.live!r}\n  refold {d.refold!r}", markup=False)
        said = "" if d.record is None else f": {d.record['type']} {d.record['id']} by {d.record['actor']}"
        console.print(f"  record {d.topic}[{d.partition}] offset {d.offset}{said}", markup=False)


past.add_to(app)
