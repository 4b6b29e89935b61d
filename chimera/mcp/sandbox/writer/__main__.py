"""`python -m chimera.mcp.sandbox.writer [--http --port P]`: the text writer over stdio or streamable HTTP.

The rule not to break: without CHIMERA_LLM_URL nothing leaves this process.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx2

from chimera.mcp.sandbox.faults import faults_of
from chimera.mcp.sandbox.serving import serve, serving_arguments
from chimera.mcp.sandbox.writer.model import Endpoint, answer
from chimera.mcp.sandbox.writer.server import COMPLETE, WORDS, answer_offline, writer_server
from chimera.settings import Settings


def main() -> None:
    """Read the settings, wire the author, serve."""
    parser = serving_arguments("Text writer: angles, drafts and ratings, offline or by an OpenAI-compatible endpoint")
    parser.add_argument(
        "--data", type=Path, default=None, help="taken so that all servers start alike; the writer keeps faults there"
    )
    options = parser.parse_args()
    settings = Settings()
    faults = faults_of(options, "writer", (COMPLETE,), WORDS)
    if settings.llm_url is None:
        serve(writer_server(answer_offline, "offline", faults), options)
        return
    endpoint = Endpoint(url=settings.llm_url, key=settings.llm_key, model=settings.llm_model)
    client = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=64))
    serve(writer_server(partial(answer, endpoint, client), f"model:{settings.llm_model}", faults), options)


if __name__ == "__main__":
    main()
