"""The people behind the sandbox platforms: who follows an account, what they do with a post, what they say of themselves.

The one rule: their numbers are a pure function of post, account and the time that the audience has lived. That time is kept on
disk, only ever grows, and stands still where the pace is 0; so no number goes back, whatever is restarted.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chimera.mcp.sandbox.book import open_book

FILE = "audience.sqlite3"
DAY_S = 86_400.0
_HALF_LIFE_S = 5 * 3600.0
"""So long it takes until half of all who will ever see a post have seen it."""
FILM_S = 5.0
"""What the sandboxes' films last, in seconds."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS paces (at REAL NOT NULL, lived REAL NOT NULL, pace REAL NOT NULL);
CREATE TABLE IF NOT EXISTS reached (one INTEGER PRIMARY KEY CHECK (one = 1), lived REAL NOT NULL);
CREATE TABLE IF NOT EXISTS said (about TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Numbers:
    """What people did with a post so far. `watch_s`: seconds of film watched by all together, 0 for what is no film."""

    views: int = 0
    likes: int = 0
    replies: int = 0
    reposts: int = 0
    quotes: int = 0
    saves: int = 0
    watch_s: int = 0


def _share(name: str) -> float:
    """A number from 0 to 1 that is always the same for the same name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def followers(account: str, age_s: float) -> int:
    """Who follows an account that many seconds after its first post; some accounts are found by many, most by few."""
    start = 250 * 2 ** (6 * _share(f"followers {account}") ** 2)
    by_day = 0.002 + 0.01 * _share(f"growth {account}")
    return int(start * (1 + by_day * max(0.0, age_s) / DAY_S))


def numbers(post: str, followed_by: int, age_s: float, film_s: float = 0.0) -> Numbers:
    """What `followed_by` people and their friends did with a post of that age (seconds). Never less at a greater age."""
    pull = _share(f"pull {post}")
    everyone = followed_by * (0.15 + 0.8 * pull * pull) * (12 if _share(f"luck {post}") > 0.97 else 1)
    seen = everyone * (1 - 0.5 ** (max(0.0, age_s) / _HALF_LIFE_S))
    views = int(seen * (1.4 if film_s else 1.0))
    return Numbers(
        views=views,
        likes=int(views * (0.02 + 0.06 * pull)),
        replies=int(views * (0.003 + 0.02 * _share(f"talk {post}"))),
        reposts=int(views * 0.012 * pull),
        quotes=int(views * 0.002 * pull),
        saves=int(views * 0.008 * pull),
        watch_s=int(views * film_s * (0.2 + 0.6 * pull)),
    )


def mentions(account: str, age_s: float) -> int:
    """How often people spoke to the account unasked, so many seconds after its first post: twice a day per 1,000 followers."""
    return int(max(0.0, age_s) / DAY_S * 2 * followers(account, age_s) / 1000)


class Audience:
    """The time that an audience has lived, and what it has said already, in a file beside the platform's own.

    `pace`: how many seconds it lives in one (0: it is not there); None only looks, and writes nothing. `clock` is wall seconds.
    """

    def __init__(self, directory: Path, pace: float | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._looks = clock, pace is None
        self._db = open_book(directory / FILE, _SCHEMA)
        self._paces = self._read()
        if pace is not None and (not self._paces or self._paces[-1][2] != pace):
            self._db.execute("INSERT INTO paces VALUES (?, ?, ?)", (clock(), self.lived(), pace))
            self._paces = self._read()

    def close(self) -> None:
        self._db.close()

    @property
    def there(self) -> bool:
        """Whether time passes for it."""
        return bool(self._paces) and self._paces[-1][2] > 0

    def lived(self, at: float | None = None) -> float:
        """Seconds that the audience had lived by then (wall seconds; None: now, which never goes back)."""
        paces = self._paces
        if at is not None:
            row = paces[max(0, bisect_right(paces, at, key=lambda row: row[0]) - 1)] if paces else (at, 0.0, 0.0)
            return row[1] + max(0.0, at - row[0]) * row[2]
        kept = self._db.execute("SELECT lived FROM reached").fetchone()
        reached = float(kept[0]) if kept is not None else 0.0
        now = self.lived(self._clock())
        # What a second of ours brings may be lived twice after a crash with a clock set back; a write per look would cost more.
        if now > reached + max(1.0, paces[-1][2] if paces else 0.0) and not self._looks:
            self._db.execute("INSERT INTO reached VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET lived = excluded.lived", (now,))
        return max(now, reached)

    def age(self, since: float) -> float:
        """Seconds that the audience has lived since then."""
        return max(0.0, self.lived() - self.lived(since))

    def followers(self, account: str, first_post_at: float | None) -> int:
        """Who follows the account now; an account that never posted has those who always do."""
        return followers(account, 0.0 if first_post_at is None else self.age(first_post_at)) if self._paces else 0

    def numbers(self, post: str, account: str, first_post_at: float, made_at: float, film_s: float = 0.0) -> Numbers:
        """What has become of a post that was made then, of an account that first posted then (wall seconds)."""
        crowd = followers(account, self.lived(made_at) - self.lived(first_post_at))
        return numbers(post, crowd, self.age(made_at), film_s)

    def mentions(self, account: str, first_post_at: float) -> int:
        """How often people have spoken to the account unasked."""
        return mentions(account, self.age(first_post_at))

    def said(self, about: str) -> int:
        """How much of what people have to say of this is said already."""
        row = self._db.execute("SELECT n FROM said WHERE about = ?", (about,)).fetchone()
        return 0 if row is None else int(row[0])

    def note(self, about: str, n: int) -> None:
        """So much is said."""
        self._db.execute("INSERT INTO said VALUES (?, ?) ON CONFLICT (about) DO UPDATE SET n = max(n, excluded.n)", (about, n))

    def _read(self) -> list[tuple[float, float, float]]:
        """Since when the audience lives at which pace. A clock that was set back began no earlier than its forerunner."""
        rows: list[tuple[float, float, float]] = []
        for at, lived, pace in self._db.execute("SELECT at, lived, pace FROM paces ORDER BY rowid"):
            rows.append((max(at, rows[-1][0]) if rows else at, lived, pace))
        return rows
