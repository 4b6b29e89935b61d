"""API tokens: what a program shows instead of a browser's login. One row each beside the accounts. Blocking.

The rule not to break: a token never may more than its account may at this moment; what is kept of it is its digest.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import orjson

from chimera.control.access import EVERY_TENANT, Principal, Role
from chimera.control.accounts import SEEN_EVERY_S
from chimera.control.book import AccountTrouble, Book, digest_of

PREFIX = "chimera_"
"""So that a token that lies where it should not is found by those who look for such."""
LONGEST_DAYS = 366
MOST = 50
"""Tokens that one account may have."""
_SHOWN = "id, name, label, tenant, roles, made, until, seen"


class Token(NamedTuple):
    """A token without what lets in. Times are seconds since the epoch; `seen` 0: never used."""

    id: str
    name: str
    label: str
    tenant: str
    roles: Sequence[Role]
    made: float
    until: float
    seen: float


class Bearer(NamedTuple):
    """Who shows a token: what they may do with it now, never with a fresh password."""

    principal: Principal
    token: Token


class Tokens:
    """The tokens of all accounts."""

    def __init__(self, home: Path, now: Callable[[], float] = time.time) -> None:
        self._open, self._now = Book(home).open, now

    def add(self, name: str, roles: Sequence[Role], tenant: str, days: int, label: str = "") -> tuple[Token, str]:
        """A new token and the secret that is told once.

        Raises `AccountTrouble` for an account that is not there, roles that it does not hold in `tenant`, or a length of life that
        is none.
        """
        if not 1 <= days <= LONGEST_DAYS:
            raise AccountTrouble(f"a token lives 1 to {LONGEST_DAYS} days, not {days}")
        if wrong := sorted(set(roles) - set(get_args(Role))):
            raise AccountTrouble(f"no role {', '.join(wrong)}: use {', '.join(get_args(Role))}")
        now, secret = self._now(), PREFIX + secrets.token_urlsafe(32)
        with self._open() as db:
            row = db.execute("SELECT grants FROM accounts WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise AccountTrouble(f"no account '{name}': make one with `chimera control add {name} --role moderator`")
            lacks = sorted(set(roles) - set(held(orjson.loads(row[0]), tenant)))
            if lacks or not roles:
                told = "every tenant" if tenant == EVERY_TENANT else f"tenant {tenant}"
                raise AccountTrouble(f"'{name}' is not {', '.join(lacks) or 'anything'} in {told}: a token may no more than that")
            db.execute("DELETE FROM tokens WHERE until < ?", (now - LONGEST_DAYS * 86_400,))
            if db.execute("SELECT count(*) FROM tokens WHERE name = ?", (name,)).fetchone()[0] >= MOST:
                raise AccountTrouble(f"'{name}' has {MOST} tokens: revoke one first (chimera control token list {name})")
            token = Token(secrets.token_hex(4), name, label[:80], tenant, sorted(set(roles)), now, now + days * 86_400, 0.0)
            db.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (token.id, digest_of(secret), name, token.label, tenant, ",".join(token.roles), now, token.until, 0.0),
            )
        return token, secret

    def listed(self, name: str | None = None) -> list[Token]:
        """The tokens of an account, or all, those that are over too."""
        with self._open() as db:
            rows = db.execute(
                f"SELECT {_SHOWN} FROM tokens WHERE ? IS NULL OR name = ? ORDER BY name, made",
                (name, name),
            ).fetchall()
        return [_token(row) for row in rows]

    def revoke(self, id_: str, name: str | None = None) -> Token:
        """End a token at once (with `name`: one of that account). Raises `AccountTrouble` when there is none."""
        with self._open() as db:
            row = db.execute(
                f"DELETE FROM tokens WHERE id = ? AND (? IS NULL OR name = ?) RETURNING {_SHOWN}",
                (id_, name, name),
            ).fetchone()
        if row is None:
            raise AccountTrouble(f"no token '{id_}': see `chimera control token list`")
        return _token(row)

    def known(self, secret: str) -> Bearer | None:
        """Who shows it, used now; None where it is unknown or over."""
        now = self._now()
        with self._open() as db:
            row = db.execute(
                f"SELECT {_SHOWN}, grants FROM tokens JOIN accounts USING (name) WHERE tokens.digest = ? AND until > ?",
                (digest_of(secret), now),
            ).fetchone()
            if row is None:
                return None
            *kept, grants = row
            token = _token(kept)
            if now - token.seen >= SEEN_EVERY_S:
                db.execute("UPDATE tokens SET seen = ? WHERE id = ?", (now, token.id))
        roles = [role for role in token.roles if role in held(orjson.loads(grants), token.tenant)]
        return Bearer(Principal(token.name, {token.tenant: roles} if roles else {}), token)


def held(grants: Mapping[str, Sequence[Role]], tenant: str) -> list[Role]:
    """The roles that an account with these grants has in a tenant; for `*` those that it has in every one."""
    return sorted({*grants.get(tenant, ()), *grants.get(EVERY_TENANT, ())})


def _token(row: Sequence[object]) -> Token:
    id_, name, label, tenant, roles, made, until, seen = row
    return Token(str(id_), str(name), str(label), str(tenant), str(roles).split(","), float(made), float(until), float(seen))  # type: ignore[arg-type]
