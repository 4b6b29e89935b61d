"""Local accounts, logins and one-time links, in one SQLite file of the home (`control/accounts.db`, mode 0600). Blocking.

The rule not to break: no password, session id or link lies here in clear; what is kept is an Argon2 digest of the first and a
SHA-256 of the others, which are random.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, get_args

import orjson
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from chimera.control.access import Principal, Role
from chimera.control.book import AccountTrouble, Book, digest_of

IDLE_S = 30 * 60
ABSOLUTE_S = 12 * 3600
FRESH_S = 5 * 60
LINK_S = 15 * 60
TRIES, TRIES_S = 5, 60.0
"""So many wrong passwords for a name within so many seconds, and further ones are not even looked at."""
SHORTEST_PASSWORD = 12
SEEN_EVERY_S = 15.0
"""That somebody was here is written down at most so often: looking at a page should not wait for a disk."""


class TooManyTries(AccountTrouble):
    """Too many wrong passwords in a short time."""


class Login(NamedTuple):
    """One signed-in browser. `csrf` must come with whatever it changes."""

    principal: Principal
    csrf: str


class Accounts:
    """The file. Every method is one short transaction of its own, so any thread and any process may call."""

    def __init__(self, home: Path, now: Callable[[], float] = time.time) -> None:
        self._book = Book(home)
        self._open = self._book.open
        self._now = now
        self._hasher = PasswordHasher()

    @cached_property
    def _nobody(self) -> str:
        """What a wrong name is compared with: it takes as long."""
        return self._hasher.hash(secrets.token_hex(16))

    # --- accounts ----------------------------------------------------------------------------------------------------

    def put(self, name: str, grants: Mapping[str, Sequence[Role]], password: str | None = None) -> None:
        """Make an account or give it other grants; with `password` another password. Without one a new account is entered by link.

        Raises `AccountTrouble` for a role that is none, no grant, or a short password.
        """
        wrong = sorted({role for roles in grants.values() for role in roles if role not in get_args(Role)})
        if wrong or not any(grants.values()):
            raise AccountTrouble(f"account '{name}': {', '.join(wrong) or 'no role given'}: use {', '.join(get_args(Role))}")
        if password is not None and len(password) < SHORTEST_PASSWORD:
            raise AccountTrouble(f"account '{name}': a password has at least {SHORTEST_PASSWORD} signs")
        digest = "" if password is None else self._hasher.hash(password)
        with self._open() as db:
            db.execute(
                "INSERT INTO accounts VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET grants = excluded.grants,"
                " digest = CASE excluded.digest WHEN '' THEN digest ELSE excluded.digest END",
                (name, digest, orjson.dumps({tenant: sorted(roles) for tenant, roles in grants.items()}).decode()),
            )
            if password is not None:
                db.execute("DELETE FROM logins WHERE name = ?", (name,))

    def remove(self, name: str) -> None:
        """Take an account and all its logins away. Raises `AccountTrouble` when there is none."""
        with self._open() as db:
            if db.execute("DELETE FROM accounts WHERE name = ?", (name,)).rowcount == 0:
                raise AccountTrouble(f"no account '{name}': see `chimera control list`")

    def listed(self) -> list[tuple[str, dict[str, list[Role]], int, bool]]:
        """(name, grants, browsers signed in, has a password) of every account."""
        with self._open() as db:
            rows = db.execute(
                "SELECT a.name, a.grants, count(l.id), a.digest <> '' FROM accounts a LEFT JOIN logins l ON l.name = a.name"
                " AND l.seen > ? AND l.began > ? GROUP BY a.name ORDER BY a.name",
                (self._now() - IDLE_S, self._now() - ABSOLUTE_S),
            ).fetchall()
        return [(name, orjson.loads(grants), count, bool(known)) for name, grants, count, known in rows]

    # --- ways in -----------------------------------------------------------------------------------------------------

    def link(self, name: str) -> str:
        """A token that lets this account in once, within 15 minutes. Raises `AccountTrouble` when there is no such account."""
        token = secrets.token_urlsafe(32)
        with self._open() as db:
            if db.execute("SELECT 1 FROM accounts WHERE name = ?", (name,)).fetchone() is None:
                raise AccountTrouble(f"no account '{name}': make one with `chimera control add {name} --role moderator`")
            db.execute("DELETE FROM links WHERE until < ?", (self._now(),))
            db.execute("INSERT INTO links VALUES (?, ?, ?)", (digest_of(token), name, self._now() + LINK_S))
        return token

    def enter(self, token: str) -> str | None:
        """The id of a new login for a link's token; None where it is unknown, used or over. A link is no password: the login is
        not fresh, so it decides on no money."""
        with self._open() as db:
            row = db.execute(
                "DELETE FROM links WHERE id = ? AND until >= ? RETURNING name", (digest_of(token), self._now())
            ).fetchone()
            return None if row is None else self._begin(db, row[0], fresh=0.0)

    def sign_in(self, name: str, password: str) -> str | None:
        """The id of a new login; None for a wrong name or password. Raises `TooManyTries`."""
        with self._open() as db:
            db.execute("DELETE FROM misses WHERE at < ?", (self._now() - TRIES_S,))
            if db.execute("SELECT count(*) FROM misses WHERE name = ?", (name,)).fetchone()[0] >= TRIES:
                raise TooManyTries(f"too many wrong passwords: wait {TRIES_S:g} s")
            row = db.execute("SELECT digest FROM accounts WHERE name = ?", (name,)).fetchone()
            if self._fits(row[0] if row is not None and row[0] else self._nobody, password) and row is not None and row[0]:
                return self._begin(db, name, fresh=self._now())
            db.execute("INSERT INTO misses VALUES (?, ?)", (name, self._now()))
            return None

    def known(self, login_id: str) -> Login | None:
        """Who that login is, seen now; None where it is unknown, idle for 30 minutes, or 12 hours old."""
        now = self._now()
        with self._open() as db:
            row = db.execute(
                "SELECT l.name, l.csrf, l.fresh, a.grants, l.seen FROM logins l JOIN accounts a USING (name)"
                " WHERE l.id = ? AND l.seen > ? AND l.began > ?",
                (digest_of(login_id), now - IDLE_S, now - ABSOLUTE_S),
            ).fetchone()
            if row is None:
                return None
            name, csrf, fresh, grants, seen = row
            if now - seen >= SEEN_EVERY_S:
                db.execute("UPDATE logins SET seen = ? WHERE id = ?", (now, digest_of(login_id)))
        return Login(Principal(name, orjson.loads(grants), fresh > now - FRESH_S), csrf)

    def sign_out(self, login_id: str) -> None:
        """End one login."""
        with self._open() as db:
            db.execute("DELETE FROM logins WHERE id = ?", (digest_of(login_id),))

    def end_logins(self, name: str) -> int:
        """End every login of an account; how many there were."""
        with self._open() as db:
            return db.execute("DELETE FROM logins WHERE name = ?", (name,)).rowcount

    def _begin(self, db: sqlite3.Connection, name: str, fresh: float) -> str:
        login_id, now = secrets.token_urlsafe(32), self._now()
        db.execute("DELETE FROM logins WHERE seen < ? OR began < ?", (now - IDLE_S, now - ABSOLUTE_S))
        db.execute(
            "INSERT INTO logins VALUES (?, ?, ?, ?, ?, ?)", (digest_of(login_id), name, secrets.token_urlsafe(24), now, now, fresh)
        )
        return login_id

    def _fits(self, digest: str, password: str) -> bool:
        try:
            return self._hasher.verify(digest, password)
        except VerificationError:
            return False
