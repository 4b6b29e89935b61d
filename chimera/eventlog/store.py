"""Single records by coordinates: what state refers to by (partition, offset) is read back here, through a cache.

The rule not to break: what comes back is the record at exactly that place or an error, never a neighbour; a record on
the log never changes, so what is cached is never stale.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from chimera.errors import ChimeraError
from chimera.eventlog.offsets import ReadFailed
from chimera.eventlog.read import consumer_config, raw_record
from chimera.events.raw import RawRecord

log = logging.getLogger(__name__)

At = tuple[str, int, int]
"""Topic, partition, offset."""

_NEAR = 64
"""A wanted offset at most this far ahead is read on to; anything further is jumped to (a jump costs under a millisecond)."""

_READ_ERRORS = (ChimeraError, KafkaException, RuntimeError)

_LOOK_AGAIN_S = 0.2
"""How long a broker may be silent before it is asked whether the record exists at all."""


class RecordMissing(ChimeraError):
    """No record at this place: past the end of the log, before its beginning, or in a hole."""

    def __init__(self, at: At, reason: str) -> None:
        super().__init__(f"no record at {at[0]}[{at[1]}]@{at[2]}: {reason}")
        self.at = at


class RecordCache:
    """The records used last, bounded by the bytes they hold; thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._records: OrderedDict[At, RawRecord] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, at: At) -> RawRecord | None:
        """The record when it is held, counted as a hit or a miss."""
        with self._lock:
            record = self._records.get(at)
            if record is None:
                self.misses += 1
            else:
                self.hits += 1
                self._records.move_to_end(at)
            return record

    def put(self, record: RawRecord) -> None:
        """Hold a record, letting those used longest ago go; one larger than the whole cache is not held."""
        at, size = (record.topic, record.partition, record.offset), _held_bytes(record)
        with self._lock:
            if at in self._records or size > self._max_bytes:
                return
            self._records[at] = record
            self.bytes += size
            while self.bytes > self._max_bytes:
                _, gone = self._records.popitem(last=False)
                self.bytes -= _held_bytes(gone)


