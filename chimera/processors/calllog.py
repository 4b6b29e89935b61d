"""What calls did, on its way to `chimera.calls`: many records share one append, and a job that only read waits for none of them.

The rule not to break: what was handed in is appended, or the process's log says that it was not; nothing is dropped unseen, and
what waits is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from chimera import failpoints
from chimera.eventlog.bulk import Entry

log = logging.getLogger(__name__)

GATHER_S = 0.2
"""Records of calls that only read are gathered for so long: one request to the broker each would cost it more than the log does."""
APART_S = 0.1
"""So long after an append the next one begins, also where somebody waits for it: those who wait side by side share it."""
MOST_WAITING = 2_000
"""Beyond so many, who hands in the next one waits for the append under way: a broker that is away slows calls down."""


class CallLog:
    """Gathers records of calls and appends them in order, from one task. For one event loop.

    Args:
        append_many: appends entries and blocks until all are in the log; runs in a thread.
        sleep: how it is waited until the next append may begin.
    """

    def __init__(
        self, append_many: Callable[[Sequence[Entry]], object], sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._append_many, self._sleep = append_many, sleep
        self._waiting: list[Entry] = []
        self._round: asyncio.Future[None] | None = None
        self._hurry = asyncio.Event()
        self._not_before = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Records that were handed in and are not under way yet."""
        return len(self._waiting)

    async def put(self, entry: Entry, *, wait: bool) -> None:
        """Hand in one record. `wait`: soon, and return when it is in the log or given up (which the process's log says)."""
        while self._round is not None and len(self._waiting) >= MOST_WAITING:
            self._hurry.set()
            await asyncio.shield(self._round)
        self._waiting.append(entry)
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        mine = self._round
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="calls")
        if wait:
            self._hurry.set()
            await asyncio.shield(mine)

    async def close(self) -> None:
        """Append what waits; what is handed in later is appended as before."""
        while self._task is not None and not self._task.done():
            self._hurry.set()
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        """As long as there is something to append; the next record begins anew."""
        while self._waiting:
            if not self._hurry.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_S):
                        await self._hurry.wait()
            if (early_s := self._not_before - time.monotonic()) > 0:
                await self._sleep(early_s)
            self._not_before = time.monotonic() + APART_S
            self._hurry.clear()
            entries, self._waiting = self._waiting, []
            done, self._round = self._round, None
            try:
                await failpoints.at("calls.taken")
                await asyncio.to_thread(self._append_many, entries)
            except Exception:  # whatever it is: the next records are appended all the same
                log.exception("of %d records some could not be appended to %s", len(entries), entries[0].topic)
            finally:
                if done is not None and not done.done():
                    done.set_result(None)
