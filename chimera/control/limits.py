"""How often somebody may ask: buckets that fill again, one per token, address or name, in bounded memory.

The rule not to break: there are never more than `most` buckets, whoever asks; the one that was used longest ago is forgotten, and
that is a full one unless more than `most` ask at once.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from chimera.errors import ChimeraError


class TooOften(ChimeraError):
    """Somebody asks more often than they may. `wait_s`: whole seconds after which they may again."""

    def __init__(self, what: str, wait_s: int) -> None:
        super().__init__(f"{what}: try again in {wait_s} s")
        self.wait_s = wait_s


class Limit:
    """`burst` at once and `per_s` each second after, for each key."""

    def __init__(self, per_s: float, burst: int, most: int = 10_000, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._most, self._now = per_s, burst, most, now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def take(self, key: str, what: str = "too many requests") -> None:
        """Count one. Raises `TooOften`, and then counts nothing."""
        wait_s = self.wait_s(key)
        if wait_s:
            raise TooOften(what, wait_s)
        self._left[key] = (self._level(key) - 1, self._now())
        self._left.move_to_end(key)
        while len(self._left) > self._most:
            self._left.popitem(last=False)

    def wait_s(self, key: str) -> int:
        """Whole seconds until one more may come; 0: now."""
        lacking = 1 - self._level(key)
        return 0 if lacking <= 0 else math.ceil(lacking / self._per_s)

    def _level(self, key: str) -> float:
        level, at = self._left.get(key, (float(self._burst), self._now()))
        return min(float(self._burst), level + (self._now() - at) * self._per_s)


class Rates(NamedTuple):
    """The limits of one installation of Mission Control."""

    addresses: Limit
    """Calls of the API by address."""
    tokens: Limit
    """Calls of the API by token."""
    wrong_tokens: Limit
    """Calls with a token that is none, by address."""
    entries: Limit
    """Tries to sign in, by address."""
    posts: Limit
    """What a person who is signed in changes, by account."""


def rates(factor: float = 1.0) -> Rates:
    """Limits as they are shipped, or so many times as wide."""
    return Rates(
        addresses=Limit(50 * factor, int(200 * factor)),
        tokens=Limit(20 * factor, int(60 * factor)),
        wrong_tokens=Limit(0.2 * factor, int(20 * factor)),
        entries=Limit(0.5 * factor, int(30 * factor)),
        posts=Limit(10 * factor, int(100 * factor)),
    )
