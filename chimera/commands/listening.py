"""Where the command service listens: a Unix socket of its owner, an address where the settings ask for one, and uvicorn on both.

The rule not to break: there is no instant at which anybody but the owner could open the Unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from chimera.commands.client import SOCKET, reachable
from chimera.errors import ChimeraError
from chimera.settings import Settings


class Web:
    """uvicorn in a thread of its own, since signals and the fold belong to the process's main thread."""

    def __init__(self, app: Starlette, sockets: Sequence[socket.socket]) -> None:
        config = uvicorn.Config(
            app,
            http=_PeerProtocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
            backlog=512,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._sockets = list(sockets)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="command-web")

    def start(self) -> None:
        """Return when it accepts connections."""
        self._thread.start()
        while not self._server.started:
            self.check()
            time.sleep(0.005)

    def check(self) -> None:
        """Raise what ended it, if it ended by itself."""
        if not self._thread.is_alive():
            raise ChimeraError(f"the command service's web server ended: {self._error!r}") from self._error

    def close(self) -> None:
        """Answer what is under way, then end."""
        self._server.should_exit = True
        self._thread.join(30)

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=self._sockets))
        except BaseException as error:  # noqa: BLE001  # told by check()
            self._error = error


class _PeerProtocol(H11Protocol):
    """HTTP that remembers who is at the other end of a Unix socket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer_uid": _peer_uid(transport.get_extra_info("socket"))}


def _peer_uid(connection: Any) -> int | None:
    """The uid of the process that connected; None for TCP."""
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


@contextlib.contextmanager
def doors(settings: Settings) -> Iterator[list[socket.socket]]:
    """The sockets that the settings ask for, listening. Raises `ChimeraError` for an address that cannot be listened on."""
    path = settings.home / SOCKET
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(_unix_door(path))]
        if settings.command_listen is not None:
            opened.append(stack.enter_context(contextlib.closing(_tcp_door(settings.command_listen))))
        yield opened


@contextlib.contextmanager
def _unix_door(path: Path) -> Iterator[socket.socket]:
    """A listening Unix socket that nobody but its owner can open, from its first instant on."""
    path.unlink(missing_ok=True)  # whose lock we hold: it was left by one that was killed
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # fchmod before bind decides the mode that the file gets: no moment in which others could open it, and no umask changed.
        os.fchmod(door.fileno(), 0o600)
        with reachable(path) as address:
            door.bind(address)
        path.chmod(0o600)
        door.listen(512)
        yield door
    finally:
        door.close()
        path.unlink(missing_ok=True)


def _tcp_door(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise ChimeraError(f"command_listen '{address}' is no address: write host:port, e.g. 127.0.0.1:7433")
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        family = socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then.
    door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, int(port)))
        door.listen(512)
    except OSError as error:
        door.close()
        raise ChimeraError(f"the command service cannot listen on {address} ({error.strerror}): choose another address") from None
    return door
