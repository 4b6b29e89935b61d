"""A lower bound of the broker's clock (law, rule 4): the only time by which a processor decides when to try.

The rule not to break: it never runs ahead of the broker; a record's append time minus the moment it was seen never does either.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from chimera.eventlog.append import AppendFailed

log = logging.getLogger(__name__)

ASK_EVERY_S = 30.0
"""So old the last acknowledgement may be while a timer runs; by so much a timer is late at most after the machine slept."""
ASK_TIMEOUT_S = 5.0
LOOK_S = 1.0


class BrokerClock:
    """The largest (append time - own monotonic when seen), plus own monotonic now."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset: float | None = None
        self._acknowledged_at: float | None = None

    def saw(self, append_ts: int) -> None:
        """A record appended at `append_ts` (ms) exists now. How long it has existed nobody knows."""
        offset = append_ts - self._monotonic() * 1000
        if self._offset is None or offset > self._offset:
            self._offset = offset

    def acknowledged(self, append_ts: int) -> None:
        """A record of our own was appended at `append_ts` (ms), a moment ago."""
        self.saw(append_ts)
        self._acknowledged_at = self._monotonic()

    def now(self) -> int:
        """Lower bound in ms; 0 while nothing was seen."""
        return 0 if self._offset is None else int(self._offset + self._monotonic() * 1000)

    def unasked_s(self) -> float:
        """Seconds since the broker last acknowledged something of ours; infinite before the first time."""
        return float("inf") if self._acknowledged_at is None else self._monotonic() - self._acknowledged_at


Ask = Callable[[], Awaitable[int]]
"""Appends a record that says nothing and returns its append time (ms)."""


async def ask(clock: BrokerClock, ping: Ask) -> None:
    """Ask the broker for its time. Without an answer the bound stays what it was: too low, so timers are late and never early."""
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            clock.acknowledged(await ping())
    except (AppendFailed, TimeoutError) as error:
        log.warning("the broker's clock is not known, timers may be late: %s", str(error) or f"no answer in {ASK_TIMEOUT_S:g} s")


async def keep(clock: BrokerClock, waits: Callable[[], bool], ping: Ask, *, look_s: float = LOOK_S) -> None:
    """Ask again whenever a timer runs (`waits`) and nothing of ours was acknowledged for a while; for the life of the process.

    A quiet log brings no evidence, and our own clock may have stood still meanwhile (a machine that slept).
    """
    while True:
        await asyncio.sleep(look_s)
        if waits() and clock.unasked_s() >= ASK_EVERY_S:
            await ask(clock, ping)
