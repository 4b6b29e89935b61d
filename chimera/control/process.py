"""Mission Control as a process: `chimera run control`."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import uvicorn

from chimera.control.app import application
from chimera.observe import logs
from chimera.settings import Settings
from chimera.stack.addresses import control_url, load

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logs.set_up("control", settings)
    app = application(settings.home, load(settings).postgres)
    url = control_url(settings.home)
    log.info("Mission Control at %s", url)
    where = urlsplit(url)
    uvicorn.run(
        app,
        host=where.hostname or "",
        port=where.port or 0,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
