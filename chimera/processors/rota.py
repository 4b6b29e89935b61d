"""Whose turn it is: agents of one partition one after the other, then those of the next.

What agents of one partition say side by side lies in one batch of that partition: one request to the broker, one portion of each
reader's answer. In the order in which debts happen to arise every turn of the appender spreads over all partitions.
The rule not to break: nobody who waits sees another served twice.
"""

from __future__ import annotations

from collections import deque


class Rota:
    """Agents that wait, each once. Partitions follow each other in the order in which somebody of them began to wait."""

    def __init__(self) -> None:
        self._now: deque[str] = deque()
        """Those who waited when the turn of their partition began; who comes later waits for its next one."""
        self._later: dict[int, deque[str]] = {}
        self._waiting: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def wait(self, key: str, partition: int) -> None:
        """An agent waits, behind those of its partition who do; one that waits keeps its place."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        self._later.setdefault(partition, deque()).append(key)

    def next(self) -> str:
        """Whose turn it is; it waits no more. Raises `StopIteration` where nobody waits."""
        if not self._now:
            self._now = self._later.pop(next(iter(self._later)))
        key = self._now.popleft()
        self._waiting.discard(key)
        return key
