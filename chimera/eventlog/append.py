"""The one append path: an idempotent producer whose every append is awaited until the broker says where it lies.

The rule not to break: an append has succeeded only when its delivery report says so. What failed is raised, with the
word whether the record may be in the log all the same; nothing is sent and forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from chimera.errors import ChimeraError
from chimera.eventlog.inflight import Inbox, Window
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.topics import TopicSet
from chimera.events.raw import Headers, Position

log = logging.getLogger(__name__)

CHUNK = 500
"""Records of one `append_many` that enter the window together."""

_NEVER_WRITTEN = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""Reasons that every attempt meets alike. Of anything else an earlier attempt may have been written and only its answer lost."""


class AppendFailed(ChimeraError):
    """An append that has no position. `maybe_written` says whether the record may nevertheless be in the log.

    Appending again is always safe for the fold (a second copy is void), so a caller retries with the same event id.
    """

    def __init__(self, topic: str, partition: int, reason: str, maybe_written: bool) -> None:
        known = "it may be in the log all the same" if maybe_written else "it is not in the log"
        super().__init__(f"append to {topic}[{partition}] failed: {reason}; {known}")
        self.topic = topic
        self.partition = partition
        self.reason = reason
        self.maybe_written = maybe_written


class Entry(NamedTuple):
    """One record to append. `partition` None means the partition of its key, which is right for every stream."""

    topic: str
    key: str
    value: bytes
    headers: Headers
    partition: int | None = None


