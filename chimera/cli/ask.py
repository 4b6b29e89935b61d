"""`chimera ask`: sample questions on the read models.

The rule not to break: asking changes nothing. Exit codes: 0 answered, 1 failure, 2 usage.
"""

from __future__ import annotations

import csv
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chimera.projections import questions as code
from chimera.settings import Settings
from chimera.stack.addresses import load


def command(
    name: Annotated[str | None, typer.Argument(help="Name of the question; lists all when not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print rows as CSV.")] = False,
) -> None:
    """Ask one of the sample questions (sql/queries), or list them."""
    if as_json and as_csv:
        raise typer.BadParameter("choose --json or --csv")
    if name is None:
        _list(as_json)
        return
    asked = code.question(name)
    answer = code.ask(load(Settings()).postgres, asked)
    if as_json:
        rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
        typer.echo(orjson.dumps(rows, default=_text))
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(answer.columns)
        writer.writerows([["" if value is None else _text(value) for value in row] for row in answer.rows])
    else:
        _print(asked, answer)


def _list(as_json: bool) -> None:
    found = code.questions()
    if as_json:
        typer.echo(orjson.dumps([{"name": q.name, "question": q.question, "columns": q.columns} for q in found]))
        return
    for q in found:
        typer.echo(f"{q.name:<15} {q.question}")
    typer.echo(f"\nchimera ask NAME [--json|--csv]; the SQL is in {code.QUERIES}")


def _print(asked: code.Question, answer: code.Answer) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=200)
    table = Table(title=asked.question)
    for number, column in enumerate(answer.columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")  # the first column is what one copies
    for row in answer.rows:
        table.add_row(*(Text(_text(value)) for value in row))  # Text: no markup in what strangers wrote
    console.print(table)
    console.print(f"{len(answer.rows)} rows")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return str(timedelta(milliseconds=round(value.total_seconds() * 1000)))
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return orjson.dumps(value).decode() if isinstance(value, dict) else str(value)
