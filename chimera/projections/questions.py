"""Sample questions: SQL files that say what they answer, run read-only.

The rule not to break: a question never writes; it runs in a read-only transaction with a time limit, and is rolled back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from chimera.errors import ChimeraError
from chimera.projections.schema import MIGRATIONS

QUERIES = MIGRATIONS / "queries"
TIMEOUT_MS = 30_000


class NoSuchQuestion(ChimeraError):
    """There is no question of that name."""


class NotAnswered(ChimeraError):
    """The database did not answer."""


class Question(NamedTuple):
    """One file: its first comment line is the question, the others explain the columns."""

    name: str
    question: str
    columns: tuple[str, ...]
    sql: str


class Answer(NamedTuple):
    """Column names and rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def questions(directory: Path = QUERIES) -> list[Question]:
    """All questions, by name."""
    return [_read(path) for path in sorted(directory.glob("*.sql"))]


def question(name: str, directory: Path = QUERIES) -> Question:
    """The question of that name. Raises `NoSuchQuestion`."""
    path = directory / f"{name}.sql"
    if not name.isidentifier() or not path.is_file():
        known = ", ".join(q.name for q in questions(directory)) or "none"
        raise NoSuchQuestion(f"no question {name!r}: ask one of {known}")
    return _read(path)


def ask(dsn: str, asked: Question) -> Answer:
    """Run it. Raises `NotAnswered` where the database is away, has no read models, or the question takes over 30 s."""
    try:
        with psycopg.connect(dsn, connect_timeout=5, application_name=f"chimera ask {asked.name}") as connection:
            connection.read_only = True
            connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
            connection.execute("SET LOCAL timezone TO 'UTC'")
            cursor = connection.execute(asked.sql.encode())
            columns = tuple(column.name for column in cursor.description or ())
            answer = Answer(columns, cursor.fetchall())
            connection.rollback()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise NotAnswered(
            f"question {asked.name!r}: no read models yet ({_first(error)}): start the projector (`chimera up`)"
        ) from error
    except psycopg.Error as error:
        raise NotAnswered(
            f"question {asked.name!r} was not answered: {_first(error)} (`chimera status` says whether the database is up)"
        ) from error
    return answer


def _read(path: Path) -> Question:
    text = path.read_text(encoding="utf-8")
    comments = [line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")]
    return Question(path.stem, comments[0] if comments else path.stem, tuple(comments[1:]), text)


def _first(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
