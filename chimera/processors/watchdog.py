"""Ends a process that lives and gets nowhere: records wait, and it folds none of them; or its loop no longer turns.

The rule not to break: only this process's own standing still counts. While the broker does not tell where the log ends, and after
the whole process slept (a stopped machine), the time starts anew; what is slow but moves is left alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from chimera.errors import ChimeraError

log = logging.getLogger(__name__)

STUCK_S = 30.0
"""So long a live partition may stand still while its log goes on."""
DARK_S = 180.0
"""So long a rebalance may take while nothing is folded: the group's own timeout, twice, and what catching up waits for."""
LOOK_S = 5.0
ASK_S = 5.0
"""What the broker may take to tell where the log ends: a slow answer is no sign that the process slept."""
END_GRACE_S = 25.0
"""What an orderly end may take before the process is ended from within."""


class Stuck(ChimeraError):
    """The process gets nowhere; its supervisor starts it anew."""


class Progress(NamedTuple):
    """How far a process is. Read from another thread: made of copies."""

    positions: Mapping[int, int]
    """Partition -> next offset, of those that it holds."""
    live: frozenset[int]
    dark: bool
    """A rebalance goes on, or catching up after one."""
    beat: int
    """Counts turns of the process's own loop."""


class Standing:
    """How long what has stood still, by a clock that the caller gives."""

    def __init__(self, now: float, *, stuck_s: float = STUCK_S, dark_s: float = DARK_S, look_s: float = LOOK_S) -> None:
        self._stuck_s, self._dark_s, self._longest_look_s = stuck_s, dark_s, look_s * 3 + ASK_S
        self._looked = now
        self._since: dict[int, tuple[int, float]] = {}
        self._dark_since: tuple[Mapping[int, int], float] | None = None
        self._beat = (-1, now)

    def look(self, progress: Progress, ends: Mapping[int, int] | None, now: float) -> str | None:
        """Why the process is stuck, or None. `ends` None: the broker did not tell."""
        if ends is None or now - self._looked > self._longest_look_s:
            self._since, self._dark_since, self._beat = {}, None, (-1, now)
        self._looked = now
        if ends is None:
            return None
        if progress.beat != self._beat[0]:
            self._beat = (progress.beat, now)
        elif now - self._beat[1] > self._stuck_s:
            return f"its loop has not turned for {now - self._beat[1]:.0f} s"
        return self._darkness(progress, now) if progress.dark else self._lag(progress, ends, now)

    def _darkness(self, progress: Progress, now: float) -> str | None:
        self._since = {}
        if self._dark_since is None or self._dark_since[0] != progress.positions:
            self._dark_since = (dict(progress.positions), now)
        stood = now - self._dark_since[1]
        return f"a rebalance has gone on for {stood:.0f} s without a record folded" if stood > self._dark_s else None

    def _lag(self, progress: Progress, ends: Mapping[int, int], now: float) -> str | None:
        self._dark_since = None
        self._since = {p: since for p, since in self._since.items() if p in progress.live}
        for partition in progress.live:
            at, end = progress.positions.get(partition, 0), ends.get(partition, 0)
            before = self._since.get(partition)
            if end <= at:
                self._since.pop(partition, None)
            elif before is None or before[0] != at:
                self._since[partition] = (at, now)
            elif now - before[1] > self._stuck_s:
                return f"chimera.log[{partition}] stands at {at} for {now - before[1]:.0f} s while the log ends at {end}"
        return None


class Watchdog:
    """Looks every few seconds, from a thread of its own: a loop that hangs cannot stop it.

    Args:
        progress: how far the process is; called from the watchdog's thread.
        ends: where the log ends; may block and raise `ChimeraError`.
        give_up: asks the process to end with an error; called once, from the watchdog's thread.
    """

    def __init__(
        self,
        name: str,
        progress: Callable[[], Progress],
        ends: Callable[[], Mapping[int, int]],
        give_up: Callable[[Stuck], None],
        *,
        stuck_s: float = STUCK_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._name, self._progress, self._ends, self._give_up = name, progress, ends, give_up
        self._stuck_s, self._look_s = stuck_s, look_s
        self._stop, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watchdog-{name}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """The process begins to end: look no more."""
        self._stop.set()

    def closed(self) -> None:
        """The process has let everything go."""
        self._stop.set()
        self._closed.set()

    def _watch(self) -> None:
        standing = Standing(time.monotonic(), stuck_s=self._stuck_s, look_s=self._look_s)
        while not self._stop.wait(self._look_s):
            try:
                ends: Mapping[int, int] | None = self._ends()
            except ChimeraError as error:
                log.debug("%s", error)
                ends = None
            why = standing.look(self._progress(), ends, time.monotonic())
            if why is not None and not self._stop.is_set():
                self._end(why)
                return

    def _end(self, why: str) -> None:
        log.critical("%s is stuck and ends itself, to be started anew: %s", self._name, why)
        self._give_up(Stuck(f"{self._name} is stuck: {why}"))
        if not self._closed.wait(END_GRACE_S):
            log.critical("%s did not end within %.0f s: ended from within", self._name, END_GRACE_S)
        os._exit(1)  # also after an orderly end: whoever waits for the process must see that it failed
