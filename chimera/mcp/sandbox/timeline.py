"""The durable timeline behind the X sandbox: posts, idempotency keys, counted calls. SQLite, blocking.

The one rule: a post and the key it answers to are written in one transaction and on disk (synchronous FULL) before the
answer leaves, so a killed server never forgets what it said and never posts one key twice.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from chimera.mcp.sandbox.book import open_book, writing

LONGEST_POST = 280
LONGEST_MESSAGE = 10_000
_MESSAGES_KEPT_S = 30 * 24 * 3600
"""X lists the direct messages of the last 30 days."""
_DUPLICATE_WINDOW_S = 24 * 3600
POSTS_MOST = ((900.0, 100), (24 * 3600.0, 2400))
MESSAGES_MOST = ((900.0, 15), (24 * 3600.0, 1440))
"""(seconds, calls): what one account may post and send within that time."""
_EPOCH_MS = 1288834974657  # X's snowflake epoch
_URL = re.compile(r"https?://[^\s]+", re.IGNORECASE)
_EMOJI_BASE = "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2300-\u23ff\u2190-\u21ff\u3030\u303d\u3297\u3299]"
_EMOJI = re.compile(
    rf"[\U0001f1e6-\U0001f1ff]{{2}}|{_EMOJI_BASE}[\ufe0f\U0001f3fb-\U0001f3ff]*(?:\u200d{_EMOJI_BASE}[\ufe0f\U0001f3fb-\U0001f3ff]*)*"
)
_HEAVY = re.compile("[^\u0000-\u10ff\u2000-\u200d\u2010-\u201f\u2032-\u2037]")
"""What counts as two characters."""
_COLUMNS = ("id", "account", "text", "created_at", "reply_to", "conversation", "extra")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS posts (
  id INTEGER PRIMARY KEY, account TEXT NOT NULL, text TEXT NOT NULL, created_at REAL NOT NULL,
  reply_to INTEGER, conversation INTEGER NOT NULL, extra TEXT NOT NULL, deleted_at REAL);
CREATE INDEX IF NOT EXISTS posts_of_account ON posts (account, created_at);
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY, sender TEXT NOT NULL, recipient TEXT NOT NULL, text TEXT NOT NULL, created_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS messages_sent ON messages (sender);
CREATE INDEX IF NOT EXISTS messages_received ON messages (recipient);
CREATE TABLE IF NOT EXISTS likes (post INTEGER NOT NULL, account TEXT NOT NULL, PRIMARY KEY (post, account)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
  account TEXT NOT NULL, key TEXT NOT NULL, tool TEXT NOT NULL, arguments_sha256 TEXT NOT NULL, response TEXT NOT NULL,
  PRIMARY KEY (account, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
  n INTEGER PRIMARY KEY, tool TEXT NOT NULL, account TEXT, key TEXT, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS calls_with_key ON calls (key);
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, user_id TEXT NOT NULL UNIQUE) WITHOUT ROWID;
"""


def id_at(seconds: float) -> int:
    """The smallest id that a post of that time (wall seconds) may have."""
    return min(1 << 62, max(0, int(seconds * 1000) - _EPOCH_MS) << 22)


