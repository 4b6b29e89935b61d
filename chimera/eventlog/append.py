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
from functools import partial
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.eventlog.bulk import CHUNK, Chunk, Entry, Home, chunked, size_of
from chimera.eventlog.clientlog import ClientLog
from chimera.eventlog.failure import AppendFailed, failure_of
from chimera.eventlog.inflight import Inbox, Turns, Window
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.topics import TopicSet
from chimera.events.raw import Headers, Position

__all__ = ["AppendFailed", "Appender", "Entry"]

log = logging.getLogger(__name__)


class Appender:
    """One producer of one process, shared by all its threads and event loops; closing it waits for what is in flight.

    Appends that await each other keep their order, and so does one `append_many` within each partition; `append`s started
    side by side keep theirs only while the window has room. `linger_ms` trades latency for batch size;
    `delivery_timeout_s` bounds every append; `max_records` and `max_bytes` bound what is in flight, beyond which
    appends wait their turn. `gather_s`: while many records come one by one, `append` hands those of so many seconds over together,
    since the client sends each partition's in a request of its own.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: TopicSet,
        client_id: str,
        *,
        linger_ms: float = 0.5,
        gather_s: float = 0.0,
        delivery_timeout_s: float = 30.0,
        max_records: int = 50_000,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._topics = {spec.name: spec.partitions for spec in topics.topics}
        self._timeout_s = delivery_timeout_s
        self._window = Window(max_records, max_bytes)
        self._inbox = Inbox()
        self._turns = Turns(gather_s) if gather_s else None
        self._fatal: str | None = None
        self._closed = False
        self._stop_polling = threading.Event()
        self._steps = threading.Lock()
        self._bulks = 0
        self._alone = threading.Event()
        self._alone.set()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": client_id,
                "acks": "all",
                "enable.idempotence": True,
                # A backstop only: the partition is always given, by partition_for.
                "partitioner": "murmur2_random",
                "linger.ms": linger_ms,
                "reconnect.backoff.max.ms": 2000,
                "batch.size": 256 * 1024,
                "compression.type": "lz4",
                "delivery.timeout.ms": int(delivery_timeout_s * 1000),
                "request.timeout.ms": min(30_000, int(delivery_timeout_s * 1000)),
                # Above the window, so that the window is what waits, not librdkafka's queue.
                "queue.buffering.max.messages": max_records * 2,
                "queue.buffering.max.kbytes": max(2, max_bytes * 4 // 1024),
                "allow.auto.create.topics": False,
                "error_cb": self._on_error,
                "logger": ClientLog(log),
            }
        )
        self._poller = threading.Thread(target=self._poll, name=f"appender-{client_id}", daemon=True)
        self._poller.start()

    async def append(self, topic: str, key: str, value: bytes, headers: Headers, *, partition: int | None = None) -> Position:
        """Append one record and wait until the broker has it; the position's `append_ts` is the broker's clock.

        `partition` None is right for every stream: the partition of its key. Cancelling the wait does not take the
        record back. Raises `AppendFailed`, and `BadKey` for an empty key.
        """
        place = self._place(topic, key, partition)
        size = size_of(value, headers)
        if self._turns is not None:
            await self._turns.wait()
        arrived: asyncio.Future[Position | AppendFailed] = asyncio.get_running_loop().create_future()
        await self._enter(topic, place, size)

        def deliver(error: KafkaError | None, message: Message) -> None:
            self._window.leave(1, size)
            if error is not None:
                self._inbox.put(arrived, failure_of(topic, place, error))
            else:
                self._inbox.put(arrived, Position(topic, place, message.offset(), message.timestamp()[1]))  # type: ignore[arg-type]

        try:
            self._produce(topic, key, value, headers, place, deliver)
        except AppendFailed:
            self._window.leave(1, size)
            raise
        await failpoints.at("append.handed", partial(AppendFailed, topic, place, maybe_written=True))
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
        homes = self._homes(entries)
        # With few records the poll thread brings the reports soonest; with many, two threads trading the interpreter
        # lock for every report would cost more than half of the rate, so this thread polls and the other steps back.
        polling = len(entries) > CHUNK
        sent: list[Chunk] = []
        if polling:
            self._step_in()
        try:
            for chunk in chunked(entries, homes, self._window):
                sent.append(chunk)
                if not self._enter_chunk(chunk, polling):
                    break
                self._produce_chunk(chunk, polling)
            deadline = time.monotonic() + self._timeout_s + 5.0
            for chunk in sent:
                while polling and not chunk.settled and time.monotonic() < deadline:
                    self._producer.poll(0.02)
                chunk.wait(deadline)
        finally:
            if polling:
                self._step_out()
        positions = dict[int, Position]()
        for chunk in sent:
            positions.update(zip(chunk.numbers, chunk.positions(), strict=True))
        return [positions[number] for number in range(len(entries))]

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

    def _enter_chunk(self, chunk: Chunk, polling: bool) -> bool:
        """Wait for room in the window; without any in time the chunk has failed, and so has what follows it."""
        if self._closed or self._fatal is not None:
            chunk.never_entered(self._fatal or "this appender is closed")
            return False
        deadline = time.monotonic() + self._timeout_s
        while polling and not self._window.try_enter(len(chunk.entries), chunk.size):
            if time.monotonic() > deadline:
                chunk.never_entered(self._full())
                return False
            self._producer.poll(0.02)
        if not polling and not self._window.enter(len(chunk.entries), chunk.size, self._timeout_s):
            chunk.never_entered(self._full())
            return False
        return True

    def _produce_chunk(self, chunk: Chunk, polling: bool) -> None:
        produce, deliver = self._producer.produce, chunk.deliver
        for index, (entry, home) in enumerate(zip(chunk.entries, chunk.homes, strict=True)):
            _, key, value, headers, _ = entry
            topic, partition = home
            try:
                # By place and not by name (a second callback, no time of ours), which takes a tenth off the call.
                produce(topic, value, key, partition, deliver, None, 0, headers)  # type: ignore[arg-type]
            except (BufferError, KafkaException, TypeError):
                # Rare: once more, with patience and a name for what is wrong.
                try:
                    self._produce(topic, key, value, headers, partition, deliver)
                except AppendFailed as failure:
                    chunk.refuse(failure)
            if polling and not index % 50:
                self._producer.poll(0)

    def _step_in(self) -> None:
        with self._steps:
            self._bulks += 1
            self._alone.clear()

    def _step_out(self) -> None:
        with self._steps:
            self._bulks -= 1
            if not self._bulks:
                self._alone.set()

    def _place(self, topic: str, key: str, partition: int | None) -> int:
        """The partition that a record goes to. Raises `AppendFailed` for a topic this appender was not given, `BadKey`."""
        partitions = self._topics.get(topic)
        if partitions is None:
            reason = f"this appender was given {', '.join(self._topics)} only: add the topic where the process is wired"
            raise AppendFailed(topic, -1, reason, maybe_written=False)
        home = partition_for(key, partitions)
        return home if partition is None else partition

    def _homes(self, entries: Sequence[Entry]) -> list[Home]:
        """Where each entry belongs, by `_place`; streams that come again are not hashed again."""
        homes: list[Home] = []
        known_of = ""
        known: dict[str, Home] = {}
        for topic, key, _, _, partition in entries:
            if topic != known_of:
                known_of, known = topic, {}
            home = known.get(key)
            if home is None:
                home = known[key] = topic, self._place(topic, key, None)
            homes.append(home if partition is None else (topic, partition))
        return homes

    def _produce(
        self,
        topic: str,
        key: str,
        value: bytes,
        headers: Headers,
        partition: int,
        deliver: Callable[[KafkaError | None, Message], None],
    ) -> None:
        """Hand one record to librdkafka, waiting while its queue is full. Raises `AppendFailed` when it is refused."""
        deadline: float | None = None
        while True:
            if self._closed or self._fatal is not None:
                raise AppendFailed(topic, partition, self._fatal or "this appender is closed", maybe_written=False)
            try:
                self._producer.produce(topic, value, key, partition, deliver, headers=headers)  # type: ignore[arg-type]
                return
            except BufferError:
                # The window is narrower than librdkafka's queue, so this is rare and short.
                now = time.monotonic()
                deadline = deadline or now + self._timeout_s
                if now > deadline:
                    raise AppendFailed(topic, partition, self._full(), maybe_written=False) from None
                self._producer.poll(0.02)
            except KafkaException as error:
                raise AppendFailed(topic, partition, error.args[0].str(), maybe_written=False) from error
            except TypeError as error:
                raise AppendFailed(topic, partition, f"not a record: {error}", maybe_written=False) from error

    async def _enter(self, topic: str, partition: int, size: int) -> None:
        """Wait for room in the window; raises `AppendFailed` when there is none in time."""
        deadline = time.monotonic() + self._timeout_s
        while not self._window.try_enter(1, size):
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._window.call_on_leave(lambda room=room: self._inbox.put(room, None))  # type: ignore[misc]
            try:
                await asyncio.wait_for(room, deadline - time.monotonic())
            except TimeoutError:
                raise AppendFailed(topic, partition, self._full(), maybe_written=False) from None

    def _full(self) -> str:
        return f"{self._window.records} records in flight and none settled for {self._timeout_s} s: is Kafka up?"

    def _poll(self) -> None:
        # Asking for metadata connects at once; left alone, an idempotent producer takes half a second to its first append.
        try:
            self._producer.list_topics(next(iter(self._topics), None), timeout=1.0)
        except KafkaException as error:
            log.warning("appender: Kafka does not answer yet: %s", error.args[0].str())
        while not self._stop_polling.is_set():
            if self._alone.wait(0.1):
                self._producer.poll(0.1)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = f"the producer is dead ({error.str()}): restart this process"
            log.error("appender: %s", self._fatal)
        else:
            log.debug("appender: %s", error.str())  # librdkafka's own log line says it with more detail
