"""Trees that somebody serves over HTTP (`chimera audit serve`, C2SP tlog-tiles), as the witness reads them.

The rule not to break: the server is the one who is watched. What it sends is bounded before it is read, no redirect is followed,
and nothing is believed that the witness does not compute from it.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from chimera.audit.tlog import HASH_SIZE, WIDTH, Tile
from chimera.audit.tree import CHECKPOINT, StoredTree, TreeDamaged
from chimera.errors import ChimeraError

SCHEMES = ("http://", "https://")
TIMEOUT_S = 30.0
MOST_LOGS = 10_000
_LOG = re.compile(r"[A-Za-z0-9._-]{1,100}/[0-9]{1,5}")
_LARGEST_NOTE = 64 * 1024


class Unreachable(ChimeraError):
    """The server did not answer, or not as one that serves trees. It says nothing about the trees."""


class Server:
    """A server of trees, by its address; for one thread. Raises `Unreachable`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise Unreachable(f"{url}: write http(s)://host[:port][/path]")
        self.url = url.rstrip("/")
        self._below = parts.path.rstrip("/")
        made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = made(parts.hostname, parts.port, timeout=TIMEOUT_S)

    def logs(self) -> list[str]:
        """The trees it shows, as `topic/partition`."""
        text = self._get("/logs", 120 * MOST_LOGS)
        names = [] if text is None else text.decode(errors="replace").splitlines()
        strange = next((name for name in names if not _LOG.fullmatch(name)), None)
        if text is None or strange is not None or len(names) > MOST_LOGS:
            raise Unreachable(f"{self.url}/logs is no list of trees ({strange!r}): is this `chimera audit serve`?")
        return sorted(set(names))

    def note(self, name: str) -> bytes:
        """The checkpoint of a tree; no bytes where it shows none."""
        return self._get(f"/{name}/{CHECKPOINT}", _LARGEST_NOTE) or b""

    def tree(self, name: str, size: int) -> StoredTree:
        """The tree of that name. Reading it raises `TreeDamaged`, and `Unreachable`."""
        return _ServedTree(self, name, size)

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()

    def _get(self, path: str, most: int) -> bytes | None:
        """The answer's body; None for 404. A connection that broke is opened once more."""
        for last in (False, True):
            try:
                self._connection.request("GET", self._below + path, headers={"Accept-Encoding": "identity"})
                answer = self._connection.getresponse()
                body = answer.read(most + 1)
                status = answer.status
                if len(body) > most:
                    self._connection.close()
                    raise Unreachable(f"{self.url}{path} is larger than {most} bytes: this is no server of trees")
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if last:
                    raise Unreachable(f"{self.url} does not answer ({error or type(error).__name__}): is it up?") from error
                continue
            if status == 200:
                return body
            if status == 404:
                return None
            raise Unreachable(f"{self.url}{path} answers {status}: it has to serve trees at this very address")
        raise AssertionError("unreachable")

    def tile(self, name: str, path: str, most: int) -> bytes | None:
        """A tile's bytes, None where it has none."""
        return self._get(f"/{name}/{path}", most)


class _ServedTree(StoredTree):
    def __init__(self, server: Server, name: str, size: int) -> None:
        super().__init__(Path(name), size)
        self._server, self._name = server, name

    def _read(self, tile: Tile) -> bytes:
        need = tile.width * HASH_SIZE
        for each in self._ways(tile):
            raw = self._server.tile(self._name, each.path, WIDTH * HASH_SIZE)
            if raw is not None and len(raw) >= need:
                return raw[:need]
        raise TreeDamaged(
            f"{self._server.url}/{self._name}/{tile.path} is not there with {need} bytes, though a checkpoint counts it"
        )

    @staticmethod
    def _ways(tile: Tile) -> Iterator[Tile]:
        """The tile, and the full one of its number: a partial one may go once it is full."""
        yield tile
        if tile.width != WIDTH:
            yield tile._replace(width=WIDTH)
