"""Servers in this process: what their session brings, and what it raises as a wire would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp import ClientSession, MCPError
from mcp.server import Server
from mcp.types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    REQUEST_TIMEOUT,
    CallToolResult,
    ListToolsResult,
    TextContent,
    Tool,
)

from chimera.mcp.inprocess import InProcess

TOOL = Tool(name="say", input_schema={"type": "object"})
KEPT: dict[str, Any] = {"said": [{"word": "hello"}]}


def server(answer: Callable[[], Awaitable[CallToolResult]]) -> Server[Any]:
    async def list_tools(*_: Any) -> ListToolsResult:
        return ListToolsResult(tools=[TOOL])

    async def call_tool(*_: Any) -> CallToolResult:
        return await answer()

    return Server("odd", version="7", on_list_tools=list_tools, on_call_tool=call_tool)


async def hello() -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="hello")], structured_content=KEPT)


async def nothing() -> CallToolResult:
    await asyncio.Event().wait()
    raise AssertionError("never reached")


async def failure() -> CallToolResult:
    raise RuntimeError("a secret of the server")


def asked(at: Server[Any], ask: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        async with ClientSession(dispatcher=InProcess(at), read_timeout_seconds=60) as session:
            await session.discover()
            await session.list_tools()
            return await ask(session)

    return asyncio.run(asyncio.wait_for(go(), 60))


def error_of(at: Server[Any], ask: Callable[[ClientSession], Awaitable[Any]]) -> MCPError:
    async def failing(session: ClientSession) -> MCPError:
        with pytest.raises(MCPError) as raised:
            await ask(session)
        return raised.value

    error = asked(at, failing)
    assert isinstance(error, MCPError)
    return error


def test_a_server_says_who_it_is_and_its_answer_shares_nothing_with_what_it_keeps() -> None:
    async def ask(session: ClientSession) -> CallToolResult:
        assert session.server_info is not None
        assert (session.server_info.name, session.server_info.version) == ("odd", "7")
        return await session.call_tool("say", {})

    answer = asked(server(hello), ask)
    assert answer.structured_content == KEPT
    answer.structured_content["said"][0]["word"] = "changed"
    assert KEPT == {"said": [{"word": "hello"}]}


def test_who_does_not_answer_is_not_waited_for() -> None:
    async def ask(session: ClientSession) -> None:
        await session.call_tool("say", {}, read_timeout_seconds=0.05)

    assert error_of(server(nothing), ask).code == REQUEST_TIMEOUT


def test_a_server_that_fails_is_an_error_of_the_protocol_without_its_words() -> None:
    async def ask(session: ClientSession) -> None:
        await session.call_tool("say", {})

    error = error_of(server(failure), ask)
    assert (error.code, error.message) == (INTERNAL_ERROR, "Internal server error")


def test_what_a_server_does_not_offer_is_told_by_it() -> None:
    async def ask(session: ClientSession) -> None:
        await session.list_prompts()

    assert error_of(server(hello), ask).code == METHOD_NOT_FOUND


def test_after_its_session_nobody_is_asked() -> None:
    async def go() -> None:
        way = InProcess(server(hello))
        async with ClientSession(dispatcher=way, read_timeout_seconds=60) as session:
            await session.discover()
        with pytest.raises(MCPError) as raised:
            await way.send_raw_request("tools/call", {"name": "say"})
        assert raised.value.code == CONNECTION_CLOSED

    asyncio.run(asyncio.wait_for(go(), 60))
