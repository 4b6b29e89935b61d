"""Files of the media store over HTTP: whole, or the one part that a player asks for.

The rule not to break: who may have a file is for whoever routes to this; here it is only told, in pieces of constant size.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from chimera.media.store import CHUNK, Asset, MediaStore

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


async def played(store: MediaStore, asset: Asset, request: Request, headers: Mapping[str, str]) -> Response:
    """The file, verified as it goes, or the part that is asked for (RFC 9110, section 14): parts have no hash of their own."""
    told = {**headers, "Accept-Ranges": "bytes"}
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or not any(asked.groups()):
        told["Content-Length"] = str(asset.size)
        return StreamingResponse(store.chunks(asset), media_type=asset.media_type, headers=told)
    first, last = asked.groups()
    start = int(first) if first else max(0, asset.size - int(last))
    end = min(asset.size, int(last) + 1 if first and last else asset.size)
    if start >= end:
        return PlainTextResponse("there is no such part", 416, {**headers, "Content-Range": f"bytes */{asset.size}"})
    told |= {"Content-Range": f"bytes {start}-{end - 1}/{asset.size}", "Content-Length": str(end - start)}
    return StreamingResponse(_part(store, asset, start, end), 206, told, asset.media_type)


async def _part(store: MediaStore, asset: Asset, start: int, end: int) -> AsyncIterator[bytes]:
    for at in range(start, end, CHUNK):
        yield await store.part(asset, at, min(end, at + CHUNK))
