"""`python -m chimera.mcp.sandbox.embeddings [--http --port P]`: texts as vectors, by any OpenAI-compatible `/embeddings` endpoint.

The rules not to break: one vector for each text, in their order, or an error; without CHIMERA_EMBEDDING_URL nothing leaves.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from mcp.server import Server
from mcp.types import CallToolResult, Tool

from chimera.mcp.sandbox.faults import FaultBook, Faults, Words, faults_of
from chimera.mcp.sandbox.serving import CallContext, error_result, json_result, serve, serving_arguments, tool_server
from chimera.mcp.sandbox.writer.model import Endpoint, ModelFailed, post
from chimera.settings import Settings

MOST_TEXTS = 64
"""Texts of one call."""
EMBED = Tool(
    name="embed",
    description="Vectors of texts by one model: for each text, in order, its numbers as base64 of 32-bit floats, little-endian.",
    input_schema={
        "type": "object",
        "properties": {"texts": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_TEXTS}},
        "required": ["texts"],
        "additionalProperties": False,
    },
)
WORDS = Words(busy="unreachable: the model takes no more texts now", refusal="refused: the model does not take this")
Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]
"""Texts -> one vector each. Raises ModelFailed."""


async def by_endpoint(endpoint: Endpoint, client: httpx2.AsyncClient, texts: Sequence[str]) -> list[list[float]]:
    """What the endpoint makes of texts. Raises ModelFailed where it is not one finite vector for each, all of one size."""
    said = await post(endpoint, client, "embeddings", {"model": endpoint.model, "input": list(texts)})
    try:
        made = {int(each["index"]): [float(number) for number in each["embedding"]] for each in said["data"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFailed("bad_answer", "no data[].embedding in the answer: is the endpoint OpenAI-compatible?") from error
    if sorted(made) != list(range(len(texts))):
        raise ModelFailed("bad_answer", f"{len(made)} vectors for {len(texts)} texts: choose another model")
    vectors = [made[n] for n in range(len(texts))]
    if len({len(vector) for vector in vectors}) != 1 or not all(map(_usable, vectors)):
        raise ModelFailed("bad_answer", "a vector is empty, all nought, of another size than the others or not finite")
    return vectors


async def by_nobody(texts: Sequence[str]) -> list[list[float]]:
    """Where no endpoint is named."""
    raise ModelFailed("unreachable", f"no endpoint is named that embeds {len(texts)} texts: set CHIMERA_EMBEDDING_URL")


def embeddings_server(embed: Embed, model: str, faults: Faults | None = None) -> Server[Any]:
    """The server. `model` travels beside the vectors: those of two models say nothing to each other."""

    async def handle(tool: str, arguments: dict[str, Any], context: CallContext) -> CallToolResult:
        try:
            vectors = await embed(arguments["texts"])
        except ModelFailed as error:
            return error_result(f"{error.code}: {error}")
        packed = [base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
        return json_result({"model": model, "dimensions": len(vectors[0]), "vectors": packed})

    weather = faults or Faults(FaultBook(None), WORDS)
    return tool_server("embeddings", (EMBED,), weather.over(handle), weather.listed)


def _usable(vector: Sequence[float]) -> bool:
    return bool(vector) and all(map(math.isfinite, vector)) and any(vector)


def main() -> None:
    """Read the settings, wire the endpoint, serve."""
    parser = serving_arguments("Texts as vectors by an OpenAI-compatible endpoint")
    parser.add_argument("--data", type=Path, default=None, help="where faults are kept")
    options = parser.parse_args()
    settings = Settings()
    faults = faults_of(options, "embeddings", (EMBED,), WORDS)
    embed: Embed = by_nobody
    if settings.embedding_url is not None:
        endpoint = Endpoint(settings.embedding_url, settings.embedding_key, settings.embedding_model, settings="CHIMERA_EMBEDDING")
        embed = partial(by_endpoint, endpoint, httpx2.AsyncClient(limits=httpx2.Limits(max_connections=8)))
    serve(embeddings_server(embed, settings.embedding_model, faults), options)


if __name__ == "__main__":
    main()
