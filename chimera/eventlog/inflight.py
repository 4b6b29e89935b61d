"""What an appender has in flight: a window that bounds it, and the way home of delivery reports into event loops.

The rule not to break: what entered the window leaves it exactly once, whatever became of the record, or appends
stall for ever.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from chimera.eventlog.trickle import Trickle

log = logging.getLogger(__name__)

BUSY_PER_S, CALM_PER_S = 100.0, 60.0
"""From so many appends a second on they take turns, until they are so few again."""


class Window:
    """Bounds records and bytes in flight; thread-safe. A single entry larger than the window enters when it is empty."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._on_leave: deque[Callable[[], None]] = deque()
        self.records = 0
        self.bytes = 0

    def try_enter(self, records: int, size: int) -> bool:
        """Enter when there is room."""
        with self._changed:
            return self._try(records, size)

    def enter(self, records: int, size: int, timeout_s: float) -> bool:
        """Wait for room and enter; False when there was none within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._try(records, size):
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return False
            return True

    def leave(self, records: int, size: int) -> None:
        """Give the room back and wake who waits for it."""
        with self._changed:
            self.records -= records
            self.bytes -= size
            self._changed.notify_all()
            woken = list(self._on_leave) if self._on_leave and self._has_room(1, 0) else []
            if woken:
                self._on_leave.clear()
        for wake in woken:
            wake()

    def call_on_leave(self, wake: Callable[[], None]) -> None:
        """Call `wake` once there may be room; at once when there is by now."""
        with self._changed:
            room = self._has_room(1, 0)
            if not room:
                self._on_leave.append(wake)
        if room:
            wake()

    def _try(self, records: int, size: int) -> bool:
        if not self._has_room(records, size):
            return False
        self.records += records
        self.bytes += size
        return True

    def _has_room(self, records: int, size: int) -> bool:
        fits = self.records + records <= self._max_records and self.bytes + size <= self._max_bytes
        return fits or self.records == 0


class Turns:
    """Lets appends of an event loop begin together, every so many seconds, while many come one by one; at once while few do."""

    def __init__(self, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self._pace = Trickle(BUSY_PER_S, CALM_PER_S)
        self._next: dict[asyncio.AbstractEventLoop, asyncio.Event] = {}

    async def wait(self) -> None:
        """Return when it is time."""
        self._pace.saw(1, self._clock())
        if not self._pace.busy:
            return
        loop = asyncio.get_running_loop()
        turn = self._next.get(loop)
        if turn is None:
            turn = self._next[loop] = asyncio.Event()
            loop.call_later(self._every_s, self._begin, loop)
        await turn.wait()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next.pop(loop).set()


class Inbox:
    """Resolves asyncio futures from other threads, waking each event loop once per burst instead of once per record."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.AbstractEventLoop, deque[tuple[asyncio.Future[Any], Any]]] = {}

    def put(self, future: asyncio.Future[Any], result: object) -> None:
        """Give `future` its result in its own loop; a future that is cancelled or whose loop has ended is let go."""
        loop = future.get_loop()
        with self._lock:
            queue = self._waiting.get(loop)
            if queue is not None:
                queue.append((future, result))
                return
            self._waiting[loop] = deque([(future, result)])
        try:
            loop.call_soon_threadsafe(self._drain, loop)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            with self._lock:
                gone = self._waiting.pop(loop, deque())
            log.warning("%d delivery reports came after their event loop had ended", len(gone))

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            queue = self._waiting.pop(loop, deque())
        for future, result in queue:
            if not future.done():
                future.set_result(result)
