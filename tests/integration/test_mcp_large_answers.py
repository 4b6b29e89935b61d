"""Answers over HTTP that are large: what a film needs is taken, and what never ends is an answer that cannot be read."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
import uvicorn
from mcp.server import Server
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chimera.mcp import connections, transports
from chimera.mcp.connections import Answer, Connection, Target
from chimera.mcp.pins import tool_sha256

How = Literal["json", "event", "compressed"]
TOOL = Tool(name="paint", input_schema={"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]})
PINNED = tool_sha256(TOOL.model_dump(by_alias=True, exclude_none=True, mode="json"))


def painter() -> Server[Any]:
    async def list_tools(*_: Any) -> ListToolsResult:
        return ListToolsResult(tools=[TOOL])

    async def call_tool(_: Any, given: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="x" * given.arguments["size"])])

    return Server("painter", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def answering(app: ASGIApp, how: How) -> ASGIApp:
    """The same server, whose answers to calls come as one event of a stream, or compressed though nobody asked for it."""

    async def answers(scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)
            if message["type"] != "http.response.body" or message.get("more_body"):
                return
            body = b"".join(each.get("body", b"") for each in held)
            headers = [(name, value) for name, value in held[0]["headers"] if name not in (b"content-length", b"content-type")]
            if b"xxx" not in body or how == "json":
                headers = held[0]["headers"]
            elif how == "event":
                headers, body = [*headers, (b"content-type", b"text/event-stream")], b"data: " + body + b"\n\n"
            else:
                json = (b"content-type", b"application/json")
                headers, body = [*headers, json, (b"content-encoding", b"gzip")], gzip.compress(body)
            await send({**held[0], "headers": headers})
            await send({"type": "http.response.body", "body": body})

        await app(scope, receive, hold if scope["type"] == "http" else send)

    return answers


@asynccontextmanager
async def served(how: How) -> AsyncIterator[str]:
    """The painter's address while it runs."""
    app = answering(painter().streamable_http_app(stateless_http=True, json_response=True), how)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        running = asyncio.create_task(server.serve(sockets=[door]))
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            await running


def paint(*sizes: int, how: How) -> list[Answer]:
    """What comes of calls one after the other over one connection."""

    async def go() -> list[Answer]:
        async with served(how) as url:
            connection = Connection(lambda: Target("painter", url=url))
            try:
                return [
                    await connection.call("paint", {"size": size}, schema_sha256=PINNED, meta={}, timeout_s=30) for size in sizes
                ]
            finally:
                await connection.close()

    return asyncio.run(asyncio.wait_for(go(), 90))


@pytest.mark.parametrize("how", ["json", "event"])
def test_a_picture_of_some_megabytes_comes_in_band(how: How) -> None:
    (answer,) = paint(5_000_000, how=how)
    assert (answer.kind, answer.reason) == ("answer", ""), answer.detail
    assert answer.result is not None
    assert len(answer.result.model_dump_json()) > 5_000_000


@pytest.mark.parametrize("how", ["json", "event"])
def test_an_answer_beyond_the_limit_is_unknown_and_other_calls_go_on(how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (connections, transports):
        monkeypatch.setattr(each, "LARGEST_ANSWER", 1_000_000)
    large, small = paint(2_000_000, 10, how=how)
    assert (large.kind, large.result) == ("unknown", None), large
    assert small.kind == "answer", small


def test_an_answer_that_is_compressed_though_nobody_asked_for_it_is_not_unpacked() -> None:
    (answer,) = paint(1_000_000, how="compressed")
    assert answer.kind == "unknown", answer
    assert "compressed" in answer.detail
