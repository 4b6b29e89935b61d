"""How far behind a reader is, in records and in seconds, and whether it is slow or stands still.

The rule not to break: seconds are measured by this process's own clock since it first saw the log end past the reader, so an old
record that is read late after a quiet night is not a night behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

SAMPLES = 600


class _Behind:
    """One partition's reader against the ends that were seen."""

    __slots__ = ("end", "moved_at", "position", "seen")

    def __init__(self, position: int, now: float) -> None:
        self.position = self.end = position
        self.moved_at = now
        self.seen: deque[tuple[float, int]] = deque()

    def saw(self, position: int, end: int | None, now: float) -> None:
        if position != self.position:
            self.position, self.moved_at = position, now
        if end is not None and end > self.end:
            self.end = end
            if len(self.seen) < SAMPLES:
                self.seen.append((now, end))
            else:
                self.seen[-1] = (self.seen[-1][0], end)
        while self.seen and self.seen[0][1] <= position:
            self.seen.popleft()
        self.end = max(self.end, position)


class Lag:
    """Lag of every partition that a process reads."""

    def __init__(self) -> None:
        self._of: dict[int, _Behind] = {}

    def saw(self, positions: Mapping[int, int], ends: Mapping[int, int], now: float) -> None:
        """The reader's next offsets and the log's ends at `now` (monotonic seconds). Partitions no longer read are forgotten."""
        for partition in [p for p in self._of if p not in positions]:
            del self._of[partition]
        for partition, position in positions.items():
            if partition not in self._of:
                self._of[partition] = _Behind(position, now)
            self._of[partition].saw(position, ends.get(partition), now)

    def records(self) -> dict[int, int]:
        """Partition -> records that exist and are not read yet."""
        return {p: behind.end - behind.position for p, behind in self._of.items()}

    def seconds(self, now: float) -> dict[int, float]:
        """Partition -> how long the oldest unread record has been there, as far as this process saw; 0 = caught up."""
        return {p: now - behind.seen[0][0] if behind.seen else 0.0 for p, behind in self._of.items()}

    def stalled(self, now: float, longer_than_s: float) -> dict[int, float]:
        """Partition -> seconds for which it has stood still although records wait; slow ones, which move, are not here."""
        waits = self.seconds(now)
        standing = {p: min(waits[p], now - behind.moved_at) for p, behind in self._of.items()}
        return {p: seconds for p, seconds in standing.items() if seconds > longer_than_s}

    def where(self, partition: int) -> tuple[int, int]:
        """(next offset of the reader, end of the log) of a partition."""
        return self._of[partition].position, self._of[partition].end
