"""The one read path: records of assigned partitions in offset order, checked for holes, without consumer groups.

The rule not to break: `chimera.log` has no holes, so whoever meets one stops. A reader starts where its owner's state
says, never at a committed offset, and never skips.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from chimera.errors import ChimeraError
from chimera.eventlog.clientlog import ClientLog
from chimera.eventlog.offsets import EARLIEST, LATEST, ReadFailed, offsets_of
from chimera.eventlog.topics import KafkaUnavailable
from chimera.eventlog.trickle import GATHER_MS, LASTING, Trickle
from chimera.events.raw import Headers, RawRecord

log = logging.getLogger(__name__)

BUFFERED_BYTES = 8 * 1024 * 1024
"""Read ahead by a reader; four times as much is no faster and takes 70 MB more of a process, headers and all."""
PORTION = 128
"""Records that are read at once by who reads everything: they stay in the core's cache until they are folded, and what they took is
used again for the next. Thousands at once cost 3 us more for each (decision 0129)."""
SOON_MS = 50
"""So long the broker holds the question of a reader that gathers, where nothing comes: while some partitions are asked for, the
others wait."""


_AT_ONCE = {"fetch.wait.max.ms": 500, "fetch.min.bytes": 1}
_HANDOVER_S = 0.6
"""So long both consumers read after a change of pace: the first question of a new assignment asks for those partitions alone that
librdkafka has started by then, and the broker may hold it for `fetch.wait.max.ms`. Nobody is to wait for the others until then."""

_TURN_S = 0.002
"""So long one consumer is waited for during a handover before the other is asked."""


class LogHole(ChimeraError):
    """A partition whose next record is not the next offset: records are missing, and nothing read after them counts."""

    def __init__(self, topic: str, partition: int, expected: int, got: int) -> None:
        super().__init__(
            f"hole in {topic}[{partition}]: expected offset {expected}, got {got}. The log was cut or compacted: "
            "stop all processes and restore this partition; nothing may be folded past a hole"
        )
        self.topic, self.partition, self.expected, self.got = topic, partition, expected, got


class CheckpointAhead(ChimeraError):
    """A reader that wants to start past the end of the log: its checkpoint knows records that the log does not have."""

    def __init__(self, topic: str, partition: int, start: int, end: int) -> None:
        super().__init__(
            f"checkpoint ahead of the log: {topic}[{partition}] ends at {end}, but reading was to start at {start}. "
            "This is another cluster, or the log lost its end: do not go on from this checkpoint"
        )
        self.topic, self.partition, self.start, self.end = topic, partition, start, end


def end_offsets(bootstrap: str, topic: str, partitions: Iterable[int] | None = None, timeout_s: float = 10.0) -> dict[int, int]:
    """Per partition (all when None) the offset that the next record will get. Raises `ReadFailed`, `KafkaUnavailable`."""
    return offsets_of(bootstrap, topic, partitions, LATEST, timeout_s)


def begin_offsets(bootstrap: str, topic: str, partitions: Iterable[int] | None = None, timeout_s: float = 10.0) -> dict[int, int]:
    """Per partition (all when None) the first offset that is still there; 0 on a log that was never cut."""
    return offsets_of(bootstrap, topic, partitions, EARLIEST, timeout_s)


def consumer_config(bootstrap: str, client_id: str) -> dict[str, Any]:
    """What every consumer of this room has in common: no group, no commits, no resets, everything that was written."""
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "group.id": "chimera-none",  # librdkafka wants a name; no group is joined and nothing is committed
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_uncommitted",
        "allow.auto.create.topics": False,
        "check.crcs": True,
        "fetch.error.backoff.ms": 50,
        "reconnect.backoff.ms": 200,
        "reconnect.backoff.max.ms": 2000,
        "logger": ClientLog(log),
    }


class Reader:
    """Reads some partitions of one topic from given offsets on; for one thread. Live: it goes on as the log grows.

    `start` maps partition to the first wanted offset. Constructing asks the broker for the bounds of the log and
    raises `CheckpointAhead` for a start past the end, `LogHole` for one before the beginning, `ReadFailed` for an unknown
    partition; `unasked`: it asks nothing, which would take twenty times as long as reading does, and what is out of bounds is a
    `ReadFailed` of the first `read`. `gather_ms`: after something came, the broker is asked again only so many milliseconds later,
    so that what trickles in costs no request per record; `gather_when_busy`: only while much comes (`Trickle`), by a second
    consumer, because a consumer's pause is fixed when it is made; both read for a moment when the pace changes.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        start: Mapping[int, int],
        *,
        client_id: str = "chimera-reader",
        buffer_bytes: int = BUFFERED_BYTES,
        timeout_s: float = 10.0,
        gather_ms: int = 0,
        gather_when_busy: bool = False,
        unasked: bool = False,
    ) -> None:
        if not unasked:
            check_bounds(bootstrap, topic, start, timeout_s)
        self._topic = topic
        self._next = dict(start)
        self._config = consumer_config(bootstrap, client_id) | {
            "queued.max.messages.kbytes": max(1, buffer_bytes // 1024),
            "fetch.message.max.bytes": 1024 * 1024,
            # Waiting a full second (the default) when the buffer was full would be most of a rebuild's time.
            "fetch.queue.backoff.ms": 5,
        }
        self._trickle = Trickle(lasting=LASTING) if gather_when_busy else None
        self._other: Consumer | None = None
        """The consumer for the other pace, once it was needed; it is assigned nothing but while it hands over."""
        self._handed_over_at: float | None = None
        """When (steady clock) the handover that goes on is over."""
        self._twice: dict[int, int] = {}
        """Where each partition stood at its end: below that, this consumer brings again what the other one brought."""
        self._consumer = self._made(gather_ms)
        self._assign()

    @property
    def positions(self) -> dict[int, int]:
        """Per partition the offset of the next record that `read` returns."""
        return dict(self._next)

    def read(self, max_records: int = 2000, timeout_s: float = 0.5) -> list[RawRecord]:
        """What has arrived, at most `max_records`, in offset order within each partition; waits up to `timeout_s`
        for the first record and for no other. Empty when nothing came. Raises `LogHole`, `ReadFailed`.
        """
        # consume() with a timeout would wait for the batch to fill, which makes the timeout a floor of latency.
        messages = self._consumer.consume(max_records, 0)
        if self._handed_over_at is not None and len(messages) < max_records:
            messages += self._leaving().consume(max_records - len(messages), 0)
        if not messages:
            first = self._first(timeout_s)
            if first is None:
                self._pace(0)
                return []
            messages = [first]
            if max_records > 1:
                messages += self._consumer.consume(max_records - 1, 0)
        records = self._in_order(messages)
        self._pace(len(records))
        return records

    def _in_order(self, messages: Iterable[Message]) -> list[RawRecord]:
        # Once per record of every log: what a message is asked for costs, and so does calling whoever would ask.
        positions, topic = self._next, self._topic
        records: list[RawRecord] = []
        for message in messages:
            if message.error() is not None:
                self._raise_unless_passing(message)
                continue
            partition: int = message.partition()  # type: ignore[assignment]  # None for errors alone
            offset: int = message.offset()  # type: ignore[assignment]
            expected = positions.get(partition)
            if offset != expected:
                if expected is None:  # released while it lay in the buffer
                    continue
                if offset < expected and (self._handed_over_at is not None or offset < self._twice.get(partition, 0)):
                    continue
                raise LogHole(topic, partition, expected, offset)
            positions[partition] = offset + 1
            headers: Headers = message.headers() or []  # type: ignore[assignment]
            records.append(_record((topic, partition, offset, message.timestamp()[1], message.key(), message.value(), headers)))
        return records

    def end(self, partition: int, timeout_s: float = 5.0) -> int:
        """The offset that the next record of the partition will get, asked for now. Raises `KafkaUnavailable`."""
        try:
            found = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout_s, cached=False)
        except KafkaException as error:
            raise KafkaUnavailable(f"Kafka did not tell the end of {self._topic}[{partition}]: {error.args[0].str()}") from error
        if found is None:
            raise KafkaUnavailable(f"Kafka did not tell the end of {self._topic}[{partition}] within {timeout_s:g} s")
        return int(found[1])

    def release(self, partition: int) -> None:
        """Stop reading one partition; what is buffered of it is dropped."""
        if self._next.pop(partition, None) is not None:
            for consumer in [self._consumer] if self._handed_over_at is None else [self._consumer, self._leaving()]:
                consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def close(self) -> None:
        """Let the connections go; reading afterwards is an error."""
        self._consumer.close()
        if self._other is not None:
            self._other.close()

    @property
    def gathers(self) -> bool:
        """Is the broker asked seldom just now, because much comes?"""
        return self._trickle is not None and self._trickle.busy

    def _made(self, gather_ms: int) -> Consumer:
        if not gather_ms:
            return Consumer(self._config | _AT_ONCE)
        # The pause is ours, not the broker's: a question that it holds until more is there is looked at anew, all partitions of it,
        # with each record that anybody appends. librdkafka pauses for its backoff while so many records lie unread.
        pause = {"queued.min.messages": 1, "fetch.queue.backoff.ms": gather_ms}
        return Consumer(self._config | {"fetch.min.bytes": 1, "fetch.wait.max.ms": max(SOON_MS, gather_ms)} | pause)

    def _assign(self) -> None:
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in self._next.items()])

    def _leaving(self) -> Consumer:
        """The consumer that is read to the end of a handover."""
        assert self._other is not None, "a handover is from one to the other"
        return self._other

    def _first(self, timeout_s: float) -> Message | None:
        """The next message within so long; during a handover of whichever consumer has one."""
        if self._handed_over_at is None:
            return self._consumer.poll(timeout_s)
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._consumer.poll(min(timeout_s, _TURN_S))
            if message is None:
                message = next(iter(self._leaving().consume(1, 0)), None)
            if message is not None or time.monotonic() >= deadline:
                return message

    def _pace(self, records: int) -> None:
        """Go on with the other consumer where it got busy or calm; what this one has fetched ahead is fetched again."""
        if self._trickle is None:
            return
        now = time.monotonic()
        changed = self._trickle.saw(records, now)
        if self._handed_over_at is not None and (changed or now >= self._handed_over_at):
            self._leaving().unassign()
            self._handed_over_at, self._twice = None, dict(self._next)
        if changed:
            other = self._other if self._other is not None else self._made(GATHER_MS)
            self._consumer, self._other = other, self._consumer
            self._assign()
            self._handed_over_at = now + _HANDOVER_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _raise_unless_passing(self, message: Message) -> None:
        error = message.error()
        if error is None or error.code() in _PASSING or (error.retriable() and not error.fatal()):
            log.warning("reading %s: %s", self._topic, error)
            return
        partition = message.partition()
        at = self._next.get(partition, -1) if partition is not None else -1
        raise ReadFailed(f"cannot read {self._topic}[{partition}] at offset {at}: {error.str()} ({error.name()})")


