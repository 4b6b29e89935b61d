"""Rate limits and circuit breakers, per account. In memory: a restart forgets them, the platform's own limits stay.

The one rule: both say no before anything is sent, so a no is always `not_sent`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

_TROUBLES_TO_OPEN = 5
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 300.0


class RateLimits:
    """Sliding windows of call times, one per key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._taken: dict[Hashable, deque[float]] = {}

    def wait_s(self, key: Hashable, calls: int, per_s: float) -> float:
        """Seconds until a place in the window is free; 0.0 when one is free now."""
        now = self._clock()
        taken = self._taken.setdefault(key, deque())
        while taken and taken[0] <= now - per_s:
            taken.popleft()
        return taken[0] + per_s - now if len(taken) >= calls else 0.0

    def take(self, key: Hashable, calls: int, per_s: float) -> float:
        """Take one place and return 0.0, or take none and return the seconds until one is free."""
        wait = self.wait_s(key, calls, per_s)
        if wait <= 0:
            self._taken[key].append(self._clock())
        return wait


class Breaker:
    """Opens after 5 troubles in a row; then one trial call per pause, the pause doubling from 5 s to 5 min."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._troubles = 0
        self._pause_s = _FIRST_PAUSE_S
        self._open_until = 0.0
        self._trial = False

    @property
    def closed(self) -> bool:
        """Whether calls flow as usual."""
        return self._troubles < _TROUBLES_TO_OPEN

    def allows(self) -> bool:
        """Whether a call may go now. Asking changes nothing."""
        return self.closed or (self._clock() >= self._open_until and not self._trial)

    def begin(self) -> bool:
        """Like `allows`; half open, it also hands out the one trial, so a `saw` or `forget` must follow."""
        if not self.allows():
            return False
        self._trial = not self.closed
        return True

    def saw(self, *, trouble: bool) -> None:
        """Tell how a call ended."""
        was_trial, self._trial = self._trial, False
        if not trouble:
            self._troubles, self._pause_s = 0, _FIRST_PAUSE_S
            return
        self._troubles += 1
        if self._troubles >= _TROUBLES_TO_OPEN:
            if was_trial:
                self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
            self._open_until = self._clock() + self._pause_s

    def forget(self) -> None:
        """A call was given up by us: it says nothing about the server."""
        self._trial = False


class Breakers:
    """One breaker per (profile, account)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_key: dict[tuple[str, str | None], Breaker] = {}

    def of(self, profile: str, account: str | None) -> Breaker:
        breaker = self._by_key.get((profile, account))
        if breaker is None:
            breaker = self._by_key[profile, account] = Breaker(self._clock)
        return breaker
