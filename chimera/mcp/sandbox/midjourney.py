"""The Midjourney sandbox: the tools and words of AceDataCloud's server (`mcp-midjourney`). Tasks are asked for by id.

The one rule: its answers are JSON inside the field `result`, as the real server's are; nobody makes them nicer here.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import orjson
from mcp.types import CallToolResult, TextContent

from chimera.mcp.sandbox.art import picture
from chimera.mcp.sandbox.faults import Words
from chimera.mcp.sandbox.jobs import JobBook, Ordered
from chimera.mcp.sandbox.serving import error_result
from chimera.mcp.sandbox.studio import file_route, url_of
from chimera.mcp.sandbox.timeline import PlatformRefused
from chimera.mcp.sandbox.vendor import Vendor, recorded_tools

TOOLS = recorded_tools("midjourney")
WORDS = Words(
    busy="Error: API error 429: Too Many Requests",
    refusal="Error: API error 400: the prompt was refused by moderation",
    broken="Error: API error 503: Service Unavailable",
)
PRICES = {"relax": Decimal("0.03"), "fast": Decimal("0.05"), "turbo": Decimal("0.10")}
"""US dollars a grid by mode."""
_SHAPE = re.compile(r"--ar (\d+:\d+)")


def render(job: Ordered) -> bytes:
    """The file of a finished task."""
    found = _SHAPE.search(job.arguments["prompt"])
    return picture(_SHAPE.sub("", job.arguments["prompt"]).strip(), found[1] if found else "1:1", job.seed)


def vendor(book: JobBook) -> Vendor:
    """The server over one order book."""

    async def act(tool: str, arguments: dict[str, Any], account: str, key: str | None) -> CallToolResult:
        if tool == "midjourney_imagine":
            job = book.order(account, key, tool, arguments, PRICES[arguments.get("mode", "fast")])
            return _result({"task_id": job.id, "trace_id": job.id[::-1], "success": True} if arguments.get("async") else task(job))
        if tool == "midjourney_get_task":
            return _result(task(book.get(str(arguments.get("task_id")), account)))
        raise PlatformRefused(501, "Not Implemented", f"the sandbox does not play {tool}")

    def task(job: Ordered) -> dict[str, Any]:
        state = "cancelled" if job.cancelled else "completed" if book.ready(job) else "pending"
        answer: dict[str, Any] = {"id": job.id, "state": state, "request": job.arguments, "created_at": job.made_at}
        if state == "completed":
            url = url_of(made.base, book, job, "png")
            answer["response"] = {"success": True, "task_id": job.id, "image_url": url, "progress": 100}
        return answer

    made = Vendor("midjourney", TOOLS, WORDS, act, _refused, book, [file_route(book, render)])
    return made


def _result(data: dict[str, Any]) -> CallToolResult:
    text = orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content={"result": text})


def _refused(tool: str, no: PlatformRefused) -> CallToolResult:
    return error_result(f"Error: API error {no.status}: {no.detail}")
