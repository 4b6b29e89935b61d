"""Records that were said here and are waited for until they are folded here, and times that are looked at oldest first.

The rule not to break: a ruling reaches its waiter in the waiter's own event loop, also from the thread that catches up.
"""

from __future__ import annotations

import asyncio
from itertools import takewhile
from typing import TypeVar

from chimera.events.state import Ruling

Key = TypeVar("Key")


class Awaited:
    """Who waits for which record's ruling, by record id. `patience_s`: how long an appended one may take to be folded here."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._waiters: dict[str, asyncio.Future[Ruling]] = {}
        self._until: dict[str, float] = {}

    def expect(self, id_: str) -> asyncio.Future[Ruling]:
        """A record of this id is about to be appended: what gets its ruling, or `TimeoutError`."""
        waiter = self._waiters[id_] = asyncio.get_running_loop().create_future()
        return waiter

    def appended(self, id_: str, now: float) -> None:
        """It is in the log since `now` (seconds of a steady clock): its time begins."""
        if id_ in self._waiters:
            self._until[id_] = now + self._patience_s

    def forget(self, id_: str) -> None:
        """Nobody waits for it any more."""
        self._waiters.pop(id_, None)
        self._until.pop(id_, None)

    def ruled(self, id_: str, ruling: Ruling, here: asyncio.AbstractEventLoop | None) -> None:
        """It was folded, in the loop `here` or in none."""
        waiter = self._waiters.pop(id_, None)
        if waiter is None or waiter.done():
            return
        if waiter.get_loop() is here:
            waiter.set_result(ruling)
        else:
            waiter.get_loop().call_soon_threadsafe(_settle, waiter, ruling)

    def give_up(self, now: float) -> None:
        """Whose time is over hears so."""
        for id_ in past(self._until, now):
            if (waiter := self._waiters.get(id_)) is not None and not waiter.done():
                waiter.set_exception(TimeoutError(f"record {id_} was appended, and not folded here within {self._patience_s:g} s"))


def past(times: dict[Key, float], now: float) -> list[Key]:
    """Takes out what is over by now, of times that were put in in their own order: where all have the same time to live, the first
    one tells whether any is late, and a timer for each would cost more than what it guards."""
    over = list(takewhile(lambda key: times[key] <= now, times))
    for key in over:
        del times[key]
    return over


def loop_here() -> asyncio.AbstractEventLoop | None:
    """The event loop of this thread; None in the thread that catches up."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _settle(waiter: asyncio.Future[Ruling], ruling: Ruling) -> None:
    if not waiter.done():
        waiter.set_result(ruling)