class RecordStore:
    """Reads records by place, with one consumer and one cache, for all threads and event loops of a process.

    `timeout_s` bounds every read. Nothing is fetched between reads.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        cache_bytes: int = 64 * 1024 * 1024,
        timeout_s: float = 10.0,
        client_id: str = "chimera-store",
    ) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self.cache = RecordCache(cache_bytes)
        self._reading = threading.Lock()
        self._asking = threading.Lock()
        self._asked: list[tuple[At, asyncio.Future[RawRecord]]] = []
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=client_id)
        self._closed = False
        self._consumer = Consumer(
            consumer_config(bootstrap, client_id)
            | {
                # One record is wanted, at once: small fetches, no waiting for more, no reading ahead. A record larger
                # than the fetch size still comes whole. Once it has come the queue is full: with a backoff of 0 the client's
                # thread would spin until the reader, who waits for the interpreter, takes it.
                "fetch.min.bytes": 1,
                "fetch.wait.max.ms": 1,
                "fetch.message.max.bytes": 4096,
                "fetch.queue.backoff.ms": 1,
                "queued.min.messages": 1,
                "queued.max.messages.kbytes": 1024,
            }
        )

    def read_at(self, topic: str, partition: int, offset: int) -> RawRecord:
        """The record at this place. Raises `RecordMissing`, and `ReadFailed` when Kafka does not answer in time."""
        return self.read_many([(topic, partition, offset)])[0]

    def read_many(self, places: Iterable[At]) -> list[RawRecord]:
        """The records at these places, in their order; each distinct place is read once, sorted. Raises as `read_at`."""
        wanted = list(places)
        found: dict[At, RawRecord] = {}
        for at in dict.fromkeys(wanted):
            cached = self.cache.get(at)
            if cached is not None:
                found[at] = cached
        missing = sorted(set(wanted) - found.keys())
        if missing:
            with self._reading:
                found |= self._fetch(missing)
        return [found[at] for at in wanted]

    async def aread_at(self, topic: str, partition: int, offset: int) -> RawRecord:
        """`read_at` that leaves the event loop free; what is cached is answered without a thread.

        What is asked for while a read goes on is read together afterwards: neighbours on the log cost one jump.
        """
        cached = self.cache.get((topic, partition, offset))
        if cached is not None:
            return cached
        answer: asyncio.Future[RawRecord] = asyncio.get_running_loop().create_future()
        with self._asking:
            self._asked.append(((topic, partition, offset), answer))
            if len(self._asked) == 1:
                self._worker.submit(self._answer)
        return await answer

    def _answer(self) -> None:
        """Read what was asked for up to now. Runs in the store's thread."""
        with self._asking:
            asked, self._asked = self._asked, []
        outcomes: list[RawRecord | Exception]
        try:
            outcomes = list(self.read_many(at for at, _ in asked))
        except _READ_ERRORS:
            outcomes = [self._outcome(at) for at, _ in asked]  # one of them is to blame, not its neighbours
        for (_, answer), outcome in zip(asked, outcomes, strict=True):
            _settle(answer, outcome)

    def _outcome(self, at: At) -> RawRecord | Exception:
        try:
            return self.read_at(*at)
        except _READ_ERRORS as error:
            return error

    def close(self) -> None:
        """Let the connections go, after the read in progress."""
        if self._closed:
            return
        self._closed = True
        self._worker.shutdown(wait=True, cancel_futures=True)
        for at, answer in self._asked:
            _settle(answer, ReadFailed(f"{at[0]}[{at[1]}]@{at[2]} was not read: the store was closed before"))
        with self._reading:
            self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fetch(self, places: list[At]) -> dict[At, RawRecord]:
        """Read sorted distinct places one after the other, jumping only where the next is far."""
        found: dict[At, RawRecord] = {}
        here: tuple[str, int] | None = None
        following = 0
        try:
            for at in places:
                topic, partition, offset = at
                if here != (topic, partition) or not 0 <= offset - following <= _NEAR:
                    # Assigning anew is as fast as a seek and drops what was fetched for the last place.
                    self._consumer.assign([TopicPartition(topic, partition, offset)])
                    here, following = (topic, partition), offset
                found[at] = self._read_on_to(at, following)
                following = offset + 1
        except (KafkaException, RuntimeError) as error:
            raise ReadFailed(f"cannot read records by offset at {self._bootstrap}: {error}") from error
        finally:
            if not self._closed:
                self._consumer.unassign()
        return found

    def _read_on_to(self, at: At, following: int) -> RawRecord:
        deadline = time.monotonic() + self._timeout_s
        while True:
            message = self._consumer.poll(_LOOK_AGAIN_S)
            if message is None:
                self._assert_exists(at)
            elif message.error() is not None:
                self._raise_unless_passing(at, message)
            else:
                record = raw_record(message)
                self.cache.put(record)
                if record.offset == at[2]:
                    return record
                if record.offset > at[2]:
                    raise RecordMissing(at, f"the next record after {following} is {record.offset}: the log has a hole")
            if time.monotonic() > deadline:
                raise ReadFailed(f"{at[0]}[{at[1]}]@{at[2]} did not come from {self._bootstrap} in {self._timeout_s} s: is it up?")

    def _assert_exists(self, at: At) -> None:
        """Raise `RecordMissing` when the log does not reach to this place; silence otherwise, for the deadline to judge."""
        topic, partition, offset = at
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=self._timeout_s)
        except KafkaException as error:
            raise ReadFailed(f"{topic}[{partition}] at {self._bootstrap} does not answer: {error}") from error
        if offset >= high:
            raise RecordMissing(at, f"the log ends at {high}")
        if offset < low:
            raise RecordMissing(at, f"the log begins at {low}")

    def _raise_unless_passing(self, at: At, message: Message) -> None:
        error = message.error()
        if error is None or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT):
            log.warning("reading %s[%d]@%d: %s", *at, error)
            return
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            self._assert_exists(at)
            raise RecordMissing(at, error.str())
        raise ReadFailed(f"cannot read {at[0]}[{at[1]}]@{at[2]}: {error.str()}")


def _settle(answer: asyncio.Future[RawRecord], outcome: RawRecord | Exception) -> None:
    """Give a waiting coroutine its record or its error, in its own loop."""

    def give() -> None:
        if answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    try:
        answer.get_loop().call_soon_threadsafe(give)
    except RuntimeError:
        log.debug("a record came after the event loop that asked for it had ended")


def _held_bytes(record: RawRecord) -> int:
    """Bytes that a cached record holds: its contents and some 120 for each Python object around them."""
    contents = len(record.key or b"") + len(record.value or b"") + sum(len(name) + len(value) for name, value in record.headers)
    return contents + 120 * (4 + len(record.headers))
