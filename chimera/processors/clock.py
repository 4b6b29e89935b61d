"""A lower bound of the broker's clock (law, rule 4): the only time by which a processor decides when to try.

The rule not to break: it never runs ahead of the broker; a record's append time minus the moment it was seen never does either.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class BrokerClock:
    """The largest (append time - own monotonic when seen), plus own monotonic now."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset: float | None = None

    def saw(self, append_ts: int) -> None:
        """A record appended at `append_ts` (ms) exists now."""
        offset = append_ts - self._monotonic() * 1000
        if self._offset is None or offset > self._offset:
            self._offset = offset

    def now(self) -> int:
        """Lower bound in ms; 0 while nothing was seen."""
        return 0 if self._offset is None else int(self._offset + self._monotonic() * 1000)
