"""A server in this process behind a client session: what a transport is elsewhere. For tests, benchmarks and pins.

The one rule: only the way between both is left out. The SDK's session makes and reads every message, and the SDK's server checks it
and answers as it does on any wire; nothing is handed over that is not plain JSON.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.abc
from mcp import MCPError
from mcp.server import Server
from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner
from mcp.shared.dispatcher import CallOptions, OnNotify, OnNotifyIntercept, OnRequest
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.transport_context import TransportContext
from mcp.types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_PARAMS, REQUEST_TIMEOUT
from mcp.types.version import LATEST_MODERN_VERSION
from pydantic import ValidationError

log = logging.getLogger(__name__)

_HERE = TransportContext(kind="in-process", can_send_request=False)


class _Asked:
    """What the server is told of a request beside its words. The way back is closed: nobody listens but for the answer."""

    transport = _HERE
    can_send_request = False
    message_metadata = None

    def __init__(self, request_id: int) -> None:
        self.request_id = request_id

    @property
    def cancel_requested(self) -> anyio.Event:
        """Never set: a request that nobody waits for any more is cancelled where it runs."""
        return anyio.Event()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        log.debug("a server in this process said %s beside its answer: nobody listens", method)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        return None


class InProcess:
    """The dispatcher of an `mcp.ClientSession`, over one server object.

    The SDK's own one makes a connection, two timers and two turns of the loop for each request: half of what a call takes.
    """

    def __init__(self, server: Server[Any]) -> None:
        self._server = server
        self._runner: ServerRunner[Any] | None = None
        self._asked = 0

    async def run(
        self,
        on_request: OnRequest,
        on_notify: OnNotify,
        on_notify_intercept: OnNotifyIntercept | None = None,
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; what a server asks or tells on its own goes nowhere, so none of these is called."""
        async with self._server.lifespan(self._server) as state:
            self._runner = ServerRunner(self._server, Connection.from_envelope(LATEST_MODERN_VERSION, None, None), state)
            task_status.started()
            try:
                await asyncio.Event().wait()
            finally:
                self._runner = None

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """The server's answer. Raises MCPError, also for what the server raises, as a wire would bring it."""
        if self._runner is None:
            raise MCPError(code=CONNECTION_CLOSED, message="Connection closed")
        self._asked += 1
        limit_s = (opts or {}).get("timeout")
        try:
            async with asyncio.timeout(limit_s):
                return await self._runner.on_request(_Asked(self._asked), method, params)
        except MCPError:
            raise
        except TimeoutError:
            raise MCPError(code=REQUEST_TIMEOUT, message=f"no answer to {method} within {limit_s} s") from None
        except ValidationError:
            raise MCPError(code=INVALID_PARAMS, message="Invalid request parameters", data="") from None
        except Exception:
            log.exception("a server in this process failed on %s", method)
            raise MCPError(code=INTERNAL_ERROR, message="Internal server error") from None

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """A wire of this version takes none from a client."""
