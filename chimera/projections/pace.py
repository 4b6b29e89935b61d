"""When what was folded is written: how long a live projector lets records gather for one transaction, and how many a load takes.

The rule not to break: who comes alone, or after a burst, waits for `GATHER_S` or for what was begun while much came, and no longer:
each wait is asked for anew by what came until now.
"""

from __future__ import annotations

GATHER_S = 0.02
"""While the log trickles, a transaction begins at most so often: what came meanwhile shares it, at a fraction of the cost."""
BUSY_GATHER_S, BUSY_PER_S = 0.15, 500.0
"""The same while so many records a second come: what a transaction costs depends little on how few records share it."""
FULL_GATHER_S, FULL_PER_S = 0.5, 750.0
"""The same while even more come, told by those of this transaction: looked at every `LOOK_S`, so that it ends when they do."""
LOOK_S = 0.05
ENOUGH = 1_000
"""So many records need wait for no more: who catches up has as many at hand."""
BULK = 10_000
"""Records per transaction of a load; nobody waits for a row of its tables before the last is there."""
LEAST = 500
"""Towards the end transactions get smaller, down to so many: while the last one is written nothing is left to fold."""


def at_once(most: int, left: int) -> int:
    """Records that a load takes for one transaction when so many are left to be folded."""
    return min(most, max(LEAST, left // 2))


class Pace:
    """Seconds are of any steady clock."""

    def __init__(self) -> None:
        self._began_at = 0.0
        self._busy = False

    def wait_s(self, done: int, now: float) -> float:
        """How long it pays to wait for more, after so many records since the last transaction began; 0: write them now."""
        since = now - self._began_at
        if not self._busy:
            return max(0.0, GATHER_S - since)
        if since < BUSY_GATHER_S:
            return BUSY_GATHER_S - since
        if FULL_PER_S * since <= done < ENOUGH:
            return max(0.0, min(LOOK_S, FULL_GATHER_S - since))
        return 0.0

    def begins(self, done: int, now: float) -> None:
        """A transaction of so many records begins: it says whether much comes."""
        self._busy = done >= BUSY_PER_S * (now - self._began_at)
        self._began_at = now
