"""Mission Control as a process: `chimera run control`.

The rule not to break: what is not this machine is served by TLS alone, here or by a proxy that is named; where a request comes from
is believed of nobody else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from chimera.control.accounts import Accounts
from chimera.control.app import application
from chimera.control.media import Links
from chimera.control.media import application as media_application
from chimera.errors import ChimeraError
from chimera.media.place import open_media
from chimera.observe import logs
from chimera.settings import Settings
from chimera.stack.addresses import control_url, load, media_url

log = logging.getLogger(__name__)

LOCAL = ("127.0.0.1", "localhost", "::1")


class Serving(NamedTuple):
    """How a process serves beside its home's own address. `listen`: `host:port`, "" for that address. `hosts`: the names by which
    browsers may call it. `proxies`: addresses whose `X-Forwarded-For` and `-Proto` are believed."""

    listen: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    hosts: Sequence[str] = ()
    proxies: Sequence[str] = ()


class BadServing(ChimeraError):
    """Mission Control would be reached in a way that is not safe, or not at all."""


def options(serving: Serving, url: str) -> dict[str, Any]:
    """What uvicorn is told. Raises `BadServing`."""
    where = urlsplit(f"//{serving.listen}" if serving.listen else url)
    try:
        host, port = where.hostname or "", where.port
    except ValueError:
        host, port = "", None
    if not host or port is None:
        raise BadServing(f"--listen {serving.listen}: write host:port, such as 0.0.0.0:8443")
    if (serving.tls_cert is None) != (serving.tls_key is None):
        raise BadServing("--tls-cert and --tls-key go together: name both files")
    if not _local(host) and serving.tls_cert is None and not serving.proxies:
        raise BadServing(f"{host} is reached from elsewhere: give --tls-cert and --tls-key, or --proxy of one that speaks TLS")
    if not _local(host) and not serving.hosts:
        raise BadServing("say with --host by which name browsers call it: requests for other names are turned away")
    for proxy in serving.proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise BadServing(f"--proxy {proxy}: write an address or a network, such as 10.0.0.2 or 10.0.0.0/24") from None
    told: dict[str, Any] = {
        "host": host,
        "port": port,
        "proxy_headers": bool(serving.proxies),
        "forwarded_allow_ips": list(serving.proxies),
    }
    return told | _tls(serving)


def _tls(serving: Serving) -> dict[str, str]:
    if serving.tls_cert is None or serving.tls_key is None:
        return {}
    for file in (serving.tls_cert, serving.tls_key):
        if not file.is_file():
            raise BadServing(f"{file} is no file: name the certificate (with its chain) and its key as PEM")
    if stat.S_IMODE(serving.tls_key.stat().st_mode) & 0o077:
        raise BadServing(f"{serving.tls_key} may be read by others: run `chmod 600 {serving.tls_key}`")
    return {"ssl_certfile": str(serving.tls_cert), "ssl_keyfile": str(serving.tls_key)}


def _local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Beside(uvicorn.Server):
    """A server that leaves signals to the one that it stands beside."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


def run(settings: Settings, serving: Serving | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C: the desk, and media on a port of their own.

    Raises `BadServing` and what `application` raises.
    """
    logs.set_up("control", settings)
    home, serving = settings.home, serving or Serving()
    told = options(serving, control_url(home))
    kept = open_media(home, settings.media)
    app = application(home, load(settings).postgres, hosts=(*LOCAL, *serving.hosts), media=kept)
    desk = uvicorn.Server(_config(app, told))
    beside = {"host": "127.0.0.1", "port": urlsplit(media_url(home)).port or 0}
    media = Beside(_config(media_application(kept, Accounts(home), Links(home, media_url(home))), beside))
    log.info("Mission Control at %s:%s, its media at %s", told["host"], told["port"], media_url(home))
    asyncio.run(_both(desk, media))


async def _both(desk: uvicorn.Server, media: uvicorn.Server) -> None:
    """The media end with the desk; a port that is taken ends both, and is told."""
    beside = asyncio.create_task(media.serve())
    try:
        await desk.serve()
    finally:
        media.should_exit = True
        await beside


def _config(app: ASGIApp, told: dict[str, Any]) -> uvicorn.Config:
    return uvicorn.Config(app, **told, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=2)
