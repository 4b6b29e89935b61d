"""The Ideogram sandbox: qmediat/ideogram-mcp's tools and words. Jobs are collected by id; images are files in its output folder.

The one rule: a quote is the price of exactly the call that was asked about, and nothing is billed twice for one key.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

from mcp.types import CallToolResult, TextContent, Tool

from chimera.mcp.sandbox.art import picture
from chimera.mcp.sandbox.faults import Words
from chimera.mcp.sandbox.jobs import JobBook, Ordered
from chimera.mcp.sandbox.serving import error_result
from chimera.mcp.sandbox.timeline import PlatformRefused
from chimera.mcp.sandbox.vendor import Vendor, schema

_WAIT = {"type": "integer", "minimum": 0, "maximum": 50}
_RATIO = {"type": "string", "enum": ["1x1", "16x9", "9x16", "4x3", "3x4", "4x5", "5x4", "3x2", "2x3"]}
GENERATE = schema(
    {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 10000},
        "model": {"type": "string", "enum": ["ideogram-3"], "default": "ideogram-3"},
        "aspect_ratio": _RATIO,
        "resolution": {"type": "string", "pattern": "^[0-9]{3,4}x[0-9]{3,4}$"},
        "magic_prompt": {"type": "string", "enum": ["auto", "on", "off"]},
        "negative_prompt": {"type": "string"},
        "num_images": {"type": "integer", "minimum": 1, "maximum": 8},
        "rendering_speed": {"type": "string", "enum": ["turbo", "default", "quality"]},
        "style_type": {"type": "string", "enum": ["auto", "general", "realistic", "design", "fiction"]},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2147483647},
        "private": {"type": "boolean"},
        "wait_s": _WAIT,
    },
    "prompt",
)
TOOLS = (
    Tool(name="ideogram_generate", title="Generate images", input_schema=GENERATE),
    Tool(
        name="ideogram_quote",
        title="Price a call",
        input_schema=schema({"tool": {"type": "string", "enum": ["ideogram_generate"]}, "arguments": {"type": "object"}}, "tool"),
    ),
    Tool(
        name="ideogram_generation",
        title="Collect a generation",
        input_schema=schema({"generation_id": {"type": "string", "minLength": 1}, "wait_s": _WAIT}, "generation_id"),
    ),
    Tool(name="ideogram_usage", title="Account usage", input_schema=schema({})),
)
WORDS = Words(
    busy="Ideogram API error 429: Too Many Requests",
    refusal="Ideogram API error 422: the prompt failed the safety check",
    broken="Ideogram API error 503: Service Unavailable",
)
PRICES = {"turbo": Decimal("0.03"), "default": Decimal("0.06"), "quality": Decimal("0.09")}
"""US dollars an image by rendering speed (Ideogram 3, list price of October 2026)."""
_LONGEST_WAIT_S = 2.0
"""However long a caller is ready to wait, the sandbox answers by then."""


def price(arguments: dict[str, Any]) -> Decimal:
    """What the call costs in US dollars."""
    return PRICES[arguments.get("rendering_speed", "default")] * int(arguments.get("num_images", 1))


def vendor(book: JobBook) -> Vendor:
    """The server over one order book; images go to `out` beside it."""

    async def act(tool: str, arguments: dict[str, Any], account: str, key: str | None) -> CallToolResult:
        if tool == "ideogram_usage":
            return _said(f"Billed so far: {book.billed(account)} USD")
        if tool == "ideogram_quote":
            quoted = price(arguments.get("arguments") or {})
            return _said(
                f"Quote for ideogram_generate (model ideogram-3): {quoted} USD exact.\n"
                f"Credits: {quoted * 100} at your account's own credit rate. Billing identifier: ideogram-3; quantity: 1.\n"
                "Nothing was generated or billed."
            )
        wait_s = min(_LONGEST_WAIT_S, float(arguments.get("wait_s", 45)))
        if tool == "ideogram_generation":
            job = book.get(arguments["generation_id"], account)
        else:
            asked = {name: value for name, value in arguments.items() if name != "wait_s"}
            job = book.order(account, key, tool, asked, price(arguments))
        await asyncio.sleep(max(0.0, min(wait_s, job.ready_at - book.clock())))
        return await asyncio.to_thread(_answer, book, job)

    return Vendor("ideogram", TOOLS, WORDS, act, _refused, book)


def _answer(book: JobBook, job: Ordered) -> CallToolResult:
    if not book.ready(job):
        return _said(
            f"Accepted: generation {job.id} is still running.\n"
            f'Collect it with ideogram_generation {{"generation_id": "{job.id}"}} — do not send the request again'
            " (it would be billed again)."
        )
    shape, count = job.arguments.get("resolution") or job.arguments.get("aspect_ratio", "1x1"), job.arguments.get("num_images", 1)
    head = f"Cost reported by Ideogram: {job.price_usd} USD"
    lines = [
        f"Generation {job.id} completed.",
        head,
        f"{count} of {count} image(s) saved.",
    ]
    for number in range(count):
        path = (book.directory / "out" / f"{job.id}-{number}.png").resolve()
        _keep(path, picture(job.arguments["prompt"], shape, job.seed + number))
        lines += [f"Saved: {path}", f"  Resolution: {shape}", f"  Seed: {job.seed + number}"]
    return _said("\n".join(lines))


def _keep(path: Path, body: bytes) -> None:
    """Whole or not at all: a killed server leaves no half picture under the name."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(body)
        part.replace(path)


def _refused(tool: str, no: PlatformRefused) -> CallToolResult:
    return error_result(f"Ideogram API error {no.status}: {no.detail}")


def _said(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])
