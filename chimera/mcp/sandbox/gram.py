"""What the Instagram sandbox keeps: containers, posts, who may still publish today. SQLite, blocking.

The one rule: a post is published from a container in two steps, as outside; a container that is a day old publishes nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from chimera.mcp.sandbox.audience import FILM_S, Audience, Numbers
from chimera.mcp.sandbox.book import open_book, writing
from chimera.mcp.sandbox.timeline import PlatformRefused

PER_DAY = 50
"""Publications per account within any 24 hours."""
CONTAINER_LIVES_S = 24 * 3600
LONGEST_CAPTION = 2200
MOST_HASHTAGS = 30
_DAY_S = 24 * 3600
_SCHEMA = """
CREATE TABLE IF NOT EXISTS containers (
  id TEXT PRIMARY KEY, account TEXT NOT NULL, media TEXT NOT NULL, kind TEXT NOT NULL, caption TEXT NOT NULL, made_at REAL NOT NULL,
  published INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS posts (
  id TEXT PRIMARY KEY, account TEXT NOT NULL, media TEXT NOT NULL, kind TEXT NOT NULL, caption TEXT NOT NULL,
  made_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS posts_of_account ON posts (account, made_at);
CREATE TABLE IF NOT EXISTS keys (
  account TEXT NOT NULL, key TEXT NOT NULL, asked TEXT NOT NULL, post TEXT NOT NULL, PRIMARY KEY (account, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, tool TEXT NOT NULL, account TEXT, key TEXT, at REAL NOT NULL);
"""


@dataclass(frozen=True)
class GramPost:
    """One post; `media` is the name of an asset (`<sha256>.<extension>`), `made_at` seconds since 1970."""

    id: str
    account: str
    media: str
    kind: str
    caption: str
    made_at: float


class Gram:
    """One file of posts; several processes may hold it. `clock` is wall seconds."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.directory, self.clock = directory, clock
        self._db = open_book(directory / "gram.sqlite3", _SCHEMA)

    def close(self) -> None:
        self._db.close()

    def count_call(self, tool: str, account: str, key: str | None) -> None:
        """A call came in, whatever becomes of it."""
        self._db.execute("INSERT INTO calls (tool, account, key, at) VALUES (?, ?, ?, ?)", (tool, account, key, self.clock()))

    def calls_with(self, key: str) -> int:
        """How often a call came with this idempotency key."""
        return int(self._db.execute("SELECT count(*) FROM calls WHERE key = ?", (key,)).fetchone()[0])

    def known(self, account: str, key: str | None, asked: object) -> GramPost | None:
        """The post that this key made. Raises PlatformRefused for a key that came with something else."""
        if key is None:
            return None
        row = self._db.execute("SELECT asked, post FROM keys WHERE account = ? AND key = ?", (account, key)).fetchone()
        if row is None:
            return None
        if row[0] != _digest(asked):
            raise PlatformRefused(422, "Unprocessable", "This idempotency key belongs to another request.")
        return self._posts("id = ?", (row[1],), 1)[0]

    def contain(self, account: str, media: str, kind: str, caption: str) -> str:
        """Step one: a container of checked media. Raises PlatformRefused."""
        if len(caption) > LONGEST_CAPTION or caption.count("#") > MOST_HASHTAGS:
            raise PlatformRefused(400, "OAuthException", "The caption is too long, or has too many hashtags.")
        made = secrets.token_hex(9)
        values = (made, account, media, kind, caption, self.clock())
        self._db.execute("INSERT INTO containers (id, account, media, kind, caption, made_at) VALUES (?, ?, ?, ?, ?, ?)", values)
        return made

    def status(self, container: str) -> str:
        """FINISHED | PUBLISHED | EXPIRED. Raises PlatformRefused for one that never was."""
        row = self._db.execute("SELECT made_at, published FROM containers WHERE id = ?", (container,)).fetchone()
        if row is None:
            raise PlatformRefused(404, "OAuthException", "The container does not exist.")
        if row[1]:
            return "PUBLISHED"
        return "EXPIRED" if self.clock() - row[0] > CONTAINER_LIVES_S else "FINISHED"

    def publish(self, account: str, container: str, key: str | None, asked: object) -> GramPost:
        """Step two. Raises PlatformRefused: expired, published already, more than 50 a day."""
        now = self.clock()
        with writing(self._db) as db:
            state = self.status(container)
            if state != "FINISHED":
                raise PlatformRefused(400, "OAuthException", f"The container is {state}.")
            recent = db.execute("SELECT count(*) FROM posts WHERE account = ? AND made_at > ?", (account, now - _DAY_S)).fetchone()[
                0
            ]
            if recent >= PER_DAY:
                raise PlatformRefused(429, "OAuthException", "Application request limit reached: 50 posts within 24 hours.")
            last = db.execute("SELECT coalesce(max(cast(id AS INTEGER)), 0) FROM posts").fetchone()[0]
            number = max(int(now * 1000) << 10, int(last) + 1)
            row = db.execute("SELECT account, media, kind, caption FROM containers WHERE id = ?", (container,)).fetchone()
            post = GramPost(str(number), row[0], row[1], row[2], row[3], now)
            db.execute("INSERT INTO posts VALUES (?, ?, ?, ?, ?, ?)", tuple(vars(post).values()))
            db.execute("UPDATE containers SET published = 1 WHERE id = ?", (container,))
            if key is not None:
                db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (account, key, _digest(asked), post.id))
        return post

    def posts(self, account: str | None = None, *, limit: int = 100, before: str = "") -> list[GramPost]:
        """Posts newest first, of one account or all, older than `before`."""
        older = int(before) if before.isdigit() else 1 << 62
        if account is None:
            return self._posts("cast(id AS INTEGER) < ?", (older,), limit)
        return self._posts("account = ? AND cast(id AS INTEGER) < ?", (account, older), limit)

    def post(self, post_id: str) -> GramPost | None:
        """One post by its id."""
        found = self._posts("id = ?", (post_id,), 1)
        return found[0] if found else None

    def first_at(self, account: str) -> float | None:
        """When the account first posted (wall seconds)."""
        row = self._db.execute("SELECT min(made_at) FROM posts WHERE account = ?", (account,)).fetchone()
        return None if row[0] is None else float(row[0])

    def used(self, account: str) -> int:
        """Publications within the last 24 hours."""
        since = self.clock() - _DAY_S
        return int(self._db.execute("SELECT count(*) FROM posts WHERE account = ? AND made_at > ?", (account, since)).fetchone()[0])

    def _posts(self, where: str, values: tuple[object, ...], limit: int) -> list[GramPost]:
        rows = self._db.execute(
            f"SELECT id, account, media, kind, caption, made_at FROM posts WHERE {where} ORDER BY cast(id AS INTEGER) DESC LIMIT ?",
            (*values, limit),
        )
        return [GramPost(*row) for row in rows]


def people_did(post: GramPost, first_at: float, audience: Audience) -> Numbers:
    """What people did with a post; `first_at` is when its account first posted (wall seconds)."""
    return audience.numbers(post.id, post.account, first_at, post.made_at, FILM_S if post.kind == "video" else 0.0)


def seen_by(post: GramPost, first_at: float, audience: Audience) -> dict[str, int]:
    """The same by Instagram's names."""
    did = people_did(post, first_at, audience)
    counts = {"reach": did.views, "likes": did.likes, "comments": did.replies, "shares": did.reposts, "saved": did.saves}
    return counts | ({"video_views": int(did.views * 1.3)} if post.kind == "video" else {})


def _digest(asked: object) -> str:
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
