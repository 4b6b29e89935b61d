"""Sample questions: SQL files that say what they answer, run read-only.

The rule not to break: a question never writes; it runs in a read-only transaction with a time limit, and is rolled back.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, NamedTuple

from chimera.errors import ChimeraError
from chimera.projections import asking
from chimera.projections.asking import NotAnswered
from chimera.projections.schema import MIGRATIONS

__all__ = ["Answer", "NoSuchQuestion", "NotAnswered", "Question", "ask", "question", "questions"]

QUERIES = MIGRATIONS / "queries"
TIMEOUT_S = 30.0
RETURNS = "returns: "


class NoSuchQuestion(ChimeraError):
    """There is no question of that name."""


class Question(NamedTuple):
    """One file: its first comment line is the question, the last names the columns that it returns, those between explain them."""

    name: str
    question: str
    columns: tuple[str, ...]
    returns: tuple[str, ...]
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
        known = [q.name for q in questions(directory)]
        meant = "".join(f"did you mean {near}? " for near in difflib.get_close_matches(name, known, 1))
        raise NoSuchQuestion(f"no question {name!r}: {meant}ask one of {', '.join(known) or 'none'}")
    return _read(path)


def ask(dsn: str, asked: Question) -> Answer:
    """Run it. Raises `NotAnswered` where the database is away, has no read models, or the question takes over 30 s."""
    with asking.asked(dsn, asked.sql, what=f"question {asked.name!r}", timeout_s=TIMEOUT_S) as answering:
        return Answer(answering.names, [row for batch in answering.batches for row in batch])


def _read(path: Path) -> Question:
    text = path.read_text(encoding="utf-8")
    comments = [line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")]
    told = [line for line in comments[1:] if line.startswith(RETURNS)]
    returns = tuple(name.strip() for line in told for name in line.removeprefix(RETURNS).split(","))
    explained = tuple(line for line in comments[1:] if line not in told)
    return Question(path.stem, comments[0] if comments else path.stem, explained, returns, text)
