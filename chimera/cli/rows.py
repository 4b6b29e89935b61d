"""Rows of an answer for people and for programs: a table, CSV, JSON, or a Parquet file.

The rule not to break: what is printed for people shows every sign that a terminal would obey or hide.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chimera.cli.output import visible
from chimera.projections.parquet import write_parquet

Batches = Iterable[Sequence[tuple[Any, ...]]]


def print_csv(names: Sequence[str], batches: Batches) -> int:
    """A header and the rows; how many."""
    writer, count = csv.writer(sys.stdout), 0
    writer.writerow(names)
    for rows in batches:
        writer.writerows([["" if value is None else text(value) for value in row] for row in rows])
        count += len(rows)
    return count


def print_rows_json(names: Sequence[str], batches: Batches) -> int:
    """One array of objects; how many."""
    rows = [dict(zip(names, row, strict=True)) for batch in batches for row in batch]
    sys.stdout.write(orjson.dumps(rows, default=text).decode() + "\n")
    return len(rows)


def save_parquet(file: Path, columns: Sequence[tuple[str, int]], batches: Batches) -> int:
    """A file that has its name only when it is whole; how many rows."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        count = write_parquet(unfinished, columns, batches)
        unfinished.rename(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def print_table(title: str, names: Sequence[str], batches: Batches) -> int:
    """A table for people; how many rows."""
    console = Console() if sys.stdout.isatty() else Console(width=200)
    table, count = Table(title=title or None), 0
    for number, column in enumerate(names):
        table.add_column(column, no_wrap=number == 0, overflow="fold")  # the first column is what one copies
    for rows in batches:
        for row in rows:
            table.add_row(*(Text(visible(text(value))) for value in row))  # Text: no markup in what strangers wrote
        count += len(rows)
    console.print(table)
    console.print("1 row" if count == 1 else f"{count} rows")
    return count


def text(value: Any) -> str:
    """One value as people read it."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return str(timedelta(milliseconds=round(value.total_seconds() * 1000)))
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, list):
        return ", ".join(text(item) for item in value)
    return orjson.dumps(value, default=str).decode() if isinstance(value, dict) else str(value)
