"""The Runway sandbox: the tools and words of runwayml/runway-api-mcp-server. Tasks are asked for by id; links die after a day.

The one rule: an unfinished task is told as the real server tells it, as the task's JSON in a text. (The real `generateVideo` waits
inside the call; the sandbox answers at once, so that the log holds the task's handle.)
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
from mcp.types import CallToolResult, TextContent, Tool, ToolAnnotations

from chimera.mcp.sandbox.art import film, picture
from chimera.mcp.sandbox.faults import Words
from chimera.mcp.sandbox.jobs import JobBook, Ordered
from chimera.mcp.sandbox.serving import error_result
from chimera.mcp.sandbox.studio import file_route, url_of
from chimera.mcp.sandbox.timeline import PlatformRefused
from chimera.mcp.sandbox.vendor import Vendor, schema

_STRING = {"type": "string"}
_TASK = schema({"taskId": _STRING}, "taskId")
_REFERENCES = {"type": "array", "items": schema({"uri": _STRING, "tag": _STRING}, "uri")}


def _hints(title: str, **hints: bool) -> ToolAnnotations:
    return ToolAnnotations(title=title, open_world_hint=True, destructive_hint=False, **hints)


_MAKES = {"read_only_hint": False, "idempotent_hint": False}
TOOLS = (
    Tool(
        name="runway_generateVideo",
        input_schema=schema(
            {"promptImage": _STRING, "promptText": _STRING, "ratio": _STRING, "duration": {"type": "number"}},
            "promptImage",
            "ratio",
            "duration",
        ),
        annotations=_hints("Generate Video", **_MAKES),
    ),
    Tool(
        name="runway_generateImage",
        input_schema=schema({"promptText": _STRING, "ratio": _STRING, "referenceImages": _REFERENCES}, "promptText", "ratio"),
        annotations=_hints("Generate Image", **_MAKES),
    ),
    Tool(
        name="runway_upscaleVideo",
        input_schema=schema({"videoUri": _STRING}, "videoUri"),
        annotations=_hints("Upscale Video", **_MAKES),
    ),
    Tool(
        name="runway_editVideo",
        input_schema=schema(
            {"promptText": _STRING, "videoUri": _STRING, "ratio": _STRING, "referenceImages": _REFERENCES},
            "promptText",
            "videoUri",
            "ratio",
        ),
        annotations=_hints("Edit Video", **_MAKES),
    ),
    Tool(name="runway_getTask", input_schema=_TASK),
    Tool(
        name="runway_refreshTaskUrl",
        input_schema=_TASK,
        annotations=_hints("Refresh Runway Asset URL", read_only_hint=True, idempotent_hint=True),
    ),
    Tool(name="runway_cancelTask", input_schema=_TASK),
    Tool(name="runway_getOrg", input_schema=schema({})),
)
WORDS = Words(
    busy='Runway 429: {"error":"Too many requests"}',
    refusal='Runway 400: {"error":"The prompt did not pass moderation."}',
    broken='Runway 503: {"error":"Service unavailable"}',
)
RATIOS = frozenset(("1280:720", "720:1280", "1104:832", "832:1104", "960:960", "1584:672"))
USD_PER_S = Decimal("0.05")
"""Five credits of a cent each for a second of gen4_turbo."""
USD_PER_IMAGE = Decimal("0.08")


def _is_film(job: Ordered) -> bool:
    return job.tool != "runway_generateImage"


def render(job: Ordered) -> bytes:
    """The file of a finished task."""
    words, shape = job.arguments.get("promptText") or "untitled", job.arguments.get("ratio", "1280:720")
    return film(words, int(job.arguments.get("duration", 5)), shape, job.seed) if _is_film(job) else picture(words, shape, job.seed)


def vendor(book: JobBook) -> Vendor:
    """The server over one order book."""

    async def act(tool: str, arguments: dict[str, Any], account: str, key: str | None) -> CallToolResult:
        if tool == "runway_getOrg":
            return _said({"creditBalance": 100_000 - int(book.billed(account) * 100), "tier": {"maxMonthlyCreditSpend": 100_000}})
        if tool == "runway_cancelTask":
            book.cancel(arguments["taskId"], account)
            return CallToolResult(content=[TextContent(type="text", text=f"Task {arguments['taskId']} cancelled.")])
        if tool in ("runway_getTask", "runway_refreshTaskUrl"):
            job = book.get(arguments["taskId"], account)
            return _told(job) if tool == "runway_refreshTaskUrl" and book.ready(job) else _said(task(job))
        if arguments.get("ratio", "1280:720") not in RATIOS:
            raise PlatformRefused(400, "Bad Request", "Invalid value for `ratio`.")
        if arguments.get("duration", 5) not in (5, 10):
            raise PlatformRefused(400, "Bad Request", "Invalid value for `duration`.")
        price = USD_PER_S * int(arguments.get("duration", 5)) if tool != "runway_generateImage" else USD_PER_IMAGE
        job = book.order(account, key, tool, arguments, price)
        return _told(job) if book.ready(job) else _said(task(job))

    def extension(job: Ordered) -> str:
        return "mp4" if _is_film(job) else "png"

    def task(job: Ordered) -> dict[str, Any]:
        status = "CANCELLED" if job.cancelled else "SUCCEEDED" if book.ready(job) else "RUNNING"
        answer: dict[str, Any] = {"id": job.id, "status": status, "createdAt": job.made_at}
        return answer | ({"output": [url_of(made.base, book, job, extension(job))]} if status == "SUCCEEDED" else {})

    def _told(job: Ordered) -> CallToolResult:
        """A finished one, with the instructions to the model that the real server puts into its text."""
        url, kind = url_of(made.base, book, job, extension(job)), "video" if _is_film(job) else "image"
        text = f"{kind.title()} ready (taskId: {job.id}).\n\nDo not mention the URL string itself or its expiry."
        data = {"kind": kind, "url": url, "taskId": job.id, "prompt": job.arguments.get("promptText")}
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=data)

    made = Vendor("runway", TOOLS, WORDS, act, _refused, book, [file_route(book, render)])
    return made


def _said(data: dict[str, Any]) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=orjson.dumps(data).decode())])


def _refused(tool: str, no: PlatformRefused) -> CallToolResult:
    return error_result(f"Runway {no.status}: {orjson.dumps({'error': no.detail}).decode()}")
