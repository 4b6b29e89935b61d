"""How every sandbox server is served: literal tool schemas, our own validation, stdio or streamable HTTP.

The one rule: arguments are checked against the very schema that the server lists, because the lowlevel server checks none.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import uvicorn
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from chimera.mcp.schemas import Schema
from chimera.observe import logs


@dataclass(frozen=True)
class CallContext:
    """What a caller says beside the arguments: `_meta` `chimera/account` and `chimera/idempotency-key`."""

    account: str | None
    key: str | None


Handler = Callable[[str, dict[str, Any], CallContext], Awaitable[CallToolResult]]
"""(tool, arguments, context) -> result."""


def json_result(data: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> CallToolResult:
    """A success: JSON as text and as structured content."""
    text = TextContent(type="text", text=orjson.dumps(data).decode())
    return CallToolResult(content=[text], structured_content=dict(data), _meta=dict(meta) if meta else None)


def error_result(text: str) -> CallToolResult:
    """A tool error, as text."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def tool_server(
    name: str, tools: Sequence[Tool], handle: Handler, listed: Callable[[Sequence[Tool]], list[Tool]] = list
) -> Server[Any]:
    """A lowlevel server that lists `tools` literally (or as `listed` makes them) and validates against their input schemas."""
    schemas = {tool.name: Schema(tool.input_schema) for tool in tools}

    async def list_tools(_: Any, __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=listed(tools))

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        schema = schemas.get(params.name)
        if schema is None:
            return error_result(f"Unknown tool: {params.name!r}")
        arguments = params.arguments or {}
        misfits = schema.misfits(arguments)
        if misfits:
            return error_result(f"Input validation error: {'; '.join(f'{each.at}: {each.message}' for each in misfits)}")
        meta = context.meta or {}
        account, key = meta.get("chimera/account"), meta.get("chimera/idempotency-key")
        return await handle(params.name, arguments, CallContext(account and str(account), key and str(key)))

    server: Server[Any] = Server(name, version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    server.middleware.clear()  # it makes a span of each call, and nobody exports the spans of a sandbox: 17 us
    return server


def serving_arguments(description: str) -> argparse.ArgumentParser:
    """`--http`, `--host`, `--port`: given a port, HTTP; else stdio."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--http", action="store_true", help="serve streamable HTTP at /mcp instead of stdio")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=None, help="port to listen on (implies --http; 0 takes a free one)")
    parser.add_argument("--faults", default="", help="[tool:]kind[(seconds)][=calls][@chance],... (see chimera sandbox fault)")
    parser.add_argument("--fault-seed", type=int, default=0, help="what chances are drawn with")
    parser.add_argument(
        "--pace", type=float, default=0.0, help="seconds that the audience of a platform lives in one; 0: there is no audience"
    )
    parser.add_argument("--sse", action="store_true", help="answer over HTTP as an event stream, as many servers do")
    return parser


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok")


def health_route() -> Route:
    """`/healthz`: answers once the server serves."""
    return Route("/healthz", _healthz)


def serve(server: Server[Any], options: argparse.Namespace, routes: Sequence[Route] = ()) -> None:
    """Run until stdin closes (stdio) or a signal (HTTP). HTTP prints its address as the first line of output."""
    logs.set_up(server.name)
    if options.http or options.port is not None:
        asyncio.run(_serve_http(server, options, routes))
    else:
        asyncio.run(serve_stdio(server))


async def serve_stdio(server: Server[Any]) -> None:
    """Run until stdin closes."""
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def _serve_http(server: Server[Any], options: argparse.Namespace, routes: Sequence[Route]) -> None:
    host, port = options.host, options.port or 0
    app = server.streamable_http_app(
        host=host,
        stateless_http=True,
        json_response=not options.sse,
        custom_starlette_routes=[health_route(), *routes],
    )
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2, backlog=1024)
    listening = listening_socket(host, port)
    print(f"http://{host}:{listening.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listening])


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that names its protocol: asyncio sets TCP_NODELAY only then, and without it a call takes 40 ms more."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)  # before the address is told: whoever reads it may connect at once
    except OSError as error:
        listening.close()
        raise SystemExit(f"cannot listen on {host}:{port}: {error.strerror}: choose another --port") from None
    return listening
