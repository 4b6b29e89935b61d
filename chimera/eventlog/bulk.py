"""Many records of one append as chunks: they enter the window together, and each keeps its place among the answers.

The rule not to break: every record of a chunk is settled exactly once, by its delivery report or by its refusal; the
last one gives the window back. This is the hot path of bulk loads, so it does per record what cannot be left out.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message

from chimera.eventlog.failure import AppendFailed, failure_of
from chimera.eventlog.inflight import Window
from chimera.events.raw import Headers, Position

CHUNK = 500
"""Records that enter the window together."""

GROUP = 4 * CHUNK
"""Records that are sent partition by partition: whole chunks, each of which is so in the order of its positions. The more,
the fuller the batches; many more, and reading them out of their order costs what the order saves (0159)."""

_position: Callable[[tuple[Any, ...]], Position] = partial(tuple.__new__, Position)
"""A position of its four values: the class itself would take Python code for each."""


Home = tuple[str, int]
"""Topic and partition."""


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


def by_partition(homes: Sequence[Home]) -> Iterator[list[int]]:
    """The numbers of entries in the order in which to send them, given where each belongs: `GROUP` by `GROUP`, when asked for.

    Those of one partition follow each other, in their own order: sent in turns, each partition's batch would hold the few
    records that came within the linger time, and every batch costs the broker a request.
    """
    for start in range(0, len(homes), GROUP):
        together: defaultdict[Home, list[int]] = defaultdict(list)
        for number, home in enumerate(homes[start : start + GROUP], start):
            together[home].append(number)
        yield list(itertools.chain.from_iterable(together[home] for home in sorted(together)))


def chunked(entries: Sequence[Entry], homes: Sequence[Home], window: Window) -> Iterator[Chunk]:
    """The entries as chunks, in the order in which to send them. Each is made when it is asked for: while the ones before are on
    their way."""
    for group in by_partition(homes):
        for start in range(0, len(group), CHUNK):
            numbers = group[start : start + CHUNK]
            yield Chunk(numbers, [entries[n] for n in numbers], [homes[n] for n in numbers], window)


class Chunk:
    """Some entries with their numbers and where they belong, ascending, and what became of them."""

    def __init__(self, numbers: list[int], entries: list[Entry], homes: list[Home], window: Window) -> None:
        self.numbers = numbers
        self.entries = entries
        self.homes = homes
        self.size = sum([len(value) + 64 * len(headers) for _, _, value, headers, _ in entries]) + 64 * len(entries)  # `size_of`
        self._window = window
        self._topic = homes[0][0] if homes[0][0] == homes[-1][0] else None
        """The one topic of all entries, None where there are several."""
        self._delivered: list[Position] = []
        self._failures: list[AppendFailed] = []
        # Counting is one atomic step, and so is putting a position away: reports of several threads need no lock.
        self._settled = itertools.count(1).__next__
        self._done = threading.Event()

    def deliver(self, error: KafkaError | None, message: Message) -> None:
        """The delivery callback of every entry: one for all, because a closure for each would cost more than the rest."""
        if error is None:
            # A kept message would keep its value: what is wanted of it is taken out at once.
            topic = self._topic or message.topic()
            self._delivered.append(_position((topic, message.partition(), message.offset(), message.timestamp()[1])))
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
        self._failures.append(AppendFailed(*self.homes[0], reason, maybe_written=False))
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

        An idempotent producer keeps the order within a partition, so its offsets, ascending, belong to its entries in turn;
        and the entries lie partition by partition, so all positions, ascending, belong to all entries in turn.
        """
        if self._failures:
            raise self._failures[0]
        if not self.settled:
            raise AppendFailed(*self.homes[0], "no delivery report in time", maybe_written=True)
        return self._delivered

    def _close(self) -> None:
        self._delivered.sort()
        self._window.leave(len(self.entries), self.size)
        self._done.set()
