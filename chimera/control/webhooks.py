"""Webhooks: who outside is told that a review waits, and the outbox in which what they are told waits until it is delivered.

The rule not to break: a message holds ids, counts and a link, never what a card says; what is due is in the file before it is sent.
"""

from __future__ import annotations

import base64
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import quote, urlsplit

import orjson

from chimera.control.book import AccountTrouble, Book

When = Literal["all", "sensitive", "low confidence", "financial", "unknown"]
WHEN: tuple[When, ...] = get_args(When)
DELAYS_S = (5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0)
"""How long after each try in vain the next follows; after the last of them the message is given up."""
LEASE_S = 60.0
"""A message that somebody is at belongs to them for so long."""
MOST_HOOKS = 50
MOST_WAITING = 1000
"""Messages that wait for one webhook; further ones are not made, and the next one that is says how many wait."""
MOST_CARDS = 50
"""Ids in one message; further ones are counted."""
KEPT_S = 7 * 86_400.0
SECRET = "whsec_"


class Webhook(NamedTuple):
    """Where to tell it. `private`: also http, and addresses that are not public. `link`: where the desk is reached."""

    id: str
    url: str
    tenant: str
    when: When
    private: bool
    link: str
    secret: str


class Message(NamedTuple):
    """What waits for one webhook. `tries`: how often it was sent, this time included."""

    id: str
    hook: Webhook
    body: bytes
    tries: int


class Delivered(NamedTuple):
    """How messages to one webhook fare: waiting, delivered, given up, and how the last try ended."""

    waiting: int
    done: int
    given_up: int
    last: str


