"""When a live reader lets records gather at the broker: those that come one by one, all the time, cost a request each otherwise.

The rule not to break: while little comes, nobody waits for a record; only who is busy anyway gets them a few milliseconds later.
"""

from __future__ import annotations

GATHER_MS = 20
"""So long after an answer the broker is asked again, while much comes."""
WINDOW_S = 1.0
"""So long is looked at before anything is changed."""
BURST_S, BURST_WINDOW_S = 1.5, 0.5
"""Who has been busy for no longer than that may have seen a burst, whose end a shorter look tells: who comes after it is not to
wait for a second. Who has been busy for longer stays so over a lull."""
BUSY_PER_S, CALM_PER_S = 500.0, 300.0
"""From so many records a second on gathering saves requests; below so many it is over."""
LASTING = 2
"""A reader looks at so many windows in a row before it gathers: changing its pace for a burst that is over by then would cost who
comes after it more than it saves (decision 0164)."""
BULK = 100
"""A reader that finds so many at once is catching up: the broker answers with full hands as it is."""


class Trickle:
    """Counts what each read brought; `busy` says whether much comes in small portions.

    `busy_per_s`, `calm_per_s`: from so many records a second on, for `lasting` windows in a row, it is
    busy, and below so many calm again.
    """

    def __init__(self, busy_per_s: float = BUSY_PER_S, calm_per_s: float = CALM_PER_S, lasting: int = 1) -> None:
        self.busy = False
        self._lasting, self._lasted = lasting, 0
        self._busy_per_s, self._calm_per_s = busy_per_s, calm_per_s
        self._busy_since = 0.0
        self._since: float | None = None
        self._records = self._reads = 0

    def saw(self, records: int, now: float) -> bool:
        """One read brought so many records, at `now` (seconds of any steady clock). True where `busy` has changed."""
        if self._since is None:
            self._since = now
        self._records += records
        self._reads += records > 0
        if now - self._since < (BURST_WINDOW_S if self.busy and now - self._busy_since <= BURST_S else WINDOW_S):
            return False
        rate = self._records / (now - self._since)
        small = self._records < BULK * self._reads
        self._lasted = self._lasted + 1 if rate >= self._busy_per_s and small else 0
        before, self.busy = self.busy, rate >= self._calm_per_s if self.busy else self._lasted >= self._lasting
        self._since, self._records, self._reads = now, 0, 0
        if self.busy and not before:
            self._busy_since = now
        return self.busy != before
