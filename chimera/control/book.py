"""The SQLite file of the home in which accounts, logins, tokens and webhooks lie (`control/accounts.db`, mode 0600). Blocking.

The rule not to break: no secret lies here in clear that somebody could come in with: of what is random its SHA-256 is kept.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chimera.errors import ChimeraError

FILE = Path("control") / "accounts.db"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, digest TEXT NOT NULL, grants TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logins (
  id TEXT PRIMARY KEY, name TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE, csrf TEXT NOT NULL,
  began REAL NOT NULL, seen REAL NOT NULL, fresh REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links (
  id TEXT PRIMARY KEY, name TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS misses (name TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS devices (
  login TEXT PRIMARY KEY REFERENCES logins ON DELETE CASCADE, device TEXT NOT NULL, origin TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
  id TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE, label TEXT NOT NULL,
  tenant TEXT NOT NULL, roles TEXT NOT NULL, made REAL NOT NULL, until REAL NOT NULL, seen REAL NOT NULL) WITHOUT ROWID;
"""


class AccountTrouble(ChimeraError):
    """An account, or what belongs to one, cannot be made or found as asked; the message says why."""


class Book:
    """The file. Raises `AccountTrouble` where others may read it."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        if self._path.stat().st_mode & 0o077:
            raise AccountTrouble(f"{self._path} may be read by others: run `chmod 600 {self._path}`")
        with self.open() as db:
            db.executescript(_SCHEMA)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """One transaction, so any thread and any process may call."""
        db = sqlite3.connect(self._path, timeout=10)
        try:
            db.execute("PRAGMA foreign_keys = ON")
            with db:
                yield db
        finally:
            db.close()


def digest_of(secret: str) -> str:
    """What is kept of something random that lets in."""
    return hashlib.sha256(secret.encode()).hexdigest()
