"""`chimera parts`: the parts of the large append-only tables. Exit codes: 0 done, 1 failure, 2 usage, 3 not confirmed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from chimera.cli.options import DryRunOption, JsonOption, YesOption
from chimera.cli.output import agreed, console, print_json, table
from chimera.errors import ChimeraError
from chimera.projections import parts as code
from chimera.projections.checkpoints import connect
from chimera.projections.write import Connection
from chimera.settings import Settings
from chimera.stack.addresses import load

app = typer.Typer(help="Parts of the large tables by append time: see them, put old ones away.", no_args_is_help=True)
COLUMNS = ("part", "from", "until", "rows (about)", "size", "state")


@app.command("list")
def list_parts(as_json: JsonOption = False) -> None:
    """All parts, oldest first. The projector makes the next ones ahead of time."""
    with _connect() as connection:
        found = code.parts(connection)
    if as_json:
        print_json([p._asdict() for p in found])
    else:
        console().print(table(f"{len(found)} parts", COLUMNS, [_cells(p) for p in found]))


@app.command()
def retire(
    before: Annotated[str, typer.Option("--before", metavar="DATE", help="Parts that end at or before this UTC day.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the Parquet files go.")],
    of: Annotated[str | None, typer.Option("--table", help="Only parts of this table.")] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write old parts to Parquet, then take them off without holding up anybody. The log keeps what they were made of.

    Example: chimera parts retire --before 2026-08-01 --to /srv/archive
    """
    try:
        limit = date.fromisoformat(before)
    except ValueError:
        raise typer.BadParameter(f"'{before}' is no day: write it as 2026-08-01") from None
    if limit > datetime.now(UTC).date():
        raise typer.BadParameter(f"{limit} is not over: rows of it may still come")
    if of is not None and of not in code.PARTED:
        raise typer.BadParameter(f"there is no such table: {', '.join(code.PARTED)}")
    with _connect() as connection:
        old = [p for p in code.parts(connection) if p.end <= limit and of in (None, p.table)]
        if dry_run or not old:
            if as_json:
                print_json({"would retire": [p._asdict() for p in old]})
            else:
                console().print(table(f"{len(old)} parts would be retired", COLUMNS, [_cells(p) for p in old]))
            return
        agreed(f"Write {len(old)} parts to {to} and drop them?", yes, as_json)
        done = []
        for part in old:
            file, count = code.retire(connection, part, to)
            done.append({"part": part.name, "rows": count, "file": str(file)})
            if not as_json:
                console().print(f"{part.name}: {count} rows in {file}", markup=False)
    if as_json:
        print_json({"retired": done})


def _cells(p: code.Part) -> tuple[object, ...]:
    return p.name, p.begin, p.end, p.rows, f"{p.size_bytes / 2**20:.1f} MB", p.state


def _connect() -> Connection:
    try:
        return connect(load(Settings()).postgres)
    except psycopg.OperationalError as error:
        raise ChimeraError(f"no database: {str(error).splitlines()[0]} (`chimera status` says whether it is up)") from error
