"""The feed reader: an MCP server with one tool, `read_feed`, for RSS and Atom from the web or from allowed folders.

`python -m chimera.mcp.sandbox.feeds [--root DIR ...] [--port P]`. The one rule: it dials only addresses that the egress
guard has judged, on every redirect again, and reads only files under its roots.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import httpx2
from mcp.server import Server
from mcp.types import CallToolResult, Tool

from chimera.mcp.egress import EgressDenied, check_path, check_url, public_addresses
from chimera.mcp.sandbox.faults import FaultBook, Faults, Words, faults_of
from chimera.mcp.sandbox.feed_text import BrokenFeed, parse_feed
from chimera.mcp.sandbox.serving import CallContext, error_result, json_result, serve, serving_arguments, tool_server

LARGEST_FEED = 2 * 1024 * 1024
_WHOLE_READ_S = 20.0
_REDIRECTS = 5
KEEP_S = 60.0
"""So long is an answer from the web given again: a thousand agents that read one site's feed are one reader to that site."""
_MOST_KEPT = 32

READ_FEED = Tool(
    name="read_feed",
    description="Read an RSS 2.0 or Atom feed from an http(s) address or a file, newest as the feed orders them.",
    input_schema={
        "type": "object",
        "properties": {
            "source": {"type": "string", "minLength": 1, "maxLength": 2000, "description": "http(s) URL or file path"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        },
        "required": ["source"],
        "additionalProperties": False,
    },
)


WORDS = Words(busy="unreachable: the reader takes no more requests now", refusal="not_allowed: this source is not to be read")


class FeedUnavailable(Exception):
    """A source could not be read; `code` is what the profile's rules look for."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


async def fetch(url: str, *, allow_local: bool) -> bytes:
    """The bytes behind an address. Raises FeedUnavailable or EgressDenied."""
    target = httpx2.URL(url)
    for _ in range(_REDIRECTS + 1):
        await check_url(str(target), allow_local=allow_local)
        port = target.port or (443 if target.scheme == "https" else 80)
        addresses = await public_addresses(target.host, port, allow_local=allow_local)
        # A client per dial: a pooled connection would be reused for another host name at the same address.
        async with httpx2.AsyncClient(trust_env=False, timeout=httpx2.Timeout(10.0)) as client:
            answer = await _dial(client, target, addresses[0])
        if isinstance(answer, bytes):
            return answer
        target = target.join(answer)
    raise FeedUnavailable("unreachable", f"more than {_REDIRECTS} redirects")


async def _within_time(url: str, *, allow_local: bool) -> bytes:
    async with asyncio.timeout(_WHOLE_READ_S):
        return await fetch(url, allow_local=allow_local)


async def _dial(client: httpx2.AsyncClient, target: httpx2.URL, address: str) -> bytes | str:
    """Ask the judged address itself, under the host's name; the body, or where a redirect points."""
    request = client.build_request(
        "GET",
        target.copy_with(host=address),
        headers={
            "Host": target.netloc.decode("ascii"),
            "User-Agent": "chimera-feed-reader/1",
            "Accept": "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.1",
        },
        extensions={"sni_hostname": target.host},
    )
    response = await client.send(request, stream=True)
    try:
        location = response.headers.get("location")
        if response.status_code in (301, 302, 303, 307, 308) and location:
            return str(location)
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise FeedUnavailable("unreachable", f"HTTP {response.status_code}")
        if response.status_code != 200:
            raise FeedUnavailable("not_found", f"HTTP {response.status_code}")
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > LARGEST_FEED:
                raise FeedUnavailable("too_large", f"more than {LARGEST_FEED} bytes")
        return bytes(body)
    finally:
        await response.aclose()


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises FeedUnavailable."""
    try:
        if not path.is_file():
            raise FeedUnavailable("not_found", "no such file")
        with path.open("rb") as file:
            raw = file.read(LARGEST_FEED + 1)
    except OSError as error:
        raise FeedUnavailable("not_found", str(error.strerror)) from error
    if len(raw) > LARGEST_FEED:
        raise FeedUnavailable("too_large", f"more than {LARGEST_FEED} bytes")
    return raw


@lru_cache(maxsize=8)  # a fleet reads the same few feeds; other bytes are another entry
def _parsed(raw: bytes, limit: int) -> dict[str, Any]:
    return parse_feed(raw, limit)


class Kept:
    """What `load` answered for an address within the last `KEEP_S`. Who asks while it is being loaded waits for that one answer;
    a failure is told to them all and is not kept."""

    def __init__(self, load: Callable[[str], Awaitable[bytes]], now: Callable[[], float] = time.monotonic) -> None:
        self._load, self._now = load, now
        self._held: dict[str, tuple[float, asyncio.Task[bytes]]] = {}

    async def get(self, url: str) -> bytes:
        """The bytes behind an address. Raises what loading raises."""
        until, task = self._held.get(url, (0.0, None))
        if task is None or (task.done() and (self._now() >= until or task.cancelled() or task.exception() is not None)):
            self._held.pop(url, None)  # the newest stand last, and the oldest go first
            while len(self._held) >= _MOST_KEPT:
                del self._held[next(iter(self._held))]
            task = asyncio.ensure_future(self._load(url))
            self._held[url] = (self._now() + KEEP_S, task)
        return await asyncio.shield(task)  # one that gives up takes the answer from nobody


class FeedReader:
    """The tool over a set of roots."""

    def __init__(self, roots: Sequence[Path], *, allow_local: bool = False, faults: Faults | None = None) -> None:
        self._faults = faults or Faults(FaultBook(None), WORDS)
        self._roots = tuple(roots)
        self._kept = Kept(partial(_within_time, allow_local=allow_local))

    async def handle(self, tool: str, arguments: dict[str, Any], context: CallContext) -> CallToolResult:
        """Read one feed; every failure is a tool error that begins with its code and names the source."""
        source = arguments["source"]
        try:
            async with asyncio.timeout(_WHOLE_READ_S):
                limit = arguments.get("limit", 20)
                if "://" in source:
                    raw = await self._kept.get(source)
                    return json_result(await asyncio.to_thread(_parsed, raw, limit))
                path = check_path(source, self._roots)
                return json_result(await asyncio.to_thread(lambda: _parsed(read_file(path), limit)))
        except BrokenFeed as error:
            return error_result(f"broken_feed: {source}: {error}")
        except EgressDenied as error:
            return error_result(f"not_allowed: {source}: {error}")
        except FeedUnavailable as error:
            return error_result(f"{error.code}: {source}: {error}")
        except TimeoutError:
            return error_result(f"unreachable: {source}: no answer within {_WHOLE_READ_S:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return error_result(f"unreachable: {source}: {type(error).__name__} {error}")

    def server(self) -> Server[Any]:
        return tool_server("feed-reader", (READ_FEED,), self._faults.over(self.handle), self._faults.listed)


def main() -> None:
    parser = serving_arguments("Feed reader: RSS and Atom from the web or from allowed folders")
    parser.add_argument(
        "--root", type=Path, action="append", default=[], help="folder that file sources may lie under (default: examples)"
    )
    parser.add_argument("--data", type=Path, default=None, help="one more such folder: feeds that an operator put there")
    parser.add_argument("--allow-local", action="store_true", help="also read from private and loopback addresses")
    options = parser.parse_args()
    roots = [*(options.root or [Path("examples")]), *([options.data] if options.data else [])]
    faults = faults_of(options, "feeds", (READ_FEED,), WORDS)
    serve(FeedReader(roots, allow_local=options.allow_local, faults=faults).server(), options)


if __name__ == "__main__":
    main()
