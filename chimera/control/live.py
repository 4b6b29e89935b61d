"""Server-sent events: every open desk is told when the queue changed.

The rule not to break: what goes over the wire is that something changed, never what; the page asks for itself, with its own rights.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from chimera.control.queue import mark

log = logging.getLogger(__name__)

LOOK_S = 0.5
KEEP_S = 15
"""A line is sent at least so often, so that a browser that went away is noticed."""


class Live:
    """Looks at the queue while anybody listens, and wakes them."""

    def __init__(self, rows: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._rows = rows
        self._listening: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """End looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def answer(self, request: Request) -> Response:
        """A stream of `queue` events for one browser."""
        woken = asyncio.Event()

        async def told() -> AsyncIterator[dict[str, str]]:
            self._listening.add(woken)
            try:
                while True:
                    await woken.wait()
                    woken.clear()
                    yield {"event": "queue", "data": "changed"}
            finally:
                self._listening.discard(woken)

        return EventSourceResponse(told(), ping=KEEP_S)

    async def _look(self) -> None:
        before, away = "", False
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._listening:
                continue
            try:
                async with self._rows.connection() as connection:
                    now = await mark(connection)
            except (OperationalError, PoolTimeout) as error:
                if not away:
                    log.warning("the read models do not answer, pages are not told of changes: %s", error)
                away = True
                continue
            away = False
            if now != before:
                before = now
                for event in self._listening:
                    event.set()
