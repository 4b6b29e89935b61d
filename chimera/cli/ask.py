"""`chimera ask`: sample questions on the read models.

The rule not to break: asking changes nothing. Exit codes: 0 answered, 1 failure, 2 usage.
"""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from chimera.cli import rows
from chimera.projections import questions as code
from chimera.settings import Settings
from chimera.stack.addresses import load


def command(
    name: Annotated[str | None, typer.Argument(help="Name of the question; lists all when not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON, for programs.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print rows as CSV, for spreadsheets.")] = False,
    show: Annotated[bool, typer.Option("--sql", help="Print the SQL instead of asking it.")] = False,
) -> None:
    """Ask one of the sample questions (sql/queries), or list them. Example: chimera ask review_time --csv"""
    if as_json and as_csv:
        raise typer.BadParameter("choose --json or --csv")
    if name is None:
        _list(as_json)
        return
    asked = code.question(name)
    if show:
        typer.echo(asked.sql.rstrip())
        return
    answer = code.ask(load(Settings()).postgres, asked)
    if as_json:
        rows.print_rows_json(answer.columns, [answer.rows])
    elif as_csv:
        rows.print_csv(answer.columns, [answer.rows])
    else:
        rows.print_table(asked.question, answer.columns, [answer.rows])


def _list(as_json: bool) -> None:
    found = code.questions()
    if as_json:
        listed = [{"name": q.name, "question": q.question, "columns": q.columns, "returns": q.returns} for q in found]
        typer.echo(orjson.dumps(listed))
        return
    for q in found:
        typer.echo(f"{q.name:<20} {q.question}")
    typer.echo(f"\nchimera ask NAME [--json|--csv|--sql]; the SQL is in {code.QUERIES}")
