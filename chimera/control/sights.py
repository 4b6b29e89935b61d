"""Which cards a login has had open, and what exactly it was shown of them: what a batch of decisions rests on. Blocking.

The rule not to break: a card is decided in a batch only with the digest that this very login was shown of it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chimera.commands.verbs import Reply, Shown
from chimera.control.accounts import ABSOLUTE_S, Login

FILE = Path("control") / "sights.db"
_SCHEMA = """CREATE TABLE IF NOT EXISTS sights (login TEXT, card TEXT, shown_hash TEXT NOT NULL, effect_hash TEXT NOT NULL,
  edit INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (login, card)) WITHOUT ROWID"""


class Sights:
    """The file. What is as old as a login can become is forgotten."""

    def __init__(self, home: Path, now: Callable[[], float] = time.time) -> None:
        self._path, self._now = home / FILE, now
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        with self._open() as db:
            db.execute(_SCHEMA)

    def opened(self, login: Login, seen: Reply) -> None:
        """This login has this card before it now, as `review.show` gave it."""
        who, now = _who(login), self._now()
        with self._open() as db:
            db.execute("DELETE FROM sights WHERE at < ?", (now - ABSOLUTE_S,))
            db.execute(
                "INSERT OR REPLACE INTO sights VALUES (?, ?, ?, ?, ?, ?)",
                (who, seen["address"], seen["shown_hash"], seen["effect_hash"], seen["edit"], now),
            )

    def of(self, login: Login, cards: Sequence[str]) -> dict[str, Shown]:
        """What this login was shown last of those of these cards that it has opened."""
        marks = ",".join("?" * len(cards))
        with self._open() as db:
            rows = db.execute(
                f"SELECT card, shown_hash, effect_hash, edit FROM sights WHERE login = ? AND card IN ({marks})",
                (_who(login), *cards),
            ).fetchall()
        return {card: Shown(shown_hash=shown, effect_hash=effect, edit=edit) for card, shown, effect, edit in rows}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, timeout=10)
        try:
            with db:
                yield db
        finally:
            db.close()


def _who(login: Login) -> str:
    """The login without its token: a copy of the file lets nobody in."""
    return hashlib.sha256(login.csrf.encode()).hexdigest()