class Webhooks:
    """The webhooks of an installation and their outbox."""

    def __init__(self, home: Path, now: Callable[[], float] = time.time) -> None:
        self._open, self._now = Book(home).open, now

    # --- who is told -------------------------------------------------------------------------------------------------

    def add(self, url: str, tenant: str, when: When, link: str, private: bool = False) -> Webhook:
        """A new webhook with the secret that signs what it is sent. Raises `AccountTrouble`."""
        if when not in WHEN:
            raise AccountTrouble(f"--when {when}: use {', '.join(WHEN)}")
        if not tenant or tenant == "*":
            raise AccountTrouble("a webhook is for one tenant: name it with --tenant")
        check_address(url, private)
        hook = Webhook(secrets.token_hex(4), url, tenant, when, private, link.rstrip("/"), new_secret())
        with self._open() as db:
            if db.execute("SELECT count(*) FROM webhooks").fetchone()[0] >= MOST_HOOKS:
                raise AccountTrouble(f"there are {MOST_HOOKS} webhooks: remove one first (chimera control webhook list)")
            db.execute("INSERT INTO webhooks VALUES (?, ?, ?, ?, ?, ?, ?)", hook)
        return hook

    def listed(self) -> list[tuple[Webhook, Delivered]]:
        """Every webhook, and how it fares."""
        with self._open() as db:
            rows = db.execute("SELECT id, url, tenant, moment, private, link, secret FROM webhooks ORDER BY tenant, url").fetchall()
            counts = {
                hook: Delivered(waiting, done, lost, last)
                for hook, waiting, done, lost, last in db.execute(
                    "SELECT hook, sum(state = 'waiting'), sum(state = 'done'), sum(state = 'given up'),"
                    " (SELECT l.said FROM outbox l WHERE l.hook = o.hook AND l.said <> '' ORDER BY l.due DESC LIMIT 1)"
                    " FROM outbox o GROUP BY hook"
                )
            }
        return [(_hook(row), counts.get(row[0], Delivered(0, 0, 0, ""))) for row in rows]

    def named(self, id_: str) -> Webhook:
        """The webhook of that id. Raises `AccountTrouble`."""
        for hook, _ in self.listed():
            if hook.id == id_:
                return hook
        raise AccountTrouble(f"no webhook '{id_}': see `chimera control webhook list`")

    def remove(self, id_: str) -> Webhook:
        """Take one away, with all that waits for it. Raises `AccountTrouble`."""
        hook = self.named(id_)
        with self._open() as db:
            db.execute("DELETE FROM webhooks WHERE id = ?", (id_,))
        return hook

    # --- what they are told ------------------------------------------------------------------------------------------

    def put(self, hook: Webhook, cards: Sequence[str], total: int) -> bool:
        """Put word into the outbox of those of these cards that it has not been told of; False where that is none.

        `total`: how many wait in all. Cards that wait no more are forgotten, so that one that waits again is told again.
        """
        now = self._now()
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")  # of several processes of a home one tells it
            known = {card for (card,) in db.execute("SELECT card FROM told WHERE hook = ?", (hook.id,))}
            db.executemany("DELETE FROM told WHERE hook = ? AND card = ?", [(hook.id, card) for card in known - set(cards)])
            new = [card for card in cards if card not in known]
            waiting = db.execute("SELECT count(*) FROM outbox WHERE hook = ? AND state = 'waiting'", (hook.id,)).fetchone()[0]
            if not new or waiting >= MOST_WAITING:
                return False
            db.executemany("INSERT INTO told VALUES (?, ?)", [(hook.id, card) for card in new])
            body = message(hook, "review.waiting", now, new, total)
            db.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, 0, 'waiting', '')", (f"msg_{uuid.uuid4().hex}", hook.id, body, now))
            db.execute("DELETE FROM outbox WHERE state <> 'waiting' AND due < ?", (now - KEPT_S,))
        return True

    def take(self, most: int = 20) -> list[Message]:
        """What is due, for who sends it now: for a while nobody else is given it."""
        now = self._now()
        with self._open() as db:
            rows = db.execute(
                "UPDATE outbox SET due = ?, tries = tries + 1 WHERE id IN (SELECT id FROM outbox WHERE state = 'waiting'"
                " AND due <= ? ORDER BY due LIMIT ?) RETURNING id, hook, body, tries",
                (now + LEASE_S, now, most),
            ).fetchall()
        hooks = {hook.id: hook for hook, _ in self.listed()} if rows else {}
        return [Message(id_, hooks[hook], body, tries) for id_, hook, body, tries in rows if hook in hooks]

    def ended(self, taken: Message, *, delivered: bool, said: str, final: bool = False) -> None:
        """How a try ended. In vain, it is tried again later, until there were enough tries or it is `final`."""
        over = final or taken.tries > len(DELAYS_S)
        state = "done" if delivered else "given up" if over else "waiting"
        due = self._now() + (0.0 if delivered or over else DELAYS_S[taken.tries - 1])
        with self._open() as db:
            db.execute("UPDATE outbox SET state = ?, due = ?, said = ? WHERE id = ?", (state, due, said[:200], taken.id))


def check_address(url: str, private: bool) -> None:
    """Raises `AccountTrouble` for an address that is not told: another scheme, a name and password in it, or http outside."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise AccountTrouble(f"'{url[:100]}' is no address: {error}") from None
    if not parts.hostname or parts.username is not None or any(sign <= " " or sign == "\\" for sign in url):
        raise AccountTrouble("write the address as https://host/path, without a name and a password in it")
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise AccountTrouble(f"'{parts.scheme}' is not https: what leaves the house is encrypted (--allow-private lifts this)")


def message(hook: Webhook, kind: str, at: float, cards: Sequence[str], total: int) -> bytes:
    """The body: ids, counts and a link."""
    told: Mapping[str, Any] = {
        "type": kind,
        "timestamp": datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
        "data": {
            "tenant": hook.tenant,
            "when": hook.when,
            "cards": list(cards[:MOST_CARDS]),
            "more": max(0, len(cards) - MOST_CARDS),
            "waiting": total,
            "link": f"{hook.link}/review?kind={quote(hook.when)}",
        },
    }
    return orjson.dumps(told)


def new_secret() -> str:
    """A secret as Standard Webhooks writes it."""
    return SECRET + base64.b64encode(secrets.token_bytes(32)).decode()


def _hook(row: Sequence[Any]) -> Webhook:
    id_, url, tenant, when, private, link, secret = row
    return Webhook(id_, url, tenant, when, bool(private), link, secret)
