"""`chimera audit`: the log as files, and the proof that files are the log.

The rule not to break: exit codes are a contract: 0 done / intact, 1 damage or failure, 2 usage.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chimera.audit.export import export as export_log
from chimera.audit.verify import CHECKS, Verdicts
from chimera.audit.verify import verify as verify_export
from chimera.cli import trees
from chimera.cli.options import JsonOption
from chimera.commands.keys import load_installation
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

app = typer.Typer(help="The log for auditors: exports, and trees that prove each record.", no_args_is_help=True)

app.command()(trees.keygen)
app.command()(trees.status)
app.command()(trees.compare)
app.command()(trees.prove)
app.command("check-proof")(trees.check_proof)

SHOWN = 20


class Report(Protocol):
    def __call__(self, done: int, total: int) -> None: ...


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="Directory: empty, new, or of the same interrupted export.")],
    as_json: JsonOption = False,
) -> None:
    """Write every record with its ruling as CloudEvents JSON lines, one file per partition, and a manifest."""
    settings = Settings()
    with _progress("exporting", as_json) as report:
        manifest = export_log(load_kafka(settings), load_installation(settings.home).root_public, out, progress=report)
    if as_json:
        typer.echo(orjson.dumps(manifest.model_dump(mode="json")))
        return
    t = manifest.totals
    typer.echo(f"{t.count} records ({t.applied} applied, {t.rejected} rejected, {t.void} void), {t.bytes} bytes in {out}")
    typer.echo(f"root key {manifest.root}, law {manifest.law}, {manifest.software}")
    typer.echo(f"check it anywhere: chimera audit verify {out} --root {manifest.root}")


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Directory of an export.")],
    root: Annotated[str | None, typer.Option("--root", help="Key id of the root key that you trust.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check hashes, offsets, counts, signatures and rulings of an export. Needs no server. Exit 1 on any damage."""
    with _progress("verifying", as_json) as report:
        verdicts = verify_export(directory, root=root, progress=report)
    if as_json:
        typer.echo(orjson.dumps(as_data(verdicts)))
    else:
        _print(verdicts, root)
    if not verdicts.intact:
        raise typer.Exit(1)


def as_data(verdicts: Verdicts) -> dict[str, object]:
    """Verdicts as JSON values."""
    return {
        "intact": verdicts.intact,
        "root": verdicts.root,
        "software": verdicts.software,
        "records": verdicts.records,
        "signatures": verdicts.signed,
        "checks": [
            {"check": c, "holds": verdicts.holds(c), "checked": verdicts.checked[c], "claim": text} for c, text in CHECKS.items()
        ],
        "damages": [damage._asdict() for damage in verdicts.damages],
    }


def _print(verdicts: Verdicts, root: str | None) -> None:
    for check, claim in CHECKS.items():
        holds = verdicts.holds(check)
        mark = typer.style("holds ", fg="green") if holds else typer.style("BROKEN", fg="red")
        note = " (not asked for: compare the key id below with what was published)" if check == "root" and root is None else ""
        typer.echo(f"{mark} {check:<10} {claim}: {verdicts.checked[check]} checked{note}")
    for damage in verdicts.damages[:SHOWN]:
        where = f"{damage.file}:{damage.line}" if damage.line else damage.file
        typer.echo(f"  {where}: {damage.check}: {damage.text}")
    if len(verdicts.damages) > SHOWN:
        typer.echo(f"  and {len(verdicts.damages) - SHOWN} more (--json lists all)")
    typer.echo(
        f"{verdicts.records} records, {verdicts.signed} signatures; root key {verdicts.root}; written by {verdicts.software}"
    )


@contextmanager
def _progress(what: str, quiet: bool) -> Iterator[Report]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report
