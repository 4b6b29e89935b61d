"""One supervised connection per MCP server; calls in their own tasks, each with an honest end: answer, not sent, unknown.

The one rule: nothing of a server's death reaches the caller as an exception. An `mcp.Client` cancels the task that entered
it when its transport dies, so each Client lives in a task of its own, and a call is awaited from outside its task: a
CancelledError in a caller is always the caller's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

import httpx2
from mcp import Client, ClientSession, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.server import Server
from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, PaginatedRequestParams

from chimera.elapsed import elapsed
from chimera.mcp.inprocess import InProcess
from chimera.mcp.pins import tool_sha256
from chimera.mcp.transports import LARGEST_ANSWER, OURS, HonestTransport, watched_stdio

log = logging.getLogger(__name__)

_MAX_IN_FLIGHT = 512
_TIMEOUTS_TO_RETIRE = 3


@dataclass(frozen=True)
class Target:
    """One server to reach: an address, a child process, or a server in this process (tests and benchmarks).

    Never log it: `env` and `headers` hold secrets.
    """

    key: str
    server: Server[Any] | None = None
    url: str | None = None
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Answer:
    """How a call ended. `reason` is a short code, `detail` may hold outside words. `server_version`: as the server tells it."""

    kind: Literal["answer", "not_sent", "unknown"]
    reason: str = ""
    detail: str = ""
    result: CallToolResult | None = None
    server_version: str = ""


RELIST_S = 5.0
"""A server whose tools are not the pinned ones is asked for them again no sooner than so many seconds later."""


class _Live:
    """One life of a connection: from the start of its task to its end."""

    def __init__(self) -> None:
        self.session: ClientSession | None = None
        self.tools: dict[str, str] = {}
        self.listed: list[dict[str, Any]] = []
        self.server_version = ""
        self.ready = asyncio.Event()
        self.closing = asyncio.Event()
        self.calls: set[asyncio.Task[CallToolResult]] = set()
        self.death = ""
        self.timeouts = 0
        self.listed_at = 0.0
        self.retired = False
        self.holder: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        return self.session is not None and not self.retired and self.holder is not None and not self.holder.done()

    def retire(self, why: str) -> None:
        """No new calls; the connection closes once its calls have ended."""
        self.retired = True
        self.death = self.death or why
        if not self.calls:
            self.closing.set()

    def ended(self, task: asyncio.Task[CallToolResult]) -> None:
        self.calls.discard(task)
        if self.retired and not self.calls:
            self.closing.set()


class Connection:
    """The connection to one server: made on demand, remade after a death, with doubling delay (0.2 s to 10 s)."""

    def __init__(self, target: Callable[[], Target], *, connect_timeout_s: float = 15.0) -> None:
        self._target = target
        self._connect_timeout_s = connect_timeout_s
        self._lock = asyncio.Lock()
        self._slots = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._live: _Live | None = None
        self._lives: dict[asyncio.Task[None], _Live] = {}
        self._failures = 0
        self._not_before = 0.0

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        schema_sha256: str,
        meta: Mapping[str, Any],
        timeout_s: float,
        stops: Callable[[], Awaitable[str | None]] | None = None,
    ) -> Answer:
        """Call once, never again. Ends within about `timeout_s`, connecting included. Never raises for outside trouble.

        `stops` is asked last of all, when only sending is left: a reason means that nothing is sent.
        """
        deadline = elapsed() + timeout_s
        try:
            if self._slots.locked():
                async with asyncio.timeout(timeout_s):
                    await self._slots.acquire()
            else:
                await self._slots.acquire()  # does not wait
        except TimeoutError:
            return Answer("not_sent", "too_many_calls", f"{_MAX_IN_FLIGHT} calls are in flight")
        try:
            live: _Live | Answer | None = self._live
            if not isinstance(live, _Live) or not live.usable:
                try:
                    async with asyncio.timeout(timeout_s + 0.5):  # a little later than the connect's own limit, which backs off
                        live = await self._connected(timeout_s)
                except TimeoutError:
                    return Answer("not_sent", "server_slow", "connecting took the whole time")
            if isinstance(live, Answer):
                return live
            if live.tools.get(tool) != schema_sha256 and monotonic() - live.listed_at > RELIST_S:
                live.retire("its tools are not the pinned ones")  # the next call lists anew: a mended server is called again
            if tool not in live.tools:
                return Answer("not_sent", "schema_drift", f"the server lists no tool {tool!r}")
            if live.tools[tool] != schema_sha256:
                return Answer("not_sent", "schema_drift", f"the server's {tool!r} is not the pinned one")
            stopped = await stops() if stops is not None else None
            if stopped is not None:
                return Answer("not_sent", stopped)
            left = deadline - elapsed()
            if left <= 0:
                return Answer("not_sent", "server_slow", "connecting took the whole time")
            return await self._sent(live, tool, arguments, meta, left)
        finally:
            self._slots.release()

    async def listing(self) -> list[dict[str, Any]] | Answer:
        """The server's tools as listed at connect, or why there are none."""
        live = await self._connected(self._connect_timeout_s)
        return live if isinstance(live, Answer) else live.listed

    async def _sent(self, live: _Live, tool: str, arguments: Mapping[str, Any], meta: Mapping[str, Any], left: float) -> Answer:
        assert live.session is not None
        # By the session: `Client.call_tool` sends again what a server says that it refused, and only we know what may go out twice.
        call = live.session.call_tool(tool, dict(arguments), read_timeout_seconds=left, meta=dict(meta) or None)  # type: ignore[arg-type]
        task: asyncio.Task[CallToolResult] = asyncio.create_task(call)
        live.calls.add(task)
        task.add_done_callback(live.ended)
        try:
            await asyncio.wait({task}, timeout=left + 0.5)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            task.cancel()
            return self._timed_out(live)
        if task.cancelled():
            return Answer("unknown", "connection_lost", live.death)
        error = task.exception()
        if error is None:
            live.timeouts = 0
            return Answer("answer", result=task.result(), server_version=live.server_version)
        return self._failed(live, error)

    def _failed(self, live: _Live, error: BaseException) -> Answer:
        if not isinstance(error, MCPError):
            # The client raises after the tool ran (an answer that breaks the declared output schema, a broken frame).
            return Answer("unknown", "unreadable_answer", f"{type(error).__name__}: {error}")
        if error.message.startswith(OURS):
            _, sent, name = error.message.split(" ", 2)
            if sent == "not_sent" and not live.retired:
                self._back_off()
            live.retire("a request did not get through")
            if sent == "not_sent":
                return Answer("not_sent", "server_down", name)
            return Answer("unknown", "connection_lost", name)
        if error.code == REQUEST_TIMEOUT:
            return self._timed_out(live)
        if error.code == CONNECTION_CLOSED:
            live.retire("the server closed the connection")
            return Answer("unknown", "connection_lost", error.message)
        return Answer("unknown", "protocol_error", f"{error.code} {error.message}")

    def _timed_out(self, live: _Live) -> Answer:
        live.timeouts += 1
        if live.timeouts >= _TIMEOUTS_TO_RETIRE:
            live.retire("too many calls in a row timed out")
        return Answer("unknown", "timeout")

    async def _connected(self, timeout_s: float) -> _Live | Answer:
        live = self._live
        if live is not None and live.usable:
            return live
        async with self._lock:
            live = self._live
            if live is not None and live.usable:
                return live
            wait = self._not_before - monotonic()
            if wait > 0:
                return Answer("not_sent", "server_down", f"next try in {wait:.1f} s")
            return await self._connect(min(timeout_s, self._connect_timeout_s))

    async def _connect(self, timeout_s: float) -> _Live | Answer:
        live = _Live()
        try:
            target = await asyncio.to_thread(self._target)  # a secret may take a program some time
        except (OSError, KeyError, ValueError) as error:
            return Answer("not_sent", "not_configured", str(error))
        live.holder = asyncio.create_task(self._hold(live, target), name=f"mcp {target.key}")
        self._lives[live.holder] = live
        live.holder.add_done_callback(self._lives.pop)
        ready = asyncio.create_task(live.ready.wait())
        try:
            await asyncio.wait({ready, live.holder}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            live.holder.cancel()
            raise
        finally:
            ready.cancel()
        if live.usable:
            self._live = live
            self._failures = 0
            return live
        live.holder.cancel()
        self._back_off()
        return Answer("not_sent", "server_down", live.death or f"no connection within {timeout_s:g} s")

    def _back_off(self) -> None:
        self._failures += 1
        self._not_before = monotonic() + min(10.0, 0.1 * 2.0 ** min(self._failures, 7))

    async def _hold(self, live: _Live, target: Target) -> None:
        """The task that owns one Client from entering to leaving."""
        try:
            async with AsyncExitStack() as stack:
                session = await _session(stack, target, live)
                live.listed = await _list_tools(session)
                live.listed_at = monotonic()
                live.tools = {str(tool["name"]): tool_sha256(tool) for tool in live.listed}
                told = session.server_info
                live.server_version = "" if told is None else told.version[:100]
                live.session = session
                live.ready.set()
                await live.closing.wait()
        except (Exception, BaseExceptionGroup) as error:  # a dying server may raise anything
            if isinstance(error, BaseExceptionGroup) and error.subgroup((KeyboardInterrupt, SystemExit)):
                raise
            live.death = _describe(error)
            log.warning("MCP server %s: connection ended: %s", target.key, live.death)
        finally:
            live.retired = True
            for task in list(live.calls):
                task.cancel()

    @property
    def idle(self) -> bool:
        """Whether nothing is open."""
        return not self._lives

    def retire(self) -> None:
        """Close as soon as the calls in flight have ended."""
        for live in list(self._lives.values()):
            live.retire("not used for long")

    async def close(self) -> None:
        """End every life of this connection; calls in flight end unknown. Waits at most about 10 s for children to go."""
        lives = dict(self._lives)
        for live in lives.values():
            live.retired = True
            live.closing.set()
        if lives:
            _, late = await asyncio.wait(lives, timeout=5)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=5)


