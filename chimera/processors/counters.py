"""What a swarm did since it started, in numbers.

The rule not to break: counting costs the fold next to nothing, and no name in it is chosen by what others write into the log.
"""

from __future__ import annotations

from collections import Counter

from chimera.events.envelope import Record
from chimera.events.state import Ruling

UNKNOWN = "unknown"
"""What a record is called whose type is nobody's."""


class Counters:
    """What the swarm did, for status lines and tests."""

    def __init__(self) -> None:
        self.folded = 0
        """Records, those folded again after a start included; the rulings below leave these out."""
        self.applied = 0
        self.rejected = 0
        self.void = 0
        self.jobs = 0
        self.job_errors = 0
        self.rulings: Counter[tuple[str, str, str]] = Counter()
        """(outcome, reason, record type) -> how many."""

    def count(self, record: Record, ruling: Ruling, *, again: bool) -> None:
        """One more record was folded; `again`: only to make a lost state anew, so that its ruling was counted when it was made."""
        self.folded += 1
        if again:
            return
        self.rulings[ruling.outcome, ruling.reason, record.type if record.data is not None else UNKNOWN] += 1
        if ruling.outcome == "applied":
            self.applied += 1
        elif ruling.outcome == "rejected":
            self.rejected += 1
        else:
            self.void += 1
