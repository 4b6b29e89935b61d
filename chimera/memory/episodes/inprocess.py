"""Episodes in the memory of one process: for tests, and the shortest reading of what a store is.

The rule not to break: it does what a server does, checkpoint and rows in one step; nothing is kept past the process.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence

from chimera.memory.episodes.contract import Clock, Kind, Limits, Moved, Moves, Place, Row, by_list, now_ms
from chimera.memory.store import subject_key


class InProcess:
    """See `chimera.memory.episodes.contract.Store`. Safe for several threads."""

    def __init__(self, limits: Limits | None = None, clock: Clock = now_ms) -> None:
        self._limits, self._clock = limits or Limits(), clock
        self._lock = threading.Lock()
        self._lists: dict[tuple[str, str, Kind, str], list[Row]] = {}
        self._at: dict[Place, int] = {}
        self._swept: set[str] = set()

    def checkpoints(self) -> dict[Place, int]:
        with self._lock:
            return dict(self._at)

    def begin(self, offsets: Mapping[Place, int]) -> None:
        with self._lock:
            self._lists.clear()
            self._swept.clear()
            self._at = dict(offsets)

    def write(self, moves: Moves, rows: Sequence[Row]) -> None:
        with self._lock:
            for place, (before, _) in moves.items():
                if self._at.get(place) != before:
                    raise Moved(f"episodes stand at {self._at.get(place)} of {place[0]}[{place[1]}], not at {before}")
            self._at |= {place: after for place, (_, after) in moves.items()}
            for where, new in by_list(rows).items():
                self._lists[where] = [*self._lists.get(where, ()), *new][-self._limits.rows :]

    def swept(self) -> set[str]:
        with self._lock:
            return set(self._swept)

    def forget(self, subjects: Collection[str]) -> int:
        with self._lock:
            count = 0
            for where, held in self._lists.items():
                kept = [row for row in held if not row.subject or subject_key(row.subject) not in subjects]
                count += len(held) - len(kept)
                self._lists[where] = kept
            self._swept |= set(subjects)
            return count

    def last(self, tenant: str, agent: str, kind: Kind, name: str = "") -> list[bytes]:
        since = self._clock() - self._limits.ttl_ms
        with self._lock:
            return [row.body for row in self._lists.get((tenant, agent, kind, name), ()) if row.ts > since]

    def threads(self, tenant: str, agent: str) -> list[str]:
        return sorted(where[3] for where in self.contents() if where[:3] == (tenant, agent, "thread"))

    def contents(self) -> dict[tuple[str, str, Kind, str], list[bytes]]:
        with self._lock:
            wheres = list(self._lists)
        return {where: found for where in wheres if (found := self.last(*where))}

    def close(self) -> None:
        """There is nothing to let go."""
