"""Rows of an answer for people and for programs: a table, CSV, JSON, or a Parquet file.

The rule not to break: CSV, JSON and Parquet hold values as they are; the table for people writes out what a terminal would obey.
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

from chimera.cli.output import console, table
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
    cells = [[text(value) for value in row] for rows in batches for row in rows]
    out = console()
    out.print(table(title, names, cells))
    out.print("1 row" if len(cells) == 1 else f"{len(cells)} rows")
    return len(cells)


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