class Appender:
    """One producer of one process, shared by all its threads and event loops; closing it waits for what is in flight.

    Appends of one thread to one partition keep their order. `linger_ms` trades latency for batch size;
    `delivery_timeout_s` bounds every append; `max_records` and `max_bytes` bound what is in flight, beyond which
    appends wait their turn.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: TopicSet,
        client_id: str,
        *,
        linger_ms: float = 0.5,
        delivery_timeout_s: float = 30.0,
        max_records: int = 20_000,
        max_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._topics = {spec.name: spec.partitions for spec in topics.topics}
        self._timeout_s = delivery_timeout_s
        self._window = Window(max_records, max_bytes)
        self._inbox = Inbox()
        self._fatal: str | None = None
        self._closed = False
        self._stop_polling = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": client_id,
                "acks": "all",
                "enable.idempotence": True,
                # A backstop only: the partition is always given, by partition_for.
                "partitioner": "murmur2_random",
                "linger.ms": linger_ms,
                "batch.size": 256 * 1024,
                "compression.type": "lz4",
                "delivery.timeout.ms": int(delivery_timeout_s * 1000),
                "request.timeout.ms": min(30_000, int(delivery_timeout_s * 1000)),
                # Above the window, so that the window is what waits, not librdkafka's queue.
                "queue.buffering.max.messages": max_records * 2,
                "queue.buffering.max.kbytes": max(2, max_bytes * 4 // 1024),
                "allow.auto.create.topics": False,
                "error_cb": self._on_error,
                "logger": log,
            }
        )
        self._poller = threading.Thread(target=self._poll, name=f"appender-{client_id}", daemon=True)
        self._poller.start()

    async def append(self, topic: str, key: str, value: bytes, headers: Headers, *, partition: int | None = None) -> Position:
        """Append one record and wait until the broker has it; the position's `append_ts` is the broker's clock.

        `partition` None is right for every stream: the partition of its key. Cancelling the wait does not take the
        record back. Raises `AppendFailed`, and `BadKey` for an empty key.
        """
        entry = self._placed(Entry(topic, key, value, headers, partition))
        size = _size(entry)
        arrived: asyncio.Future[Position | AppendFailed] = asyncio.get_running_loop().create_future()
        await self._enter_async(entry, size)

        def deliver(error: KafkaError | None, message: Message) -> None:
            self._window.leave(1, size)
            self._inbox.put(arrived, _outcome(error, message))

        self._produce(entry, deliver, 1, size)
        outcome = await arrived
        if isinstance(outcome, AppendFailed):
            raise outcome
        return outcome

    def append_blocking(self, topic: str, key: str, value: bytes, headers: Headers, *, partition: int | None = None) -> Position:
        """`append` for code without an event loop; blocks the calling thread. Raises what `append` raises."""
        return self.append_many([Entry(topic, key, value, headers, partition)])[0]

    def append_many(self, entries: Sequence[Entry]) -> list[Position]:
        """Append many records, in this order within each partition, and block until all are there.

        Not a transaction: when one fails, the first failure is raised after all are settled, and the others may be in the log.
        """
        placed = [self._placed(entry) for entry in entries]
        chunks: list[_Chunk] = []
        for start in range(0, len(placed), CHUNK):
            chunk = _Chunk(placed[start : start + CHUNK], self._window)
            if not self._window.enter(len(chunk.entries), chunk.size, self._timeout_s):
                first = chunk.entries[0]
                chunk.fail_all(AppendFailed(first.topic, first.partition or 0, self._full(), maybe_written=False))
                chunks.append(chunk)
                break
            chunks.append(chunk)
            for index, entry in enumerate(chunk.entries):
                try:
                    self._produce(entry, chunk.deliver_to(index), 0, 0)
                except AppendFailed as failure:
                    chunk.settle(index, failure)
        deadline = time.monotonic() + self._timeout_s + 5.0
        for chunk in chunks:
            chunk.wait(deadline)
        return [position for chunk in chunks for position in chunk.positions()]

    @property
    def fatal(self) -> str | None:
        """Why this producer can never append again, None while it can; the process then has to restart."""
        return self._fatal

    def in_flight(self) -> int:
        """Records handed over and not yet settled."""
        return self._window.records

    def close(self, timeout_s: float = 30.0) -> None:
        """Wait for what is in flight and stop. Raises `ChimeraError` naming how many records are unsettled at the end."""
        if self._closed:
            return
        self._closed = True
        left = self._producer.flush(timeout_s)
        if left:
            # Their waiters get an answer now instead of never.
            self._producer.purge()
            self._producer.flush(1.0)
        self._stop_polling.set()
        self._poller.join(5.0)
        if left:
            raise ChimeraError(f"appender closed with {left} records unsettled after {timeout_s} s: they may be in the log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _placed(self, entry: Entry) -> Entry:
        partitions = self._topics.get(entry.topic)
        if partitions is None:
            raise AppendFailed(
                entry.topic,
                -1,
                f"this appender was given {', '.join(self._topics)} only: add the topic where the process is wired",
                maybe_written=False,
            )
        if entry.partition is None:
            return entry._replace(partition=partition_for(entry.key, partitions))
        if not entry.key:
            partition_for(entry.key, partitions)
        return entry

    def _produce(self, entry: Entry, deliver: Callable[[KafkaError | None, Message], None], records: int, size: int) -> None:
        """Hand one record to librdkafka, waiting while its queue is full; leaves the window again when it is refused."""
        topic, key, value, headers, partition = entry
        partition = -1 if partition is None else partition
        wire: list[tuple[str, str | bytes | None]] = headers  # type: ignore[assignment]  # a list that librdkafka only reads
        deadline = time.monotonic() + self._timeout_s
        while True:
            reason: str | None = None
            if self._closed or self._fatal is not None:
                reason = self._fatal or "this appender is closed"
            else:
                try:
                    self._producer.produce(topic, value, key, partition, deliver, headers=wire)
                    return
                except BufferError:
                    # The window is narrower than librdkafka's queue, so this is rare and short.
                    self._window.await_leave(0.05)
                    if time.monotonic() > deadline:
                        reason = self._full()
                except KafkaException as error:
                    reason = error.args[0].str()
            if reason is not None:
                self._window.leave(records, size)
                raise AppendFailed(topic, partition, reason, maybe_written=False)

    async def _enter_async(self, entry: Entry, size: int) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not self._window.try_enter(1, size):
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._window.call_on_leave(lambda room=room: self._inbox.put(room, None))  # type: ignore[misc]
            try:
                await asyncio.wait_for(room, deadline - time.monotonic())
            except TimeoutError:
                raise AppendFailed(entry.topic, entry.partition or 0, self._full(), maybe_written=False) from None

    def _full(self) -> str:
        return f"{self._window.records} records in flight and none settled for {self._timeout_s} s: is Kafka up?"

    def _poll(self) -> None:
        # Asking for metadata connects at once; left alone, an idempotent producer takes half a second to its first append.
        try:
            self._producer.list_topics(next(iter(self._topics), None), timeout=1.0)
        except KafkaException as error:
            log.warning("appender: Kafka does not answer yet: %s", error.args[0].str())
        while not self._stop_polling.is_set():
            self._producer.poll(0.1)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = f"the producer is dead ({error.str()}): restart this process"
            log.error("appender: %s", self._fatal)
        else:
            log.warning("appender: %s", error.str())


class _Chunk:
    """Some records of one `append_many`: outcomes by index, the window left at once when the last is settled."""

    def __init__(self, entries: list[Entry], window: Window) -> None:
        self.entries = entries
        self.size = sum(_size(entry) for entry in entries)
        self._window = window
        self._outcomes: list[Position | AppendFailed | None] = [None] * len(entries)
        self._left = len(entries)
        self._lock = threading.Lock()
        self._done = threading.Event()

    def deliver_to(self, index: int) -> Callable[[KafkaError | None, Message], None]:
        def deliver(error: KafkaError | None, message: Message) -> None:
            self.settle(index, _outcome(error, message))

        return deliver

    def settle(self, index: int, outcome: Position | AppendFailed) -> None:
        self._outcomes[index] = outcome
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._window.leave(len(self.entries), self.size)
            self._done.set()

    def fail_all(self, failure: AppendFailed) -> None:
        """For a chunk that never entered the window."""
        self._outcomes = [failure] * len(self.entries)
        self._done.set()

    def wait(self, deadline: float) -> None:
        """Wait until every record is settled, or for the deadline (monotonic seconds)."""
        self._done.wait(max(0.0, deadline - time.monotonic()))

    def positions(self) -> list[Position]:
        """Where the records lie, in their order; raises the first failure."""
        positions: list[Position] = []
        for entry, outcome in zip(self.entries, self._outcomes, strict=True):
            if outcome is None:
                raise AppendFailed(entry.topic, entry.partition or 0, "no delivery report in time", maybe_written=True)
            if isinstance(outcome, AppendFailed):
                raise outcome
            positions.append(outcome)
        return positions


def _size(entry: Entry) -> int:
    """Bytes that one record holds in flight; 64 for librdkafka's own bookkeeping."""
    return len(entry.value) + sum([len(name) + len(value) for name, value in entry.headers]) + 64


def _outcome(error: KafkaError | None, message: Message) -> Position | AppendFailed:
    topic, partition = message.topic() or "", message.partition()
    if error is not None:
        return AppendFailed(topic, -1 if partition is None else partition, error.str(), error.code() not in _NEVER_WRITTEN)
    return Position(topic, partition, message.offset(), message.timestamp()[1])  # type: ignore[arg-type]
