"""The writer's MCP server: one tool, `complete`, answered offline or by a model endpoint.

The rule not to break: whoever answers, the answer has passed the models of `chimera.policy.writing` before it leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server import Server
from mcp.types import CallToolResult, Tool
from pydantic import BaseModel, ValidationError

from chimera.mcp.sandbox.serving import CallContext, error_result, json_result, tool_server
from chimera.mcp.sandbox.writer import offline
from chimera.mcp.sandbox.writer.model import ModelFailed
from chimera.policy.writing import (
    REQUESTS,
    AnglesRequest,
    DraftRequest,
    Purpose,
    RateRequest,
    ReplyRequest,
)

Answer = Callable[[Purpose, Any], Awaitable[BaseModel]]
"""(purpose, checked request) -> checked response. Raises CannotWrite or ModelFailed."""

COMPLETE = Tool(
    name="complete",
    description="Find angles in articles, draft a text or a reply in a persona's voice, or rate a text against brief and sources.",
    input_schema={
        "type": "object",
        "properties": {
            "purpose": {"type": "string", "enum": ["angles", "draft", "rate", "reply"]},
            "request": {"type": "object", "description": "the purpose's request model of chimera.policy.writing"},
        },
        "required": ["purpose", "request"],
        "additionalProperties": False,
    },
)


LONG_CHARS = 20_000
"""From so much source text on, an answer takes longer than others may be held up."""


async def answer_offline(purpose: Purpose, request: Any) -> BaseModel:
    """Computed here; a long one in a thread, so that it does not hold up the others."""
    if sum(len(article.text) for article in request.articles) < LONG_CHARS:
        return _compute(purpose, request)
    return await asyncio.to_thread(_compute, purpose, request)


def _compute(purpose: Purpose, request: Any) -> BaseModel:
    if purpose == "angles" and isinstance(request, AnglesRequest):
        return offline.angles(request)
    if purpose == "draft" and isinstance(request, DraftRequest):
        return offline.draft(request)
    if purpose == "reply" and isinstance(request, ReplyRequest):
        return offline.reply(request)
    if isinstance(request, RateRequest):
        return offline.rate(request)
    raise offline.CannotWrite(f"{purpose}: the request is a {type(request).__name__}: send the one that belongs to the purpose")


def writer_server(answer: Answer, author: str) -> Server[Any]:
    """The server. `author` (`offline` or `model:<name>`) travels as `writer` beside every answer's fields."""

    async def handle(tool: str, arguments: dict[str, Any], context: CallContext) -> CallToolResult:
        purpose: Purpose = arguments["purpose"]
        try:
            request = REQUESTS[purpose].model_validate(arguments["request"])
        except ValidationError as error:
            return error_result(f"bad_request: {purpose}: {_places(error)}")
        try:
            made = await answer(purpose, request)
        except offline.CannotWrite as error:
            return error_result(f"cannot_write: {error}")
        except ModelFailed as error:
            return error_result(f"{error.code}: {error}")
        return json_result({"purpose": purpose, "writer": author, **made.model_dump(mode="json")})

    return tool_server("text-writer", (COMPLETE,), handle)


def _places(error: ValidationError) -> str:
    """Where a request is wrong; its contents are not repeated."""
    found = [f"{'.'.join(str(step) for step in e['loc'])}: {e['msg']}" for e in error.errors(include_input=False)[:5]]
    return "; ".join(found)
