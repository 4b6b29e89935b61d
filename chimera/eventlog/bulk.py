"""Many records of one append as chunks: they enter the window together, and each keeps its place among the answers.

The rule not to break: every record of a chunk is settled exactly once, by its delivery report or by its refusal; the
last one gives the window back. This is the hot path of bulk loads, so it does per record what cannot be left out.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message

from chimera.eventlog.failure import AppendFailed, failure_of
from chimera.eventlog.inflight import Window
from chimera.events.raw import Headers, Position

CHUNK = 500
"""Records that enter the window together."""

GROUP = CHUNK
"""Records that are sent partition by partition; many more, and reading them out of their order costs what the order saves."""


class Entry(NamedTuple):
    """One record to append. `partition` None means the partition of its key, which is right for every stream."""

    topic: str
    key: str
    value: bytes
    headers: Headers
    partition: int | None = None


def size_of(value: bytes, headers: Headers) -> int:
    """About the bytes that one record holds in flight: its value, and 64 for each header and for the record itself."""
    return len(value) + 64 * (1 + len(headers))


def by_partition(partitions: Sequence[int]) -> list[int]:
    """The places of entries in the order in which to send them, given the partition of each.

    Those of one partition follow each other, in their own order: sent in turns, each partition's batch would hold the few
    records that came within the linger time, and every batch costs the broker a request.
    """
    order: list[int] = []
    for start in range(0, len(partitions), GROUP):
        order += sorted(range(start, min(start + GROUP, len(partitions))), key=partitions.__getitem__)
    return order


class Chunk:
    """Some entries with the partitions they go to, and what became of them."""

    def __init__(self, entries: list[Entry], partitions: list[int], window: Window) -> None:
        self.entries = entries
        self.partitions = partitions
        self.size = sum([len(value) + 64 * len(headers) for _, _, value, headers, _ in entries]) + 64 * len(entries)  # `size_of`
        self._window = window
        self._topic = entries[0].topic if len({entry[0] for entry in entries}) == 1 else None
        """The one topic of all entries, None where there are several."""
        self._delivered: dict[tuple[str | None, int | None] | int, list[tuple[int, int]]] = {}
        """By partition where there is one topic, else by topic and partition."""
        self._failures: list[AppendFailed] = []
        # Counting is one atomic step, so reports of several threads need no lock.
        self._settled = itertools.count(1).__next__
        self._done = threading.Event()

    def deliver(self, error: KafkaError | None, message: Message) -> None:
        """The delivery callback of every entry: one for all, because a closure for each would cost more than the rest."""
        if error is None:
            # A kept message would keep its value: what is wanted of it is taken out at once.
            partition = message.partition()
            lies: Any = partition if self._topic is not None else (message.topic(), partition)
            offset = message.offset(), message.timestamp()[1]
            found = self._delivered.get(lies)
            if found is None:
                found = self._delivered.setdefault(lies, [])  # two threads may report
            found.append(offset)  # type: ignore[arg-type]
        else:
            partition = message.partition()
            self._failures.append(failure_of(message.topic() or "", -1 if partition is None else partition, error))
        if self._settled() == len(self.entries):
            self._close()

    def refuse(self, failure: AppendFailed) -> None:
        """One entry that was never handed over."""
        self._failures.append(failure)
        if self._settled() == len(self.entries):
            self._close()

    def never_entered(self, reason: str) -> None:
        """Every entry has failed, without having taken room in the window."""
        self._failures.append(AppendFailed(self.entries[0].topic, self.partitions[0], reason, maybe_written=False))
        self._done.set()

    @property
    def settled(self) -> bool:
        """Whether every entry has its outcome."""
        return self._done.is_set()

    def wait(self, deadline: float) -> None:
        """Wait until every entry is settled, or for the deadline (monotonic seconds)."""
        self._done.wait(max(0.0, deadline - time.monotonic()))

    def positions(self) -> list[Position]:
        """Where the records lie, in the order of the entries; raises the first failure.

        An idempotent producer keeps the order within a partition, so its offsets, ascending, belong to its entries in turn.
        """
        if self._failures:
            raise self._failures[0]
        if not self.settled:
            raise AppendFailed(self.entries[0].topic, self.partitions[0], "no delivery report in time", maybe_written=True)
        following = {place: iter(sorted(offsets)).__next__ for place, offsets in self._delivered.items()}
        found: list[Position] = []
        topic = self._topic
        if topic is not None:
            for partition in self.partitions:
                offset, ts = following[partition]()
                found.append(Position(topic, partition, offset, ts))
            return found
        for entry, partition in zip(self.entries, self.partitions, strict=True):
            found.append(Position(entry.topic, partition, *following[entry.topic, partition]()))
        return found

    def _close(self) -> None:
        self._window.leave(len(self.entries), self.size)
        self._done.set()
