"""The Luma sandbox: the tools and words of bobtista/luma-ai-mcp-server. Everything is text, failures too.

The one rule: an error is told as a success that begins with "Error ", as the real server does; the profile must see through it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from mcp.types import CallToolResult, TextContent, Tool

from chimera.mcp.sandbox.art import film, picture
from chimera.mcp.sandbox.faults import Words
from chimera.mcp.sandbox.jobs import JobBook, Ordered
from chimera.mcp.sandbox.studio import file_route, url_of
from chimera.mcp.sandbox.timeline import PlatformRefused
from chimera.mcp.sandbox.vendor import Vendor, schema

_STRING, _BOOLEAN, _INTEGER = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
_RESOLUTION = {"type": "string", "enum": ["540p", "720p", "1080p", "4k"]}
_ID = schema({"generation_id": _STRING}, "generation_id")
TOOLS = tuple(
    Tool(name=name, input_schema=input_schema)
    for name, input_schema in {
        "ping": schema({}),
        "create_generation": schema(
            {
                "prompt": _STRING,
                "model": {"type": "string", "default": "ray-2"},
                "resolution": _RESOLUTION,
                "duration": {"type": "string", "enum": ["5s", "9s"]},
                "aspect_ratio": _STRING,
                "loop": _BOOLEAN,
                "keyframes": {"type": "object"},
                "callback_url": _STRING,
            },
            "prompt",
        ),
        "get_generation": _ID,
        "list_generations": schema({"limit": {**_INTEGER, "default": 10}, "offset": {**_INTEGER, "default": 0}}),
        "delete_generation": _ID,
        "upscale_generation": schema({"generation_id": _STRING, "resolution": _RESOLUTION}, "generation_id", "resolution"),
        "add_audio": schema(
            {"generation_id": _STRING, "prompt": _STRING, "negative_prompt": _STRING, "callback_url": _STRING},
            "generation_id",
            "prompt",
        ),
        "generate_image": schema(
            {"prompt": _STRING, "model": {"type": "string", "enum": ["photon-1", "photon-flash-1"], "default": "photon-1"}},
            "prompt",
        ),
        "get_credits": schema({}),
        "get_camera_motions": schema({}),
    }.items()
)
WORDS = Words(
    busy="Error creating generation: HTTP error 429: {'detail': 'Too many requests'}",
    refusal="Error creating generation: HTTP error 400: {'detail': 'prompt failed moderation'}",
    broken="Error creating generation: HTTP error 503: {'detail': 'Service unavailable'}",
)
USD_PER_S = {"540p": Decimal("0.08"), "720p": Decimal("0.14"), "1080p": Decimal("0.29"), "4k": Decimal("0.55")}
"""US dollars a second of ray-2 by resolution (the sandbox's table)."""
USD_PER_IMAGE = Decimal("0.02")


def price(arguments: dict[str, Any]) -> Decimal:
    """What `create_generation` costs in US dollars."""
    return USD_PER_S[arguments.get("resolution", "720p")] * int(arguments.get("duration", "5s").rstrip("s"))


def render(job: Ordered) -> bytes:
    """The file of a finished generation."""
    if job.tool == "generate_image":
        return picture(job.arguments["prompt"], "1:1", job.seed)
    seconds = int(job.arguments.get("duration", "5s").rstrip("s"))
    return film(job.arguments["prompt"], seconds, job.arguments.get("aspect_ratio", "16:9"), job.seed)


def vendor(book: JobBook) -> Vendor:
    """The server over one order book."""

    async def act(tool: str, arguments: dict[str, Any], account: str, key: str | None) -> CallToolResult:
        if tool == "ping":
            return _said("Luma API is available and responding")
        if tool == "get_credits":
            return _said(f"Credit Information:\nAvailable Credits: {10_000 - book.billed(account):.2f} USD")
        if tool == "list_generations":
            return _said("\n".join(f"ID: {job.id} | State: {state(job)}" for job in book.jobs(account)) or "No generations found")
        if tool in ("create_generation", "generate_image"):
            job = book.order(account, key, tool, arguments, price(arguments) if tool == "create_generation" else USD_PER_IMAGE)
            what = "image generation" if tool == "generate_image" else "advanced generation (starting from an image)"
            return _said(
                f"Created {what if arguments.get('keyframes') or tool == 'generate_image' else 'text-to-video generation'} with"
                f" ID: {job.id}\nState: queued\nCreated at: {_iso(job)}\nModel: {arguments.get('model', 'ray-2')}"
                f"\nPrompt: {arguments['prompt']}"
            )
        job = book.get(str(arguments.get("generation_id", "")), account)
        if tool == "delete_generation":
            book.cancel(job.id, account)
            return _said(f"Generation {job.id} deleted successfully")
        if tool != "get_generation":
            raise PlatformRefused(501, "Not Implemented", f"the sandbox does not play {tool}")
        words = "Image URL" if job.tool == "generate_image" else "Video URL"
        extension = "png" if job.tool == "generate_image" else "mp4"
        file = f"{words}: {url_of(made.base, book, job, extension)}" if book.ready(job) else "No assets available yet"
        return _said(
            f"Generation ID: {job.id}\nType: {'Image' if extension == 'png' else 'Advanced'}\nState: {state(job)}\n"
            f"Created at: {_iso(job)}\nModel: {job.arguments.get('model', 'ray-2')}\nPrompt: {job.arguments['prompt']}\n{file}"
        )

    def state(job: Ordered) -> str:
        return "failed (Reason: deleted)" if job.cancelled else "completed" if book.ready(job) else "dreaming"

    made = Vendor("luma", TOOLS, WORDS, act, _refused, book, [file_route(book, render)])
    return made


def _iso(job: Ordered) -> str:
    return datetime.fromtimestamp(job.made_at, UTC).isoformat()


def _refused(tool: str, no: PlatformRefused) -> CallToolResult:
    doing = {"create_generation": "creating generation", "get_generation": "getting generation"}.get(tool, f"in {tool}")
    return _said(f"Error {doing}: HTTP error {no.status}: {{'detail': '{no.detail}'}}")


def _said(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])
