"""How bytes go to an MCP server and come back: HTTP whose failures are told call by call, and a child process that is watched.

The one rule: what fails for one request ends that request alone; the other calls of the connection live on.
"""

from __future__ import annotations

import logging
import secrets as random_secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import orjson
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

log = logging.getLogger(__name__)

OURS = random_secrets.token_hex(12)
"""Marks errors that our own HTTP transport wrote, so that no server can claim that a call was not sent."""
_HTTP_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
LARGEST_ANSWER = 64 << 20
"""Bytes of an answer over HTTP at most: a film may come in band, and a server that never ends must not fill memory."""


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of an answer, as long as they are not too many. A compressed one was not asked for: nobody knows how much it holds.

    Reading raises `StreamError`, which ends this one request and leaves the other calls of the client alive.
    """

    def __init__(self, answer: httpx2.Response) -> None:
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        self._stream, self._encoding = answer.stream, answer.headers.get("content-encoding", "identity")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._encoding.lower() != "identity":
            raise httpx2.StreamError(f"the answer is compressed ({self._encoding[:20]}), which was not asked for")
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > LARGEST_ANSWER:
                raise httpx2.StreamError(f"the answer is larger than {LARGEST_ANSWER:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class HonestTransport(httpx2.AsyncHTTPTransport):
    """Turns a failed POST into a JSON-RPC error for that one request, which keeps the other calls of the client alive."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            answer = await super().handle_async_request(request)
            if request.method == "POST":  # what is listened to otherwise may go on for ever, event by event
                answer.stream = _Bounded(answer)
            return answer
        except httpx2.TransportError as error:
            if request.method != "POST":
                raise
            sent = "not_sent" if isinstance(error, _HTTP_NOT_SENT) else "lost"
            body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": f"{OURS} {sent} {type(error).__name__}"}}
            return httpx2.Response(502, headers={"content-type": "application/json"}, content=orjson.dumps(body), request=request)


@asynccontextmanager
async def watched_stdio(parameters: StdioServerParameters, on_end: Callable[[], None]) -> AsyncGenerator[Any, None]:
    """The SDK's stdio transport, telling us when the child closes its output (otherwise only the next call finds out)."""
    async with stdio_client(parameters) as (read, write):
        send, receive = anyio.create_memory_object_stream[Any](0)

        async def pump() -> None:
            async with send:
                try:
                    async for message in read:
                        await send.send(message)
                except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                    log.debug("a stdio server's stream was closed under the reader")
            on_end()

        async with anyio.create_task_group() as group:
            group.start_soon(pump)
            yield receive, write
            group.cancel_scope.cancel()
