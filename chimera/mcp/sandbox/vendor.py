"""What every sandbox of a foreign server is made of: its tools, its way of saying no, what it does, the weather over it.

The one rule: a vendor's file holds what is the vendor's alone; keys, counting, faults and links are alike for all.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mcp.server import Server
from mcp.types import CallToolResult, Tool
from starlette.routing import Route

from chimera.mcp.sandbox.faults import FaultBook, Faults, Words
from chimera.mcp.sandbox.serving import CallContext, tool_server
from chimera.mcp.sandbox.timeline import PlatformRefused

Act = Callable[[str, dict[str, Any], str, str | None], Awaitable[CallToolResult]]
"""(tool, arguments, account, idempotency key) -> answer. Raises PlatformRefused."""


class Counted(Protocol):
    """What notes each call."""

    def count_call(self, tool: str, account: str, key: str | None) -> None: ...


@dataclass
class Vendor:
    """One foreign server, played. `base` is where its files are fetched, without a slash at the end; None: nowhere."""

    name: str
    tools: Sequence[Tool]
    words: Words
    act: Act
    refused: Callable[[str, PlatformRefused], CallToolResult]
    """(tool, the platform's no) -> the words in which this server tells it."""
    book: Counted
    routes: list[Route] = field(default_factory=list)
    base: str | None = None

    def server(self, faults: Faults | None = None) -> Server[Any]:
        weather = faults or Faults(FaultBook(None), self.words)
        wrapped = {tool.name for tool in self.tools if (tool.output_schema or {}).get("required") == ["result"]}

        async def handle(tool: str, arguments: dict[str, Any], context: CallContext) -> CallToolResult:
            account = (context.account or "").removeprefix("@")
            self.book.count_call(tool, account, context.key)

            async def act() -> CallToolResult:
                try:
                    return await self.act(tool, arguments, account, context.key)
                except PlatformRefused as no:
                    return self.refused(tool, no)

            return _shaped(wrapped, tool, await weather.around(tool, act))

        return tool_server(f"{self.name}-sandbox", self.tools, handle, weather.listed)


def _shaped(wrapped: set[str], tool: str, result: CallToolResult) -> CallToolResult:
    """FastMCP wraps a string into `result`, whatever the string says: also a refusal that is told as a success."""
    if tool not in wrapped or result.is_error or result.structured_content is not None:
        return result
    text = "\n".join(str(getattr(block, "text", "")) for block in result.content)
    return result.model_copy(update={"structured_content": {"result": text}})


def recorded_tools(name: str) -> tuple[Tool, ...]:
    """The tools as the real server listed them (names, input and output schemas; its descriptions are not kept)."""
    path = Path(__file__).parent / "schemas" / f"{name}.json"
    return tuple(Tool.model_validate(tool) for tool in json.loads(path.read_text(encoding="utf-8"))["tools"])


def schema(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object's JSON Schema."""
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}
