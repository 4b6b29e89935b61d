"""Chimera's own MCP server over HTTP: a client with the token reads, everybody else stays outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from chimera.mcp.own import Readers, own_server, serve_http

TOKEN = "0123456789abcdef0123456789abcdef"


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """The address of a server that answers everything with where it was asked."""

    def answer(*what: str) -> dict[str, Any]:
        return {"asked": list(what)}

    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = own_server(Readers(answer, answer, answer, answer, answer))
    task = asyncio.create_task(serve_http(server, "127.0.0.1", 0, TOKEN, told.set_result))
    try:
        async with asyncio.timeout(60):
            yield await told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ask(url: str, token: str) -> Any:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), read_timeout_seconds=30) as client,
    ):
        return (await client.call_tool("trace", {"target": "ava/1"})).structured_content


def test_who_shows_the_token_reads() -> None:
    async def story() -> None:
        async with served() as url:
            assert await ask(url, TOKEN) == {"asked": ["ava/1"]}

    asyncio.run(story())


def test_without_the_token_every_request_is_turned_away_without_a_reason() -> None:
    async def story() -> None:
        async with served() as url, httpx2.AsyncClient(trust_env=False) as http:
            for headers in ({}, {"Authorization": "Bearer " + "x" * 32}, {"Authorization": TOKEN}):
                answer = await http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
                assert (answer.status_code, answer.content) == (401, b"")

    asyncio.run(story())
