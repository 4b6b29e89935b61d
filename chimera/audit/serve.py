"""Trees over HTTP, read-only, at the paths of C2SP tlog-tiles: `chimera audit serve`. Anybody's monitor or witness may read them.

The rule not to break: it serves checkpoints, tiles and entries below one directory and nothing else, whatever a path says.

    GET /logs                                     the trees, one `topic/partition` a line (ours: C2SP lists no logs)
    GET /TOPIC/PARTITION/checkpoint               the signed note
    GET /TOPIC/PARTITION/tile/L/N[.p/W]           hashes
    GET /TOPIC/PARTITION/tile/entries/N[.p/W]     leaves
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from chimera.audit.tlog import HASH_SIZE, WIDTH, Tile
from chimera.audit.tree import CHECKPOINT, TreeDamaged, bundle_of, read_bundle

LOGS = "/logs"
_LOG = re.compile(r"[A-Za-z0-9._-]{1,100}/[0-9]{1,5}")
_TILE = re.compile(r"(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_NOW = {"Cache-Control": "no-cache"}


def logs_below(directory: Path) -> list[str]:
    """The trees that were signed at least once, as `topic/partition`."""
    found = (str(path.parent.relative_to(directory)) for path in directory.glob(f"*/*/{CHECKPOINT}"))
    return sorted(name for name in found if _LOG.fullmatch(name))


def tile_named(path: str) -> Tile | None:
    """The tile of a path below `tile/`; None where the path names none as C2SP writes it."""
    found = _TILE.fullmatch(path)
    if found is None:
        return None
    kind, number, width = found.groups()
    tile = Tile(-1 if kind == "entries" else int(kind), int(re.sub(r"[x/]", "", number)), int(width or WIDTH))
    return tile if tile.path == f"tile/{path}" else None  # no second spelling of anything


def application(directory: Path) -> Starlette:
    """The web application over the trees below `directory` (`.chimera/audit`, or `trees` of an export)."""

    def logs(request: Request) -> Response:
        return PlainTextResponse("".join(f"{name}\n" for name in logs_below(directory)), headers=_NOW)

    def checkpoint(request: Request) -> Response:
        try:
            return PlainTextResponse((_log(request) / CHECKPOINT).read_bytes(), headers=_NOW)
        except OSError:
            return _nothing()

    def tile(request: Request) -> Response:
        wanted = tile_named(request.path_params["path"])
        raw = None if wanted is None else _bytes(_log(request), wanted)
        return _nothing() if raw is None else Response(raw, media_type="application/octet-stream", headers=_FOR_EVER)

    def _log(request: Request) -> Path:
        name = f"{request.path_params['topic']}/{request.path_params['partition']}"
        return directory / name if _LOG.fullmatch(name) and ".." not in name else directory / "none"

    return Starlette(
        routes=[
            Route(LOGS, logs),
            Route("/{topic}/{partition}/checkpoint", checkpoint),
            Route("/{topic}/{partition}/tile/{path:path}", tile),
        ]
    )


def _nothing() -> Response:
    return PlainTextResponse("there is no such file\n", 404)


def _bytes(directory: Path, tile: Tile) -> bytes | None:
    """A tile's bytes, from a wider one where the tree has grown over it; None where there is none so wide."""
    full = directory / tile._replace(width=WIDTH).path
    partial = full.with_name(full.name + ".p")
    try:
        widths = sorted(int(each.name) for each in partial.iterdir() if each.name.isdecimal()) if partial.is_dir() else []
    except OSError:  # swept away while it was looked at
        widths = []
    for path in [*(partial / str(width) for width in widths if width >= tile.width), full]:
        try:
            raw = path.read_bytes()
            if tile.level < 0:
                return bundle_of(read_bundle(raw, path, tile.width))
        except (OSError, TreeDamaged):
            continue
        if len(raw) >= tile.width * HASH_SIZE:
            return raw[: tile.width * HASH_SIZE]
    return None
