"""A sandbox's own file: SQLite, opened alike by all of them.

The rule not to break: several processes may open one file at once, the very first time too.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 30.0
"""So long a transaction waits for another's."""


def open_book(path: Path, schema: str) -> sqlite3.Connection:
    """The file at `path`, made with its folder where it is missing; `schema` is run each time. Any thread may use it.

    SQLite waits for nobody while a file becomes write-ahead logged: two that begin at once would not both get it. So they
    take turns, by a lock that ends with whoever holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        return _begun(str(path), schema)


def open_memory(schema: str) -> sqlite3.Connection:
    """The same without a file: this process's own."""
    return _begun(":memory:", schema)


@contextmanager
def writing(book: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One write transaction: all of it, or nothing where it ends by an error."""
    book.execute("BEGIN IMMEDIATE")
    try:
        yield book
    except BaseException:
        book.execute("ROLLBACK")
        raise
    book.execute("COMMIT")


def _begun(place: str, schema: str) -> sqlite3.Connection:
    book = sqlite3.connect(place, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
    book.execute("PRAGMA journal_mode=WAL")
    book.executescript(schema)
    return book