async def _session(stack: AsyncExitStack, target: Target, live: _Live) -> ClientSession:
    """A session that has agreed with the server on a version."""
    if target.server is not None:
        session = await stack.enter_async_context(ClientSession(dispatcher=InProcess(target.server), read_timeout_seconds=15))
        await session.discover()
        return session
    return (await stack.enter_async_context(await _client(stack, target, live))).session


async def _client(stack: AsyncExitStack, target: Target, live: _Live) -> Client:
    if target.url is not None:
        limits = httpx2.Limits(max_connections=_MAX_IN_FLIGHT + 16, max_keepalive_connections=64)
        http = httpx2.AsyncClient(
            transport=HonestTransport(limits=limits, trust_env=False),
            headers={"accept-encoding": "identity", **target.headers},
            timeout=httpx2.Timeout(10.0, read=None),  # every call has its own read timeout
        )
        await stack.enter_async_context(http)
        reached = streamable_http_client(target.url, http_client=http, max_sse_event_size=LARGEST_ANSWER)
        return Client(reached, read_timeout_seconds=15)
    if target.command is None:
        raise ValueError(f"server {target.key} has neither an address nor a command")
    parameters = StdioServerParameters(command=target.command, args=list(target.args), env=dict(target.env))
    return Client(watched_stdio(parameters, lambda: live.retire("the server process ended")), read_timeout_seconds=15)


async def _list_tools(session: ClientSession) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(100):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        tools += [tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in page.tools]
        cursor = page.next_cursor
        if not cursor:
            return tools
    raise ValueError("tools/list has more than 100 pages")


def _describe(error: BaseException) -> str:
    """Types and short texts of what went wrong, without the nesting of groups."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_describe(inner) for inner in error.exceptions))
    return f"{type(error).__name__}: {str(error).replace(OURS, '').strip()[:200]}"
