"""Media of the X sandbox: begun, sent in pieces, finished, and then named by id in posts, as X's upload works.

The one rule: an id stands for bytes that are whole and of the type that was said; everything else is refused when it is finished.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from chimera.mcp.sandbox.book import open_book
from chimera.mcp.sandbox.timeline import PlatformRefused
from chimera.media.store import Asset, MediaError, MediaStore, named

LIVES_S = 24 * 3600
LARGEST = {"tweet_image": 5 * 1024 * 1024, "tweet_video": 512 * 1024 * 1024}
MOST_PIECE = 5 * 1024 * 1024
TOOLS = ("initializeMediaUpload", "appendMediaUpload", "finalizeMediaUpload", "getMediaUploadStatus")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
  id INTEGER PRIMARY KEY, account TEXT NOT NULL, media_type TEXT NOT NULL, category TEXT NOT NULL, total INTEGER NOT NULL,
  begun_at REAL NOT NULL, ready_at REAL, asset TEXT);
CREATE TABLE IF NOT EXISTS pieces (upload INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (upload, n));
"""


class XMedia:
    """What was sent, in a file and a media store of the sandbox's own. `film_takes_s`: so long a film is worked on. Blocking."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time, film_takes_s: float = 0.5) -> None:
        self._clock, self._film_takes_s = clock, film_takes_s
        self.store = MediaStore(directory / "media")
        self._db = open_book(directory / "uploads.sqlite3", _SCHEMA)

    def close(self) -> None:
        self._db.close()

    def act(self, tool: str, arguments: dict[str, Any], account: str) -> dict[str, Any]:
        """One of `TOOLS`. Raises PlatformRefused."""
        if tool == "initializeMediaUpload":
            return self._begun(account, arguments)
        upload = int(arguments["media_id"] if tool == "getMediaUploadStatus" else arguments["id"])
        row = self._db.execute("SELECT media_type, category, total, asset, begun_at FROM uploads WHERE id = ? AND account = ?",
                               (upload, account)).fetchone()  # fmt: skip
        if row is None or row[4] + LIVES_S < self._clock():
            raise PlatformRefused(404, "Not Found Error", f"There is no media upload {upload}.")
        if tool == "appendMediaUpload":
            return self._appended(upload, row[3] is not None, arguments)
        if tool == "finalizeMediaUpload" and row[3] is None:
            self._finished(upload, row[0], row[1], row[2])
        return {"data": self._told(upload)}

    def assets(self, account: str, ids: list[str]) -> list[str]:
        """Names of the files behind ids, for a post of this account. Raises PlatformRefused."""
        names = []
        for upload in ids:
            row = self._db.execute("SELECT account, asset, ready_at, begun_at FROM uploads WHERE id = ?", (int(upload),)).fetchone()
            now = self._clock()
            if row is None or row[0] != account or row[1] is None or row[2] > now or row[3] + LIVES_S < now:
                raise PlatformRefused(400, "Invalid Request", "Your media IDs are invalid.")
            names.append(str(row[1]))
        films = sum(is_film(name) for name in names)
        if films and len(names) > 1:
            raise PlatformRefused(400, "Invalid Request", "A Tweet shows one video, or up to four photos.")
        return names

    def _begun(self, account: str, arguments: dict[str, Any]) -> dict[str, Any]:
        category, kind = arguments.get("media_category", "tweet_image"), arguments.get("media_type", "")
        most = LARGEST.get(category)
        if most is None or not kind or kind.startswith("video/") != (category == "tweet_video"):
            raise PlatformRefused(400, "Invalid Request", f"The media type {kind!r} does not go with {category!r}.")
        if not 0 < arguments.get("total_bytes", 0) <= most:
            raise PlatformRefused(400, "Invalid Request", f"File size exceeds {most} bytes.")
        now = self._clock()
        last = self._db.execute("SELECT coalesce(max(id), 0) FROM uploads").fetchone()[0]
        made = max(int(now * 1000) << 18, int(last) + 1)
        self._db.execute(
            "INSERT INTO uploads (id, account, media_type, category, total, begun_at) VALUES (?, ?, ?, ?, ?, ?)",
            (made, account, kind, category, arguments["total_bytes"], now),
        )
        return {"data": {"id": str(made), "media_key": f"3_{made}", "expires_after_secs": LIVES_S}}

    def _appended(self, upload: int, over: bool, arguments: dict[str, Any]) -> dict[str, Any]:
        if over:
            raise PlatformRefused(400, "Invalid Request", "The media upload is finalized.")
        try:
            body = base64.b64decode(arguments["media"], validate=True)
        except binascii.Error:
            raise PlatformRefused(400, "Invalid Request", "The segment is not base64.") from None
        if len(body) > MOST_PIECE:
            raise PlatformRefused(413, "Payload Too Large", f"A segment has at most {MOST_PIECE} bytes.")
        self._db.execute("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?)", (upload, int(arguments["segment_index"]), body))
        return {"data": {"expires_at": int(self._clock()) + LIVES_S}}

    def _finished(self, upload: int, media_type: str, category: str, total: int) -> None:
        rows = self._db.execute("SELECT n, body FROM pieces WHERE upload = ? ORDER BY n", (upload,)).fetchall()
        body = b"".join(bytes(row[1]) for row in rows)
        if [row[0] for row in rows] != list(range(len(rows))) or len(body) != total:
            raise PlatformRefused(400, "Invalid Request", f"{len(body)} of {total} bytes are here.")
        try:
            asset = asyncio.run(_put(self.store, body))
        except MediaError:
            raise PlatformRefused(400, "Invalid Request", "Media type unrecognized.") from None
        if asset.media_type != media_type:
            raise PlatformRefused(400, "Invalid Request", f"The media is {asset.media_type}, and not {media_type}.")
        ready = self._clock() + (self._film_takes_s if category == "tweet_video" else 0.0)
        self._db.execute("UPDATE uploads SET asset = ?, ready_at = ? WHERE id = ?", (asset.name, ready, upload))
        self._db.execute("DELETE FROM pieces WHERE upload = ?", (upload,))

    def _told(self, upload: int) -> dict[str, Any]:
        row = self._db.execute("SELECT total, ready_at, category FROM uploads WHERE id = ?", (upload,)).fetchone()
        data: dict[str, Any] = {"id": str(upload), "media_key": f"3_{upload}", "size": row[0], "expires_after_secs": LIVES_S}
        if row[1] is None:
            data["processing_info"] = {"state": "pending", "check_after_secs": 1}
        elif row[2] == "tweet_video":
            done = row[1] <= self._clock()
            data["processing_info"] = {"state": "succeeded"} if done else {"state": "in_progress", "check_after_secs": 1}
        return data


def is_film(name: str) -> bool:
    """Whether a file of that name is a video."""
    parts = named(name)
    return parts is not None and Asset(parts[0], parts[1], 0).kind == "video"


async def _put(store: MediaStore, body: bytes) -> Asset:
    async def whole() -> AsyncIterator[bytes]:
        yield body

    return await store.put(whole())
