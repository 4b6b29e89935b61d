"""Mission Control as a process: `chimera run control`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from chimera.control.app import application
from chimera.control.media import Links
from chimera.control.media import application as media_application
from chimera.observe import logs
from chimera.settings import Settings
from chimera.stack.addresses import control_url, load, media_url

log = logging.getLogger(__name__)


class Beside(uvicorn.Server):
    """A server that leaves signals to the one that it stands beside."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


def run(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C: the desk, and media on a port of their own."""
    logs.set_up("control", settings)
    home = settings.home
    desk = uvicorn.Server(_config(application(home, load(settings).postgres), control_url(home)))
    media = Beside(_config(media_application(home, Links(home, media_url(home))), media_url(home)))
    log.info("Mission Control at %s, its media at %s", control_url(home), media_url(home))
    asyncio.run(_both(desk, media))


async def _both(desk: uvicorn.Server, media: uvicorn.Server) -> None:
    """The media end with the desk; a port that is taken ends both, and is told."""
    beside = asyncio.create_task(media.serve())
    try:
        await desk.serve()
    finally:
        media.should_exit = True
        await beside


def _config(app: ASGIApp, url: str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host="127.0.0.1",
        port=urlsplit(url).port or 0,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
