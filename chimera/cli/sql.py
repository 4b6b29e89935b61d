"""`chimera sql`: your own question on the analysts' views, read-only, with a limit of rows and of time.

The rule not to break: asking changes nothing. Exit codes: 0 answered, 1 failure, 2 usage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from chimera.cli import rows
from chimera.cli.output import console, note, print_json, table
from chimera.errors import ChimeraError
from chimera.projections import asking, views
from chimera.settings import Settings
from chimera.stack.addresses import load

LIMIT, TIMEOUT_S = 1_000, 30.0
HELP = "a statement ends with ; | \\d lists the views | \\d VIEW shows its columns | \\q leaves"


def command(
    text: Annotated[str | None, typer.Option("-c", "--command", metavar="SQL", help="Ask this and leave.")] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", exists=True, dir_okay=False, help="Ask what this file holds and leave.")
    ] = None,
    view: Annotated[str | None, typer.Option("--view", help="Show the columns of this view and what they mean.")] = None,
    list_views: Annotated[bool, typer.Option("--views", help="List the views.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="No more rows than that; 0 = all.")] = LIMIT,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds that one statement may run.")] = TIMEOUT_S,
    analyst: Annotated[str | None, typer.Option(help="See exactly what this analyst sees.")] = None,
    past: Annotated[str | None, typer.Option(help="Ask a past that `chimera replay as-of` made.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for spreadsheets.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array, for programs.")] = False,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a Parquet file.")] = None,
) -> None:
    """Ask in SQL: one read-only statement at a time, always rolled back. Without -c or -f: a prompt.

    Example: chimera sql -c "SELECT agent, text FROM posts ORDER BY published_at DESC LIMIT 5"
    """
    if as_csv + as_json + (parquet is not None) > 1:
        raise typer.BadParameter("choose one of --csv, --json and --parquet")
    if text is not None and file is not None:
        raise typer.BadParameter("choose -c or -f")
    if list_views or view is not None:
        _describe(view, as_json)
        return
    if file is not None:
        text = file.read_text(encoding="utf-8")
    if text is None and not sys.stdin.isatty():
        text = sys.stdin.read()
    if text is not None and not text.strip():
        raise typer.BadParameter("there is no question: give -c, -f, or SQL on standard input")
    dsn = load(Settings()).postgres
    schema = views.ANALYTICS if past is None else _schema_of(dsn, past)
    if text is not None:
        _ask(dsn, text, limit, timeout_s, analyst, as_csv, as_json, parquet, schema)
        return
    if parquet is not None:
        raise typer.BadParameter("--parquet needs -c or -f")
    _prompt(dsn, limit, timeout_s, analyst, as_csv, as_json, schema)


def _schema_of(dsn: str, past: str) -> str:
    """Where the views of a past are. Raises `BadPast`."""
    from chimera.projections.checkpoints import connect
    from chimera.replay import asof

    with connect(dsn) as connection:
        return asof.find(connection, past).schema


def _ask(
    dsn: str,
    text: str,
    limit: int,
    timeout_s: float,
    analyst: str | None,
    as_csv: bool,
    as_json: bool,
    parquet: Path | None,
    schema: str,
) -> None:
    with asking.asked(dsn, text, what="sql", timeout_s=timeout_s, limit=limit, analyst=analyst, schema=schema) as answer:
        if not answer.columns:
            raise ChimeraError("sql: that statement has no rows to show: ask with SELECT, WITH, VALUES, TABLE, SHOW or EXPLAIN")
        if parquet is not None:
            count = rows.save_parquet(parquet, answer.columns, answer.batches)
            console().print(f"{parquet}: {count} rows", markup=False)
        elif as_csv:
            count = rows.print_csv(answer.names, answer.batches)
        elif as_json:
            count = rows.print_rows_json(answer.names, answer.batches)
        else:
            count = rows.print_table("", answer.names, answer.batches)
    if limit and count == limit:
        note(f"stopped at {limit} rows: there may be more (--limit 0 gives all)")


def _prompt(dsn: str, limit: int, timeout_s: float, analyst: str | None, as_csv: bool, as_json: bool, schema: str) -> None:
    """Until \\q or the end of input; an error ends a statement, not the prompt."""
    import readline  # noqa: F401  # gives input() its history and editing

    typer.echo(HELP)
    words = ""
    while True:
        try:
            line = input("chimera> " if not words else "    ...> ")
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo()
            words = ""
            continue
        if not words and line.strip().startswith("\\"):
            verb, _, rest = line.strip().partition(" ")
            if verb == "\\q":
                return
            if verb == "\\d":
                _quietly(partial(_describe, rest.strip() or None, False))
            else:
                typer.echo(HELP)
            continue
        words += line + "\n"
        if words.rstrip().endswith(";"):
            asked, words = words, ""
            _quietly(partial(_ask, dsn, asked, limit, timeout_s, analyst, as_csv, as_json, None, schema))


def _quietly(work: Callable[[], object]) -> None:
    """An error is said, and the prompt goes on."""
    try:
        work()
    except ChimeraError as error:
        typer.secho(f"error: {error}", fg="red", err=True)


def _describe(name: str | None, as_json: bool) -> None:
    """The views, or the columns of one."""
    found = views.views()
    if name is None:
        if as_json:
            print_json([{"view": v.name, "row": v.row, "about": v.about, "time": v.time} for v in found])
        else:
            console().print(table(f"{len(found)} views", ("view", "one row is"), [(v.name, v.row) for v in found]))
        return
    view = next((v for v in found if v.name == name.removeprefix(f"{views.ANALYTICS}.")), None)
    if view is None:
        raise ChimeraError(f"there is no view '{name}': there are {', '.join(v.name for v in found)}")
    if as_json:
        print_json({"view": view.name, "row": view.row, "about": view.about, "columns": [c._asdict() for c in view.columns]})
        return
    console().print(table(f"{view.name}: one row is {view.row}. {view.about}", ("column", "type", "meaning"), view.columns))
