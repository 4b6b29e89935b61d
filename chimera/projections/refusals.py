"""What says that rows cannot be written, and rows as the JSON that statements take.

The rule not to break: who is at fault is told apart: a row (`REFUSED`), or tables that are not what the log says (`Disagreement`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson
import psycopg

from chimera.errors import ChimeraError
from chimera.projections.copying import Unwritable


class Disagreement(ChimeraError):
    """The database does not hold what the log says it held before this batch. The partition stops."""

    def __init__(self, partition: int, where: str, text: str) -> None:
        super().__init__(f"partition {partition}: {where}: {text}; rebuild the read models of this partition")
        self.partition = partition


_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
"""U+0000 in JSON, and not a text that says so: behind an even number of backslashes."""

REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded, Unwritable)
"""What says that a row, and not the database, is at fault."""


def rows_json(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as the JSON that `json_populate_recordset` takes. Raises `Unwritable`."""
    try:
        text = orjson.dumps(list(rows), default=_plain)
    except TypeError as error:
        raise Unwritable(str(error)) from error
    return (_NUL.sub(rb"\1\\ufffd", text) if b"\\u0000" in text else text).decode()


def _plain(value: object) -> Any:
    return orjson.Fragment(value) if type(value) is bytes else str(value)
