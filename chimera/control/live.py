"""Server-sent events: every open desk is told when the queue changed, or when somebody came to or left the card that it shows.

The rule not to break: what goes over the wire is that something changed, never what; the page asks for itself, with its own rights.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection, Error
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from chimera.control.limits import TooOften
from chimera.control.queue import mark

log = logging.getLogger(__name__)

LOOK_S = 0.5
KEEP_S = 15
"""A line is sent at least so often, so that a browser that went away is noticed."""

STREAM_S = 600.0
MOST, MOST_OF_ONE = 2000, 30
"""Pages that may listen at once, in all and of one login."""


@dataclass(eq=False)
class Listener:
    """One open page: whose login's token, and what it is to be told."""

    token: str
    told: set[str] = field(default_factory=set)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, event: str) -> None:
        """It is sent with the next line; twice the same is once."""
        self.told.add(event)
        self.woken.set()


class Live:
    """Looks at the queue while anybody listens, and wakes them."""

    def __init__(self, rows: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._rows = rows
        self._listening: set[Listener] = set()
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

    def answer(self, request: Request, token: str) -> Response:
        """A stream of events (`queue`, `looking`) for one page of the login with that token.

        It ends after `STREAM_S`: the browser asks again, and is let in again or not. Raises `TooOften`.
        """
        if len(self._listening) >= MOST or sum(each.token == token for each in self._listening) >= MOST_OF_ONE:
            raise TooOften("too many pages are open", KEEP_S)
        listener = Listener(token)

        async def told() -> AsyncIterator[dict[str, str]]:
            self._listening.add(listener)
            try:
                until = time.monotonic() + STREAM_S
                while True:
                    # The wait alone is timed: a timer around a `yield` would go off in whoever reads.
                    try:
                        await asyncio.wait_for(listener.woken.wait(), until - time.monotonic())
                    except TimeoutError:
                        return
                    listener.woken.clear()
                    while listener.told:
                        yield {"event": listener.told.pop(), "data": "changed"}
            finally:
                self._listening.discard(listener)

        return EventSourceResponse(told(), ping=KEEP_S)

    def tell(self, event: str, tokens: Collection[str]) -> None:
        """Send an event to the open pages of these logins."""
        for listener in self._listening:
            if listener.token in tokens:
                listener.tell(event)

    async def _look(self) -> None:
        before, away = "", False
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._listening:
                continue
            try:
                async with self._rows.connection() as connection:
                    now = await mark(connection)
            except (Error, PoolTimeout) as error:
                if not away:
                    log.warning("the read models do not answer, pages are not told of changes: %s", error)
                away = True
                continue
            away = False
            if now != before:
                before = now
                for listener in self._listening:
                    listener.tell("queue")
