"""What the sandbox studios share: links to their files, and the route that answers them.

The one rule: a link that has expired opens nothing, as outside; whoever wants the bytes later must have taken them in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from chimera.mcp.sandbox.jobs import JobBook, Ordered
from chimera.mcp.sandbox.timeline import PlatformRefused

Render = Callable[[Ordered], bytes]
"""A finished job's file."""
TYPES = {"png": "image/png", "mp4": "video/mp4"}


def url_of(base: str | None, book: JobBook, job: Ordered, extension: str) -> str:
    """Where the job's file is fetched. Raises PlatformRefused where this server has no address: over stdio it serves no files."""
    if base is None:
        raise PlatformRefused(501, "Not Implemented", "files are fetched over HTTP: start this sandbox with --port")
    return f"{base}/{book.link(job, extension)}"


def file_route(book: JobBook, render: Render) -> Route:
    """`/files/{name}`: a job's file, while its link lives."""

    async def file(request: Request) -> Response:
        job_id, _, extension = str(request.path_params["name"]).partition(".")
        try:
            job = book.opened(job_id, request.query_params.get("expires", ""), request.query_params.get("signature", ""))
        except PlatformRefused as no:
            return PlainTextResponse(no.detail, status_code=no.status)
        return Response(await asyncio.to_thread(render, job), media_type=TYPES.get(extension, "application/octet-stream"))

    return Route("/files/{name}", file)


async def opened(book: JobBook, render: Render, url: str) -> AsyncIterator[bytes]:
    """A file by its link, without HTTP in between (a studio in this process). Raises PlatformRefused."""
    parts = urlsplit(url)
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    job_id = parts.path.rsplit("/", 1)[1].partition(".")[0]
    yield await asyncio.to_thread(render, book.opened(job_id, asked.get("expires", ""), asked.get("signature", "")))
