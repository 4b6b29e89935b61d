"""The order book of a sandbox studio: jobs that take time, idempotency keys, counted calls, links that expire. SQLite, blocking.

The one rule: a job and the key it answers to are on disk in one transaction before the answer leaves, so a killed server neither
forgets a job that was paid for nor makes one key's job twice.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from chimera.mcp.sandbox.book import open_book, writing
from chimera.mcp.sandbox.timeline import PlatformRefused

URL_LIVES_S = 24 * 3600
"""How long a link to a file works, as at Runway, Luma and Midjourney."""
AT_ONCE = 20
"""Jobs of one account that may run at once."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY, account TEXT NOT NULL, key TEXT, tool TEXT NOT NULL, arguments TEXT NOT NULL, asked TEXT NOT NULL,
  made_at REAL NOT NULL, ready_at REAL NOT NULL, price TEXT NOT NULL, cancelled INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_of_key ON jobs (account, key) WHERE key IS NOT NULL;
CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, tool TEXT NOT NULL, account TEXT, key TEXT, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS secret (one INTEGER PRIMARY KEY CHECK (one = 1), secret TEXT NOT NULL);
"""
_COLUMNS = "id, account, tool, arguments, made_at, ready_at, price, cancelled"


@dataclass(frozen=True)
class Ordered:
    """One job; times are seconds since 1970, `price_usd` is what the account was billed when it was taken."""

    id: str
    account: str
    tool: str
    arguments: dict[str, Any]
    made_at: float
    ready_at: float
    price_usd: Decimal
    cancelled: bool

    @property
    def seed(self) -> int:
        """The seed asked for, else one of the job's own."""
        return int(self.arguments.get("seed") or int(self.id[:6], 16))


class JobBook:
    """One order book file. `clock` is wall seconds, `takes_s` how long every job takes."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time, takes_s: float = 0.0) -> None:
        self.directory, self.clock, self.takes_s = directory, clock, takes_s
        self._db = open_book(directory / "jobs.sqlite3", _SCHEMA)
        self._db.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (secrets.token_hex(16),))
        self._secret = str(self._db.execute("SELECT secret FROM secret").fetchone()[0]).encode()

    def close(self) -> None:
        self._db.close()

    def count_call(self, tool: str, account: str, key: str | None) -> None:
        """A call came in, whatever becomes of it."""
        self._db.execute("INSERT INTO calls (tool, account, key, at) VALUES (?, ?, ?, ?)", (tool, account, key, self.clock()))

    def calls_with(self, key: str) -> int:
        """How often a call came with this idempotency key."""
        return int(self._db.execute("SELECT count(*) FROM calls WHERE key = ?", (key,)).fetchone()[0])

    def order(self, account: str, key: str | None, tool: str, arguments: dict[str, Any], price_usd: Decimal) -> Ordered:
        """Take a job, or find the one that this key already ordered. Raises PlatformRefused: 422 another key's, 429 too many."""
        asked = hashlib.sha256(orjson.dumps([tool, arguments], option=orjson.OPT_SORT_KEYS)).hexdigest()
        now = self.clock()
        with writing(self._db):
            row = self._db.execute(
                f"SELECT {_COLUMNS}, asked FROM jobs WHERE account = ? AND key = ? AND key IS NOT NULL", (account, key)
            ).fetchone()
            if row is not None:
                if row[-1] != asked:
                    raise PlatformRefused(422, "Unprocessable", "This idempotency key belongs to another request.")
                return _job(row[:-1])
            count = "SELECT count(*) FROM jobs WHERE account = ? AND ready_at > ? AND NOT cancelled"
            if self._db.execute(count, (account, now)).fetchone()[0] >= AT_ONCE:
                raise PlatformRefused(429, "Too Many Requests", f"{AT_ONCE} jobs of this account are running.")
            made = Ordered(secrets.token_hex(12), account, tool, arguments, now, now + self.takes_s, price_usd, False)
            self._db.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (made.id, account, key, tool, orjson.dumps(arguments).decode(), asked, now, made.ready_at, str(price_usd)),
            )
            return made

    def get(self, job_id: str, account: str | None = None) -> Ordered:
        """One job (of this account). Raises PlatformRefused 404."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None or account not in (None, row[1]):
            raise PlatformRefused(404, "Not Found", "There is no such job.")
        return _job(row)

    def jobs(self, account: str | None = None, limit: int = 100) -> list[Ordered]:
        """Jobs newest first, of one account or all."""
        of = "" if account is None else "WHERE account = ?"
        values = (limit,) if account is None else (account, limit)
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM jobs {of} ORDER BY made_at DESC, rowid DESC LIMIT ?", values)
        return [_job(row) for row in rows]

    def cancel(self, job_id: str, account: str) -> None:
        """Give a job up; what is billed stays billed. Raises PlatformRefused 404."""
        self.get(job_id, account)
        self._db.execute("UPDATE jobs SET cancelled = 1 WHERE id = ?", (job_id,))

    def billed(self, account: str | None = None) -> Decimal:
        """US dollars billed so far."""
        return sum((job.price_usd for job in self.jobs(account, 1 << 31)), Decimal(0))

    def ready(self, job: Ordered) -> bool:
        """Whether the job is done by now."""
        return not job.cancelled and self.clock() >= job.ready_at

    # --- links -------------------------------------------------------------------------------------------------------

    def link(self, job: Ordered, extension: str) -> str:
        """A path with a query that opens the job's file for `URL_LIVES_S`."""
        until = int(self.clock()) + URL_LIVES_S
        return f"files/{job.id}.{extension}?expires={until}&signature={self._signature(job.id, until)}"

    def opened(self, job_id: str, expires: str, signature: str) -> Ordered:
        """The job behind a link. Raises PlatformRefused: 403 for a wrong or expired one, 404."""
        until = int(expires) if expires.isascii() and expires.isdigit() else 0
        if not hmac.compare_digest(self._signature(job_id, until), signature) or self.clock() > until:
            raise PlatformRefused(403, "Forbidden", "This link is wrong or has expired.")
        return self.get(job_id)

    def _signature(self, job_id: str, until: int) -> str:
        return hmac.new(self._secret, f"{job_id} {until}".encode(), hashlib.sha256).hexdigest()[:32]


def _job(row: Any) -> Ordered:
    job_id, account, tool, arguments, made_at, ready_at, price, cancelled = row
    return Ordered(job_id, account, tool, orjson.loads(arguments), made_at, ready_at, Decimal(price), bool(cancelled))
