"""Local accounts, logins and one-time links, in one SQLite file of the home (`control/accounts.db`, mode 0600). Blocking.

The rule not to break: no password, session id or link lies here in clear; what is kept is an Argon2 digest of the first and a
SHA-256 of the others, which are random.
"""

from __future__ import annotations

import math
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
TRIES, TRIES_S, LONGEST_LOCK_S = 5, 60.0, 15 * 60.0
"""After so many wrong passwords for a name none is even looked at for so many seconds; after each further one for twice as long, up
to the longest. A right one begins anew, and so does a day."""
MISSES_S = 86_400.0
SHORTEST_PASSWORD = 12
SEEN_EVERY_S = 15.0
"""That somebody was here is written down at most so often: looking at a page should not wait for a disk."""


class TooManyTries(AccountTrouble):
    """Too many wrong passwords. `wait_s`: whole seconds until the next is looked at."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many wrong passwords: wait {wait_s} s")
        self.wait_s = wait_s


class Login(NamedTuple):
    """One signed-in browser. `csrf` must come with whatever it changes."""

    principal: Principal
    csrf: str


class Seen(NamedTuple):
    """One of an account's logins, as its owner sees it. `id` names it and lets nobody in. Times are seconds since the epoch."""

    id: str
    device: str
    origin: str
    began: float
    seen: float
    this: bool


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

    def enter(self, token: str, device: str = "", origin: str = "") -> str | None:
        """The id of a new login for a link's token; None where it is unknown, used or over. A link is no password: the login is
        not fresh, so it decides on no money. `device`, `origin`: what its owner will know it by."""
        with self._open() as db:
            row = db.execute(
                "DELETE FROM links WHERE id = ? AND until >= ? RETURNING name", (digest_of(token), self._now())
            ).fetchone()
            return None if row is None else self._begin(db, row[0], 0.0, device, origin)

    def sign_in(self, name: str, password: str, device: str = "", origin: str = "") -> str | None:
        """The id of a new login; None for a wrong name or password. Raises `TooManyTries`."""
        if not self._right(name, password):
            return None
        with self._open() as db:
            return self._begin(db, name, self._now(), device, origin)

    def change_password(self, name: str, old: str, new: str, login_id: str) -> bool:
        """Another password, and no login but that one, which is fresh then; False where `old` is wrong.

        Raises `TooManyTries`, and `AccountTrouble` for a short password.
        """
        if len(new) < SHORTEST_PASSWORD:
            raise AccountTrouble(f"a password has at least {SHORTEST_PASSWORD} signs")
        if not self._right(name, old):
            return False
        digest = self._hasher.hash(new)
        with self._open() as db:
            db.execute("UPDATE accounts SET digest = ? WHERE name = ?", (digest, name))
            db.execute("DELETE FROM logins WHERE name = ? AND id <> ?", (name, digest_of(login_id)))
            db.execute("DELETE FROM links WHERE name = ?", (name,))
            db.execute("UPDATE logins SET fresh = ? WHERE id = ?", (self._now(), digest_of(login_id)))
        return True

    def named(self, name: str) -> str:
        """The name, where an account has it; else `unknown`: what was typed may be a secret."""
        with self._open() as db:
            return name if db.execute("SELECT 1 FROM accounts WHERE name = ?", (name,)).fetchone() else "unknown"

    def _right(self, name: str, password: str) -> bool:
        """Whether this is the password; a wrong one is counted. The digest is computed while the file is free for others."""
        with self._open() as db:
            now = self._now()
            db.execute("DELETE FROM misses WHERE at < ?", (now - MISSES_S,))
            missed, last = db.execute("SELECT count(*), max(at) FROM misses WHERE name = ?", (name,)).fetchone()
            if missed >= TRIES:
                until = last + min(TRIES_S * 2 ** min(missed - TRIES, 10), LONGEST_LOCK_S)
                if until > now:
                    raise TooManyTries(math.ceil(until - now))
            row = db.execute("SELECT digest FROM accounts WHERE name = ?", (name,)).fetchone()
            # Counted before it is looked at: of many that come at once not one is free.
            db.execute("INSERT INTO misses VALUES (?, ?)", (name, now))
        right = self._fits(row[0] if row is not None and row[0] else self._nobody, password) and row is not None and bool(row[0])
        if right:
            with self._open() as db:
                db.execute("DELETE FROM misses WHERE name = ?", (name,))
        return right

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

    def tokens(self) -> list[str]:
        """The tokens of all logins that have not ended: what was signed for one is good for no longer."""
        now = self._now()
        with self._open() as db:
            return [
                row[0]
                for row in db.execute("SELECT csrf FROM logins WHERE seen > ? AND began > ?", (now - IDLE_S, now - ABSOLUTE_S))
            ]

    def sign_out(self, login_id: str) -> None:
        """End one login."""
        with self._open() as db:
            db.execute("DELETE FROM logins WHERE id = ?", (digest_of(login_id),))

    def end_logins(self, name: str, but: str = "") -> int:
        """End every login of an account (except the one of the id `but`); how many there were."""
        with self._open() as db:
            return db.execute("DELETE FROM logins WHERE name = ? AND id <> ?", (name, digest_of(but))).rowcount

    def end_login(self, name: str, id_: str) -> bool:
        """End that login of an account (`Seen.id`); False where there is none."""
        with self._open() as db:
            return db.execute("DELETE FROM logins WHERE name = ? AND substr(id, 1, 16) = ?", (name, id_)).rowcount > 0

    def logins_of(self, name: str, login_id: str = "") -> list[Seen]:
        """The living logins of an account, the last seen first; `login_id` is the asker's own."""
        now = self._now()
        with self._open() as db:
            rows = db.execute(
                "SELECT l.id, coalesce(d.device, ''), coalesce(d.origin, ''), l.began, l.seen FROM logins l"
                " LEFT JOIN devices d ON d.login = l.id WHERE l.name = ? AND l.seen > ? AND l.began > ? ORDER BY l.seen DESC, l.id",
                (name, now - IDLE_S, now - ABSOLUTE_S),
            ).fetchall()
        mine = digest_of(login_id)
        return [Seen(id_[:16], device, origin, began, seen, id_ == mine) for id_, device, origin, began, seen in rows]

    def _begin(self, db: sqlite3.Connection, name: str, fresh: float, device: str, origin: str) -> str:
        login_id, now = secrets.token_urlsafe(32), self._now()
        db.execute("DELETE FROM logins WHERE seen < ? OR began < ?", (now - IDLE_S, now - ABSOLUTE_S))
        db.execute(
            "INSERT INTO logins VALUES (?, ?, ?, ?, ?, ?)", (digest_of(login_id), name, secrets.token_urlsafe(24), now, now, fresh)
        )
        db.execute("INSERT INTO devices VALUES (?, ?, ?)", (digest_of(login_id), device[:160], origin[:80]))
        return login_id

    def _fits(self, digest: str, password: str) -> bool:
        try:
            return self._hasher.verify(digest, password)
        except VerificationError:
            return False
