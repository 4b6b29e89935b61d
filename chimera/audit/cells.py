"""The cells of an export's Parquet file against the rows that its lines say, a batch of columns at a time.

The rule not to break: whole columns are compared only to be quick; what differs is looked for cell by cell, and named.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chimera.audit.files import COLUMNS, NoParquet, Row, arrays_of, arrow, schema_of
from chimera.audit.standalone import Report

_BATCH = 4_096
_UNREADABLE = object()
"""Stands for a cell that cannot be read: it differs from every other."""


def _damage() -> tuple[type[Exception], ...]:
    """What reading damaged Parquet raises: pyarrow's own, and Python's for a text that is none or a size that is absurd."""
    return arrow()[0].ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError


def _cells(column: Any) -> list[Any]:
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except _damage():
        return [_read(each) for each in column]


def _read(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except _damage():
        return _UNREADABLE


def _cell(kind: str, due: Any) -> Any:
    """A value of a row as Parquet gives it back."""
    if kind == "headers":
        return [{"name": name, "value": value} for name, value in zip(*due, strict=True)]
    return due.decode() if kind == "string" and isinstance(due, bytes) else due


class Cells:
    """The Parquet file of one partition. `add` each row in order, then `close`. After its first fault it says no more."""

    def __init__(self, directory: Path, file: str, report: Report) -> None:
        self._file, self._report, self._open = file, report, True
        self._rows: list[tuple[int, Row | None]] = []
        try:
            self._schema = schema_of(arrow()[0])
        except NoParquet as error:
            report.skipped["cells"], self._open = str(error), False
        self._batches = self._read(directory / file)
        self._batch: Any = None

    def add(self, index: int, row: Row | None) -> None:
        """The row that record `index` has by its line; None where the line says none, so that any row will do."""
        if not self._open:
            return
        if self._batch is None and not self._next(index):
            return
        self._rows.append((index, row))
        if len(self._rows) == self._batch.num_rows:
            self._compare(self._batch)
            self._batch = None

    def close(self, index: int) -> None:
        """There are no more rows; `index` is the record that would be next."""
        if self._open and self._rows:
            self._compare(self._batch.slice(0, len(self._rows)))
        elif self._open and self._batch is None:
            self._batch = next(self._batches, None)
        self._expect(self._batch is None, index, "the Parquet file has more rows than there are lines")

    def _next(self, index: int) -> bool:
        self._batch = next(self._batches, None)
        if self._batch is None:
            self._expect(False, index, "the Parquet file ends before it")
        return self._batch is not None

    def _expect(self, holds: bool, index: int, text: str) -> None:
        if self._open:
            self._open = self._report.expect("cells", holds, self._file, index, text)

    def _read(self, path: Path) -> Iterator[Any]:
        """Batches that hold rows. Where the file cannot be read, that is said, and nothing more."""
        if not self._open:
            return
        try:
            with arrow()[1].ParquetFile(path) as found:
                for batch in found.iter_batches(_BATCH):
                    if batch.num_rows:
                        yield batch.select([name for name, _ in COLUMNS])
        except _damage() as error:
            self._expect(False, -1, f"it cannot be read: {str(error)[:200]}")

    def _compare(self, batch: Any) -> None:
        rows, self._rows = self._rows, []
        if self._same(batch, [row for _, row in rows]):
            self._report.checked["cells"] += len(rows)
            return
        found = zip(COLUMNS, batch.columns, strict=True)
        columns = [_cells(column.cast("int64") if kind == "timestamp" else column) for (_, kind), column in found]
        for (index, row), cells in zip(rows, zip(*columns, strict=True), strict=True):
            if row is None or not self._open:
                continue
            wrong = next(
                (name for (name, kind), cell, due in zip(COLUMNS, cells, row, strict=True) if cell != _cell(kind, due)), ""
            )
            self._expect(not wrong, index, f"column {wrong} is not that of the line")

    def _same(self, batch: Any, rows: list[Row | None]) -> bool:
        """Are all columns those of the rows, in one go? False also where it cannot be said."""
        if any(row is None for row in rows):
            return False
        try:
            due = arrays_of(arrow()[0], self._schema, rows)  # type: ignore[arg-type]
            return all(
                column.cast(field.type).equals(right) for column, right, field in zip(batch.columns, due, self._schema, strict=True)
            )
        except _damage():
            return False
