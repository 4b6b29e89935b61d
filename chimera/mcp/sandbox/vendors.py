"""All sandboxes of foreign servers in one process, each at an address of its own: `/NAME/mcp`.

`python -m chimera.mcp.sandbox.vendors --data HOME/mcp/vendors --port P [--only ideogram,runway]`. The one rule: they share a
process to share its memory, and nothing else; each keeps its own folder beside `--data` and has its own weather.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from chimera.mcp.sandbox import ideogram, instagram, luma, midjourney, page, runway, search
from chimera.mcp.sandbox.audience import Audience
from chimera.mcp.sandbox.faults import Faults, faults_of
from chimera.mcp.sandbox.gram import Gram
from chimera.mcp.sandbox.jobs import JobBook
from chimera.mcp.sandbox.serving import health_route, listening_socket, serve, serving_arguments
from chimera.mcp.sandbox.vendor import Vendor
from chimera.media.place import open_media
from chimera.observe import logs

FEEDS = Path("examples/feeds")
STUDIOS: dict[str, Callable[[JobBook], Vendor]] = {
    "ideogram": ideogram.vendor,
    "midjourney": midjourney.vendor,
    "runway": runway.vendor,
    "luma": luma.vendor,
}


def make(name: str, directory: Path, options: argparse.Namespace) -> Vendor:
    """One sandbox over its folder."""
    if name in STUDIOS:
        return STUDIOS[name](JobBook(directory, takes_s=options.takes))
    if name == "wallet":
        # Here and not above: an EVM is much to load, and of an optional package.
        from chimera.mcp.sandbox import chain, wallet

        return wallet.vendor(chain.Chain(directory))
    if name == "instagram":
        return instagram.vendor(
            Gram(directory), open_media(directory.parent.parent, options.media), Audience(directory, options.pace)
        )
    index = search.Index(directory, [*(options.root or [FEEDS]), directory.parent / "feeds"])
    return search.brave(index) if name == "brave" else search.tavily(index)


NAMES = (*STUDIOS, "instagram", "brave", "tavily", "wallet")


async def _serve(vendors: Sequence[tuple[Vendor, Faults]], options: argparse.Namespace) -> None:
    host = options.host
    listening = listening_socket(host, options.port or 0)
    address = f"http://{host}:{listening.getsockname()[1]}"
    apps = []
    for vendor, faults in vendors:
        vendor.base = f"{address}/{vendor.name}"
        server = vendor.server(faults)
        apps.append(
            server.streamable_http_app(
                host=host, stateless_http=True, json_response=not options.sse, custom_starlette_routes=list(vendor.routes)
            )
        )

    @asynccontextmanager
    async def all_of_them(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for app in apps:
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    media = open_media(options.data.parent.parent, options.media)
    routes: list[Route | Mount] = [health_route(), *page.whole_page(options.data.parent, media)]
    routes += [Mount(f"/{vendor.name}", app) for (vendor, _), app in zip(vendors, apps, strict=True)]
    config = uvicorn.Config(
        Starlette(routes=routes, lifespan=all_of_them), host=host, log_level="warning", timeout_graceful_shutdown=2, backlog=1024
    )
    print(address, flush=True)
    await uvicorn.Server(config).serve(sockets=[listening])


def main() -> None:
    parser = serving_arguments("Sandboxes of foreign MCP servers, several in one process")
    parser.add_argument("--data", type=Path, required=True, help="a folder; each sandbox keeps its own beside it")
    parser.add_argument("--only", default=",".join(NAMES), help="comma-separated names; one alone may also be served over stdio")
    parser.add_argument("--media", default=None, help="the media store (s3://bucket/prefix, a folder); default: beside the data")
    parser.add_argument("--takes", type=float, default=1.0, help="seconds that a picture or film takes")
    parser.add_argument(
        "--root", type=Path, action="append", default=[], help="folder of feeds that searches find (examples/feeds)"
    )
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name]
    unknown = sorted(set(names) - set(NAMES))
    if unknown or not names:
        raise SystemExit(f"--only {options.only!r}: there is no sandbox {', '.join(unknown)}: use some of {', '.join(NAMES)}")
    vendors = []
    for name in names:
        directory = options.data.parent / name
        vendor = make(name, directory, options)
        place = argparse.Namespace(**{**vars(options), "data": directory})
        vendors.append((vendor, faults_of(place, name, vendor.tools, vendor.words)))
    if options.http or options.port is not None:
        logs.set_up("sandbox-vendors")
        asyncio.run(_serve(vendors, options))
    elif len(vendors) == 1:
        serve(vendors[0][0].server(vendors[0][1]), options)
    else:
        raise SystemExit("several sandboxes are served over HTTP: give --port, or one name with --only")


if __name__ == "__main__":
    main()