class PlatformRefused(Exception):
    """The platform says no, like X: HTTP status, title and detail."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail


@dataclass(frozen=True)
class Post:
    """One post; `id` grows with time, `created_at` is seconds since 1970, `extra` what else was sent with it."""

    id: int
    account: str
    text: str
    created_at: float
    reply_to: int | None
    conversation: int
    extra: dict[str, Any]


@dataclass(frozen=True)
class Message:
    """One direct message between two accounts; `id` grows with time, `created_at` is seconds since 1970."""

    id: int
    sender: str
    recipient: str
    text: str
    created_at: float

    @property
    def conversation(self) -> str:
        """As X names the conversation of two: the smaller user id, a hyphen, the larger one."""
        return "-".join(sorted((user_id_of(self.sender), user_id_of(self.recipient)), key=int))


def weighted_length(text: str) -> int:
    """Length as X counts it: URLs 23, an emoji sequence 2, Latin and the like 1, everything else 2."""
    text = unicodedata.normalize("NFC", text)
    bare, urls = _URL.subn("", text)
    bare, emoji = _EMOJI.subn("", bare)
    return 23 * urls + 2 * emoji + len(bare) + len(_HEAVY.findall(bare))


def user_id_of(account: str) -> str:
    """The numeric user id that the sandbox gives an account name (always the same)."""
    return str(int.from_bytes(hashlib.sha256(account.lower().encode()).digest()[:7]) + 1)


class Timeline:
    """One timeline file; several processes may hold it. `clock` is wall seconds."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = directory / "timeline.sqlite3"
        self.clock = clock
        self._db = open_book(self.path, _SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _writing(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """One write transaction. Unsynced, it outlives a killed process but maybe not a power cut: enough for counts."""
        self._db.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
        with writing(self._db) as db:
            yield db

    def count_call(self, tool: str, account: str | None, key: str | None) -> None:
        """A call came in, whatever becomes of it."""
        with self._writing(synced=False) as db:
            db.execute("INSERT INTO calls (tool, account, key, at) VALUES (?, ?, ?, ?)", (tool, account, key, self.clock()))

    def calls_with(self, key: str) -> int:
        """How often a call came with this idempotency key."""
        return int(self._db.execute("SELECT count(*) FROM calls WHERE key = ?", (key,)).fetchone()[0])

    def once(
        self, account: str, key: str | None, tool: str, arguments: dict[str, Any], act: Callable[[], dict[str, Any]]
    ) -> tuple[dict[str, Any], bool]:
        """Do `act` once per (account, key) and keep its answer; (answer, whether it is a repeated one).

        Raises PlatformRefused, also for a key that came before with another tool or other arguments.
        """
        digest = hashlib.sha256(orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)).hexdigest()
        with self._writing() as db:
            if key is not None:
                row = db.execute(
                    "SELECT tool, arguments_sha256, response FROM keys WHERE account = ? AND key = ?", (account, key)
                ).fetchone()
                if row is not None:
                    if (row[0], row[1]) != (tool, digest):
                        raise PlatformRefused(422, "Unprocessable", "This idempotency key belongs to another request.")
                    return dict(orjson.loads(row[2])), True
            response = act()
            if key is not None:
                answer = orjson.dumps(response).decode()
                db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", (account, key, tool, digest, answer))
            return response, False

    def post(self, account: str, text: str, reply_to: int | None, extra: dict[str, Any]) -> Post:
        """Add a post under the platform's rules; call it inside `once`. Raises PlatformRefused."""
        if not text.strip():
            raise PlatformRefused(400, "Invalid Request", "The text of a post may not be empty.")
        if weighted_length(text) > LONGEST_POST:
            raise PlatformRefused(400, "Invalid Request", "Your Tweet text is too long.")
        now = self.clock()
        twin = self._db.execute(
            "SELECT 1 FROM posts WHERE account = ? AND text = ? AND created_at > ? AND deleted_at IS NULL",
            (account, text, now - _DUPLICATE_WINDOW_S),
        ).fetchone()
        if twin:
            raise PlatformRefused(403, "Forbidden", "You are not allowed to create a Tweet with duplicate content.")
        parent = self.get(reply_to) if reply_to is not None else None
        if reply_to is not None and parent is None:
            raise PlatformRefused(403, "Forbidden", "You attempted to reply to a Tweet that is deleted or not visible to you.")
        self._bounded("posts", "account", account, now, POSTS_MOST)
        post_id = self._next_id("posts", now)
        post = Post(post_id, account, text, now, reply_to, parent.conversation if parent else post_id, extra)
        self._db.execute(
            "INSERT INTO posts (id, account, text, created_at, reply_to, conversation, extra) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (post.id, account, text, now, reply_to, post.conversation, orjson.dumps(extra).decode()),
        )
        self.know(account)
        return post

    def delete(self, account: str, post_id: int) -> None:
        """Delete one's own post; call it inside `once`. Raises PlatformRefused."""
        post = self.get(post_id)
        if post is None:
            raise PlatformRefused(404, "Not Found Error", "Could not find this Tweet.")
        if post.account != account:
            raise PlatformRefused(403, "Forbidden", "You are not allowed to delete another account's Tweet.")
        self._db.execute("UPDATE posts SET deleted_at = ? WHERE id = ?", (self.clock(), post_id))

    def count(self, account: str) -> int:
        """How many posts the account has."""
        return int(
            self._db.execute("SELECT count(*) FROM posts WHERE account = ? AND deleted_at IS NULL", (account,)).fetchone()[0]
        )

    def like(self, account: str, post_id: int) -> None:
        """An account likes a post, once however often it says so; call it inside `once`. Raises PlatformRefused."""
        if self.get(post_id) is None:
            raise PlatformRefused(404, "Not Found Error", "Could not find this Tweet.")
        self._db.execute("INSERT OR IGNORE INTO likes VALUES (?, ?)", (post_id, account))

    def metrics(self, post_id: int) -> dict[str, int]:
        """Who liked and answered a post here, by X's names."""
        likes = self._db.execute("SELECT count(*) FROM likes WHERE post = ?", (post_id,)).fetchone()[0]
        replies = self._db.execute("SELECT count(*) FROM posts WHERE reply_to = ? AND deleted_at IS NULL", (post_id,)).fetchone()[0]
        return {"like_count": int(likes), "reply_count": int(replies)}

    def first_at(self, account: str) -> float | None:
        """When the account first posted (wall seconds)."""
        row = self._db.execute("SELECT min(created_at) FROM posts WHERE account = ?", (account,)).fetchone()
        return None if row[0] is None else float(row[0])

    def _bounded(self, table: str, column: str, account: str, now: float, most: tuple[tuple[float, int], ...]) -> None:
        """Raises PlatformRefused where the account did too much of this of late; nothing is written then."""
        for window_s, calls in most:
            done = self._db.execute(
                f"SELECT count(*) FROM {table} WHERE {column} = ? AND created_at > ?", (account, now - window_s)
            ).fetchone()[0]
            if done >= calls:
                raise PlatformRefused(429, "Too Many Requests", f"Usage cap exceeded: {calls} within {window_s / 60:.0f} minutes.")

    def _next_id(self, table: str, now: float) -> int:
        last: int = self._db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
        return max(id_at(now), last + 1)

    def message(self, sender: str, recipient_id: str, text: str) -> Message:
        """Send a direct message under the platform's rules; call it inside `once`. Raises PlatformRefused."""
        if not text.strip():
            raise PlatformRefused(400, "Invalid Request", "The text of a Direct Message may not be empty.")
        if len(text) > LONGEST_MESSAGE:
            raise PlatformRefused(400, "Invalid Request", "The text of your Direct Message is too long.")
        recipient = self.account_of(recipient_id)
        if recipient is None or recipient == sender:
            raise PlatformRefused(403, "Forbidden", "You cannot send a Direct Message to this user.")
        now = self.clock()
        self._bounded("messages", "sender", sender, now, MESSAGES_MOST)
        sent = Message(self._next_id("messages", now), sender, recipient, text, now)
        self._db.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", (sent.id, sender, recipient, text, now))
        self.know(sender)
        return sent

    def messages(self, account: str, *, until_id: int = 1 << 62, limit: int = 100) -> list[Message]:
        """What the account sent and received by direct message in the last 30 days, newest first, with id < until_id."""
        rows = self._db.execute(
            "SELECT id, sender, recipient, text, created_at FROM messages WHERE (sender = ? OR recipient = ?) AND id < ?"
            " AND created_at > ? ORDER BY id DESC LIMIT ?",
            (account, account, until_id, self.clock() - _MESSAGES_KEPT_S, limit),
        ).fetchall()
        return [Message(*row) for row in rows]

    def newest_messages(self, account: str | None, limit: int) -> list[Message]:
        """Direct messages of one account or all, newest first."""
        of = "" if account is None else "WHERE sender = ? OR recipient = ? "
        values = (limit,) if account is None else (account, account, limit)
        rows = self._db.execute(
            f"SELECT id, sender, recipient, text, created_at FROM messages {of}ORDER BY id DESC LIMIT ?", values
        ).fetchall()
        return [Message(*row) for row in rows]

    def know(self, account: str) -> str:
        """The user id of an account, which exists from now on."""
        user_id = user_id_of(account)
        self._db.execute("INSERT OR IGNORE INTO accounts VALUES (?, ?)", (account, user_id))
        return user_id

    def account_of(self, user_id: str) -> str | None:
        """The account name behind a user id, if it was ever seen."""
        row = self._db.execute("SELECT name FROM accounts WHERE user_id = ?", (user_id,)).fetchone()
        return None if row is None else str(row[0])

    def get(self, post_id: int) -> Post | None:
        """One post, unless it is deleted or unknown."""
        found = self._select("id = ?", (post_id,), 1)
        return found[0] if found else None

    def posts(self, account: str | None = None, *, since_id: int = 0, until_id: int = 1 << 62, limit: int = 100) -> list[Post]:
        """Posts newest first, of one account or all, with since_id < id < until_id."""
        if account is None:
            return self._select("id > ? AND id < ?", (since_id, until_id), limit)
        return self._select("account = ? AND id > ? AND id < ?", (account, since_id, until_id), limit)

    def mentions(self, account: str, *, since_id: int = 0, until_id: int = 1 << 62, limit: int = 100) -> list[Post]:
        """Others' posts that name the account or answer one of its posts, newest first."""
        return self._select(
            "account <> ? AND id > ? AND id < ? AND (instr(lower(text), ?) > 0"
            " OR reply_to IN (SELECT id FROM posts WHERE account = ?))",
            (account, since_id, until_id, f"@{account.lower()}", account),
            limit,
        )

    def search(self, words: str, *, since_id: int = 0, limit: int = 100) -> list[Post]:
        """Posts that hold every word, newest first."""
        parts = words.lower().split()
        condition = " AND ".join(["id > ?"] + ["instr(lower(text), ?) > 0"] * len(parts))
        return self._select(condition, (since_id, *parts), limit)

    def _select(self, condition: str, values: tuple[Any, ...], limit: int) -> list[Post]:
        rows = self._db.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM posts WHERE deleted_at IS NULL AND {condition} ORDER BY id DESC LIMIT ?",
            (*values, limit),
        ).fetchall()
        return [Post(**dict(zip(_COLUMNS, row, strict=True)) | {"extra": orjson.loads(row[-1])}) for row in rows]