_PASSING = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._PARTITION_EOF})
"""Errors that librdkafka recovers from by itself; progress is the business of the caller's deadline."""


def read_until(
    bootstrap: str,
    topic: str,
    partitions: Iterable[int],
    start: Mapping[int, int] | None = None,
    end: Mapping[int, int] | None = None,
    *,
    max_records: int = PORTION,
    no_progress_s: float = 30.0,
    unasked: bool = False,
) -> Iterator[list[RawRecord]]:
    """Batches of everything from `start` (0 where not named) up to and without `end`, then stops.

    Who does something costly per batch, such as a transaction, asks for larger ones by `max_records`.

    `end` None is captured once, before the first batch. Raises what `Reader` raises, and `ReadFailed` when no record
    came for `no_progress_s` though some are due.
    """
    wanted = sorted(set(partitions))
    first = {p: (start or {}).get(p, 0) for p in wanted}
    until = end_offsets(bootstrap, topic, wanted) if end is None else {p: end[p] for p in wanted}
    for p in wanted:
        if first[p] > until[p]:
            raise CheckpointAhead(topic, p, first[p], until[p])
    due = {p for p in wanted if first[p] < until[p]}
    if not due:
        return
    with Reader(bootstrap, topic, {p: first[p] for p in due}, unasked=unasked) as reader:
        deadline = time.monotonic() + no_progress_s
        while due:
            batch = reader.read(max_records, 0.2)
            if not batch:
                if time.monotonic() > deadline:
                    at = {p: (reader.positions[p], until[p]) for p in sorted(due)}
                    raise ReadFailed(f"no record of {topic} for {no_progress_s} s with (position, end) {at}: is Kafka up?")
                continue
            deadline = time.monotonic() + no_progress_s
            positions = reader.positions
            over = any(positions[p] > until[p] for p in due)
            for p in [p for p in due if positions[p] >= until[p]]:
                due.discard(p)
                reader.release(p)
            if over:
                batch = [record for record in batch if record.offset < until[record.partition]]
            if batch:
                yield batch


_record: Callable[[tuple[Any, ...]], RawRecord] = partial(tuple.__new__, RawRecord)
"""A named tuple of all its parts, past its own constructor, which takes longer than the tuple."""


def raw_record(message: Message) -> RawRecord:
    """A consumed message as bytes and coordinates; a record without headers has an empty list."""
    headers: Headers = message.headers() or []  # type: ignore[assignment]
    return RawRecord(
        message.topic() or "",
        message.partition(),  # type: ignore[arg-type]
        message.offset(),  # type: ignore[arg-type]
        message.timestamp()[1],
        message.key(),
        message.value(),
        headers,
    )


def check_bounds(bootstrap: str, topic: str, start: Mapping[int, int], timeout_s: float = 10.0) -> None:
    """Does the log hold what is to be read from there on? Raises `CheckpointAhead`, `LogHole`, `ReadFailed`, `KafkaUnavailable`."""
    ends = end_offsets(bootstrap, topic, start, timeout_s)
    begins = begin_offsets(bootstrap, topic, start, timeout_s)
    for partition, offset in start.items():
        if offset > ends[partition]:
            raise CheckpointAhead(topic, partition, offset, ends[partition])
        if offset < begins[partition]:
            raise LogHole(topic, partition, offset, begins[partition])
