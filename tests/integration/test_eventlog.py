"""The door to Kafka against a real broker: what is appended is read back, and what cannot be is said."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Producer, TopicPartition

from chimera.audit.source import KafkaSource
from chimera.eventlog.append import Appender, AppendFailed, Entry
from chimera.eventlog.cluster import admin_client, apply
from chimera.eventlog.offsets import ReadFailed
from chimera.eventlog.partitioner import BadKey, partition_for
from chimera.eventlog.read import (
    CheckpointAhead,
    LogHole,
    Reader,
    begin_offsets,
    end_offsets,
    read_until,
)
from chimera.eventlog.store import RecordMissing, RecordStore
from chimera.eventlog.topics import TopicSet, TopicSpec, load_topics
from chimera.eventlog.trickle import Trickle
from chimera.events.raw import Headers, RawRecord

HEADERS: Headers = [("ce_id", b"1"), ("ce_type", b"Tried"), ("ce_id", b"2"), ("empty", b"")]


@pytest.fixture
def topics(kafka_bootstrap: str) -> TopicSet:
    """`chimera.log` as topics.yaml has it, under a name of this test's own."""
    own = load_topics().only("chimera.log").with_prefix(f"t{uuid.uuid4().hex[:8]}.")
    apply(kafka_bootstrap, own)
    return own


@pytest.fixture
def topic(topics: TopicSet) -> str:
    return topics.names[0]


@pytest.fixture
def appender(kafka_bootstrap: str, topics: TopicSet) -> Iterator[Appender]:
    with Appender(kafka_bootstrap, topics, "test") as made:
        yield made


def read_all(bootstrap: str, topic: str) -> list[RawRecord]:
    return [record for batch in read_until(bootstrap, topic, range(24)) for record in batch]


def read_some(reader: Reader, at_least: int, within_s: float = 10.0) -> list[RawRecord]:
    """Read until so many records came; the deadline is the failure, not the pace."""
    records: list[RawRecord] = []
    deadline = time.monotonic() + within_s
    while len(records) < at_least:
        assert time.monotonic() < deadline, f"{len(records)} of {at_least} records came in {within_s} s"
        records += reader.read(1000, 0.2)
    return records


# Appending


def test_an_appended_record_is_read_back_byte_by_byte_with_the_brokers_time(
    kafka_bootstrap: str, topic: str, appender: Appender
) -> None:
    position = asyncio.run(appender.append(topic, "agent/ava", b'{"a":1}', HEADERS))
    (record,) = read_all(kafka_bootstrap, topic)
    assert record == RawRecord(*position, b"agent/ava", b'{"a":1}', HEADERS)
    assert position.partition == partition_for("agent/ava", 24)
    assert abs(position.append_ts / 1000 - time.time()) < 60


def test_a_record_without_headers_and_with_an_empty_value_is_read_back_as_that(
    kafka_bootstrap: str, topic: str, appender: Appender
) -> None:
    appender.append_blocking(topic, "agent/ava", b"", [])
    (record,) = read_all(kafka_bootstrap, topic)
    assert (record.value, record.headers) == (b"", [])


def test_ten_thousand_keys_lie_where_librdkafka_and_aiokafka_put_them(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    rng, theirs, every = random.Random(7), DefaultPartitioner(), list(range(24))
    keys = [f"agent/{uuid.UUID(int=rng.getrandbits(128))}" for _ in range(5_000)]
    keys += ["".join(rng.choices("abcdefghij-é日", k=rng.randint(1, 30))) for _ in range(5_000)]
    put: dict[str, int] = {}
    plain = Producer({"bootstrap.servers": kafka_bootstrap, "partitioner": "murmur2_random", "linger.ms": 5})
    for key in keys:
        plain.produce(
            topic,
            b"",
            key,
            on_delivery=lambda error, message: put.__setitem__((message.key() or b"").decode(), message.partition() or 0),
        )
    assert plain.flush(30) == 0
    ours = {key: partition_for(key, 24) for key in keys}
    assert ours == put
    assert ours == {key: theirs(key.encode(), every, every) for key in keys}
    assert [p.partition for p in appender.append_many([Entry(topic, key, b"", []) for key in keys])] == [put[k] for k in keys]


def test_appends_of_one_writer_keep_their_order_within_a_stream(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    async def run() -> None:
        await asyncio.gather(*[appender.append(topic, "agent/ava", str(n).encode(), []) for n in range(2000)])

    asyncio.run(run())
    assert [record.value for record in read_all(kafka_bootstrap, topic)] == [str(n).encode() for n in range(2000)]


def test_many_records_get_positions_in_the_order_they_were_given(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    entries = [Entry(topic, f"agent/{n % 50}", str(n).encode(), HEADERS) for n in range(3000)]
    positions = appender.append_many(entries)
    lying = {(r.partition, r.offset): r for r in read_all(kafka_bootstrap, topic)}
    assert [lying[p.partition, p.offset].value for p in positions] == [entry.value for entry in entries]
    assert appender.append_many([]) == []
    assert appender.in_flight() == 0


def test_a_narrow_window_holds_appends_back_and_loses_none(kafka_bootstrap: str, topics: TopicSet) -> None:
    most = 0

    async def run(appender: Appender) -> None:
        nonlocal most

        async def one(n: int) -> None:
            nonlocal most
            await appender.append(topics.names[0], f"agent/{n}", b"x", [])
            most = max(most, appender.in_flight())

        await asyncio.gather(*[one(n) for n in range(1000)])

    with Appender(kafka_bootstrap, topics, "test", max_records=8) as appender:
        asyncio.run(run(appender))
        assert appender.in_flight() == 0
    assert most <= 8
    assert len(read_all(kafka_bootstrap, topics.names[0])) == 1000


def test_threads_and_event_loops_share_one_appender(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    def blocking() -> None:
        for n in range(100):
            appender.append_blocking(topic, f"agent/{n}", b"blocking", [])

    async def several() -> None:
        await asyncio.gather(*[appender.append(topic, f"agent/{n}", b"async", []) for n in range(100)])

    threads = [threading.Thread(target=blocking), *[threading.Thread(target=lambda: asyncio.run(several())) for _ in range(3)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(read_all(kafka_bootstrap, topic)) == 400


def test_a_cancelled_append_gives_its_room_back(kafka_bootstrap: str, topics: TopicSet) -> None:
    async def run(appender: Appender) -> None:
        for _ in range(20):
            task = asyncio.create_task(appender.append(topics.names[0], "agent/ava", b"x", []))
            await asyncio.sleep(0)
            task.cancel()
        await appender.append(topics.names[0], "agent/ava", b"last", [])

    with Appender(kafka_bootstrap, topics, "test", max_records=2, delivery_timeout_s=5) as appender:
        asyncio.run(run(appender))
        assert appender.in_flight() == 0
    assert read_all(kafka_bootstrap, topics.names[0])[-1].value == b"last"


def test_a_record_too_large_for_the_broker_fails_alone_and_is_known_not_to_be_written(
    kafka_bootstrap: str, topic: str, appender: Appender
) -> None:
    with pytest.raises(AppendFailed) as failed:
        appender.append_many([Entry(topic, "agent/ava", b"small", []), Entry(topic, "agent/ava", b"x" * 3_000_000, [])])
    assert not failed.value.maybe_written
    assert failed.value.topic == topic
    assert appender.in_flight() == 0
    asyncio.run(appender.append(topic, "agent/ava", b"after", []))
    assert [record.value for record in read_all(kafka_bootstrap, topic)] == [b"small", b"after"]


def test_an_empty_key_and_a_topic_it_was_not_given_are_refused_before_anything_is_sent(
    kafka_bootstrap: str, topic: str, appender: Appender
) -> None:
    with pytest.raises(BadKey):
        appender.append_blocking(topic, "", b"x", [])
    with pytest.raises(BadKey):
        appender.append_blocking(topic, "", b"x", [], partition=3)
    with pytest.raises(AppendFailed, match="was given"):
        asyncio.run(appender.append("chimera.nowhere", "agent/ava", b"x", []))
    assert read_all(kafka_bootstrap, topic) == []
    assert appender.in_flight() == 0


def test_without_a_broker_an_append_fails_in_bounded_time_and_the_appender_closes(topics: TopicSet) -> None:
    with Appender("127.0.0.1:1", topics, "test", delivery_timeout_s=1.0) as appender:
        with pytest.raises(AppendFailed, match=topics.names[0]):
            asyncio.run(asyncio.wait_for(appender.append(topics.names[0], "agent/ava", b"x", []), 10))
        with pytest.raises(AppendFailed):
            appender.append_blocking(topics.names[0], "agent/ava", b"x", [])
        assert appender.in_flight() == 0


def test_a_closed_appender_refuses(kafka_bootstrap: str, topics: TopicSet) -> None:
    appender = Appender(kafka_bootstrap, topics, "test")
    appender.close()
    appender.close()
    with pytest.raises(AppendFailed, match="closed") as failed:
        appender.append_blocking(topics.names[0], "agent/ava", b"x", [])
    assert not failed.value.maybe_written


# Reading


def test_a_reader_follows_the_log_from_its_start_as_it_grows(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    home = partition_for("agent/ava", 24)
    for n in range(5):
        appender.append_blocking(topic, "agent/ava", str(n).encode(), [])
    with Reader(kafka_bootstrap, topic, {home: 2}) as reader:
        assert [record.value for record in read_some(reader, 3)] == [b"2", b"3", b"4"]
        assert reader.read(10, 0.01) == []
        appender.append_blocking(topic, "agent/ava", b"5", [])
        assert [record.offset for record in read_some(reader, 1)] == [5]
        assert reader.positions == {home: 6}


class Restless(Trickle):
    """Changes its mind with every read."""

    def saw(self, records: int, now: float) -> bool:
        self.busy = not self.busy
        return True


def test_a_reader_that_changes_its_pace_with_every_read_loses_nothing_and_repeats_nothing(
    kafka_bootstrap: str, topic: str, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chimera.eventlog.read.Trickle", Restless)
    paces, read = set[bool](), list[RawRecord]()
    with Reader(kafka_bootstrap, topic, dict.fromkeys(range(24), 0), gather_when_busy=True) as reader:
        for n in range(10):
            appender.append_many([Entry(topic, f"agent/{m}", f"{n} {m}".encode(), []) for m in range(30)])
            read += read_some(reader, 30, 60.0)
            paces.add(reader.gathers)
        for _ in range(3):
            paces.add(reader.gathers)
            read += reader.read(100, 0.01)
    assert paces == {True, False}
    assert sorted(record.value or b"" for record in read) == sorted(f"{n} {m}".encode() for n in range(10) for m in range(30))


def test_a_read_gives_what_is_there_and_does_not_wait_for_more(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    appender.append_blocking(topic, "agent/ava", b"x", [])
    with Reader(kafka_bootstrap, topic, {partition_for("agent/ava", 24): 0}) as reader:
        started = time.monotonic()
        assert len(reader.read(1000, 20.0)) == 1
        assert time.monotonic() - started < 10


def test_reading_until_the_end_stops_at_the_end_that_was_captured(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    appender.append_many([Entry(topic, f"agent/{n}", b"before", []) for n in range(500)])
    batches = read_until(kafka_bootstrap, topic, range(24), max_records=50)
    values = [record.value for record in next(batches)]
    appender.append_many([Entry(topic, f"agent/{n}", b"after", []) for n in range(500)])
    values += [record.value for batch in batches for record in batch]
    assert values == [b"before"] * 500


def test_reading_between_two_offsets_gives_exactly_those(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    home = partition_for("agent/ava", 24)
    appender.append_many([Entry(topic, "agent/ava", str(n).encode(), []) for n in range(100)])
    read = [r.offset for batch in read_until(kafka_bootstrap, topic, [home], {home: 10}, {home: 20}) for r in batch]
    assert read == list(range(10, 20))
    assert list(read_until(kafka_bootstrap, topic, [home], {home: 100})) == []


def test_a_start_past_the_end_is_a_checkpoint_ahead_of_the_log(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    appender.append_blocking(topic, "agent/ava", b"x", [])
    home = partition_for("agent/ava", 24)
    with pytest.raises(CheckpointAhead, match=r"ends at 1, but reading was to start at 2"):
        Reader(kafka_bootstrap, topic, {home: 2})
    with pytest.raises(CheckpointAhead):
        list(read_until(kafka_bootstrap, topic, [home], {home: 2}))


def test_a_log_that_lost_its_beginning_is_a_hole(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    home = partition_for("agent/ava", 24)
    appender.append_many([Entry(topic, "agent/ava", b"x", []) for _ in range(5)])
    admin = admin_client(kafka_bootstrap)
    for cut in admin.delete_records([TopicPartition(topic, home, 3)]).values():
        cut.result(10)
    assert begin_offsets(kafka_bootstrap, topic, [home]) == {home: 3}
    for reading in (read_until(kafka_bootstrap, topic, [home]), KafkaSource(kafka_bootstrap).read(topic, home, 5)):
        with pytest.raises(LogHole) as hole:
            list(reading)
        assert (hole.value.partition, hole.value.expected, hole.value.got) == (home, 0, 3)
    with RecordStore(kafka_bootstrap) as store, pytest.raises(RecordMissing, match="begins at 3"):
        store.read_at(topic, home, 1)


def test_a_hole_in_the_middle_stops_the_reader_and_names_the_place(kafka_bootstrap: str, topic: str) -> None:
    # A transaction's commit marker takes an offset and is never delivered: a real hole.
    writer = Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": topic})
    writer.init_transactions(30)
    for value in (b"0", b"2"):
        writer.begin_transaction()
        writer.produce(topic, value, b"agent/ava", 7)
        writer.commit_transaction(30)
    with Reader(kafka_bootstrap, topic, {7: 0}) as reader, pytest.raises(LogHole, match=r"\[7\]: expected offset 1, got 2"):
        read_some(reader, 2)
    with RecordStore(kafka_bootstrap) as store:
        assert store.read_at(topic, 7, 2).value == b"2"
        with pytest.raises(RecordMissing, match="hole"):
            store.read_at(topic, 7, 1)


def test_an_unknown_topic_or_partition_is_named(kafka_bootstrap: str, topic: str) -> None:
    with pytest.raises(ReadFailed, match="nowhere"):
        end_offsets(kafka_bootstrap, "nowhere")
    with pytest.raises(ReadFailed, match=r"has 24 partitions, not \[24\]"):
        Reader(kafka_bootstrap, topic, {24: 0})


def test_end_offsets_count_what_was_appended(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    appender.append_many([Entry(topic, f"law/{n}", b"x", []) for n in range(24)])
    assert end_offsets(kafka_bootstrap, topic) == dict.fromkeys(range(24), 1)
    assert end_offsets(kafka_bootstrap, topic, [3]) == {3: 1}
    assert end_offsets(kafka_bootstrap, topic, []) == {}


# Reading back single records


@pytest.fixture
def filled(topic: str, appender: Appender) -> list[tuple[str, int, int]]:
    """Places of 2,000 records whose value is their number in this list."""
    return [p[:3] for p in appender.append_many([Entry(topic, f"agent/{n % 60}", str(n).encode(), []) for n in range(2000)])]


def test_scattered_records_come_back_exactly(kafka_bootstrap: str, filled: list[tuple[str, int, int]]) -> None:
    wanted = random.Random(3).choices(range(2000), k=300)
    with RecordStore(kafka_bootstrap) as store:
        assert [store.read_at(*filled[n]).value for n in wanted[:50]] == [str(n).encode() for n in wanted[:50]]
        assert [record.value for record in store.read_many([filled[n] for n in wanted])] == [str(n).encode() for n in wanted]
        before = store.cache.misses
        store.read_many([filled[n] for n in wanted])
        assert store.cache.misses == before


def test_event_loop_and_threads_read_through_one_store(kafka_bootstrap: str, filled: list[tuple[str, int, int]]) -> None:
    async def several(store: RecordStore) -> list[bytes | None]:
        return [record.value for record in await asyncio.gather(*[store.aread_at(*filled[n]) for n in range(0, 2000, 20)])]

    with RecordStore(kafka_bootstrap) as store:
        other: list[bytes | None] = []
        thread = threading.Thread(target=lambda: other.extend(store.read_at(*filled[n]).value for n in range(7, 2000, 40)))
        thread.start()
        assert asyncio.run(several(store)) == [str(n).encode() for n in range(0, 2000, 20)]
        thread.join(30)
    assert other == [str(n).encode() for n in range(7, 2000, 40)]


def test_a_tiny_cache_changes_nothing_but_speed(kafka_bootstrap: str, filled: list[tuple[str, int, int]]) -> None:
    with RecordStore(kafka_bootstrap, cache_bytes=1) as store:
        assert [record.value for record in store.read_many(filled[:200])] == [str(n).encode() for n in range(200)]
        assert store.cache.bytes == 0


def test_a_read_while_python_is_busy_elsewhere_does_not_set_the_client_spinning(
    kafka_bootstrap: str, filled: list[tuple[str, int, int]]
) -> None:
    """Once the record came, the client's queue is full until the reader is given the interpreter: it must wait, not turn."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("the CPU time of threads is read from /proc")
    busy = threading.Event()

    def burn() -> None:
        while not busy.is_set():
            sum(range(10_000))

    others = broker_threads_cpu_s()
    with RecordStore(kafka_bootstrap) as store:
        store.read_at(*filled[0])
        burning = threading.Thread(target=burn)
        burning.start()
        try:
            before = broker_threads_cpu_s()
            for n in range(100, 2000, 30):
                store.read_at(*filled[n])
            after = broker_threads_cpu_s()
        finally:
            busy.set()
            burning.join(60)
    ours = after.keys() - others.keys()
    assert ours, "the store has threads of its own"
    spent = sum(after[thread] - before.get(thread, 0.0) for thread in ours)
    assert spent < 0.1, f"{spent:.2f} s of the client's threads for 64 reads, which take it some 0.01"


def broker_threads_cpu_s() -> dict[str, float]:
    """Thread id -> CPU seconds, of this process's threads that talk to a broker.

    Clients of other tests have some too, and any may end while they are read: a client leaves the one that it first asked with.
    """
    spent = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
            if name.startswith("rdk:broker"):
                spent[task.name] = sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return spent


def test_one_that_is_missing_fails_alone_among_those_that_are_read_with_it(
    kafka_bootstrap: str, filled: list[tuple[str, int, int]]
) -> None:
    topic, partition, _ = filled[0]

    async def several(store: RecordStore) -> list[object]:
        places = [filled[0], (topic, partition, 1_000_000), filled[60], filled[1]]
        return await asyncio.gather(*[store.aread_at(*place) for place in places], return_exceptions=True)

    with RecordStore(kafka_bootstrap) as store:
        first, missing, third, fourth = asyncio.run(several(store))
    assert isinstance(missing, RecordMissing)
    assert [each.value for each in (first, third, fourth) if isinstance(each, RawRecord)] == [b"0", b"60", b"1"]


@pytest.mark.parametrize("beyond", [0, 5])
def test_a_place_past_the_end_is_missing_and_the_store_goes_on(
    kafka_bootstrap: str, filled: list[tuple[str, int, int]], beyond: int
) -> None:
    topic, partition, _ = filled[0]
    end = end_offsets(kafka_bootstrap, topic, [partition])[partition]
    with RecordStore(kafka_bootstrap) as store:
        with pytest.raises(RecordMissing, match=f"ends at {end}"):
            store.read_at(topic, partition, end + beyond)
        assert store.read_at(*filled[0]).value == b"0"
        with pytest.raises(ReadFailed, match="nowhere"):
            store.read_at("nowhere", 0, 0)
        assert store.read_at(*filled[1]).value == b"1"


def test_a_store_without_a_broker_fails_in_bounded_time() -> None:
    with RecordStore("127.0.0.1:1", timeout_s=1.0) as store, pytest.raises(ReadFailed, match=r"127\.0\.0\.1:1"):
        store.read_at("chimera.log", 0, 0)


@pytest.fixture
def odd_topic(kafka_bootstrap: str) -> Callable[[int], TopicSet]:
    """A topic of a wanted number of partitions."""

    def make(partitions: int) -> TopicSet:
        spec = TopicSpec(name=f"odd{uuid.uuid4().hex[:8]}", purpose="test", key="any", partitions=partitions)
        made = TopicSet(topics=(spec,))
        apply(kafka_bootstrap, made)
        return made

    return make


def test_a_one_partition_topic_takes_every_key(kafka_bootstrap: str, odd_topic: Callable[[int], TopicSet]) -> None:
    made = odd_topic(1)
    with Appender(kafka_bootstrap, made, "test") as appender:
        assert {appender.append_blocking(made.names[0], f"k{n}", b"", []).partition for n in range(20)} == {0}


# Bulk appends beside others


def test_single_appends_go_on_while_a_bulk_runs(kafka_bootstrap: str, topic: str, appender: Appender) -> None:
    bulk = threading.Thread(
        target=lambda: appender.append_many([Entry(topic, f"agent/{n}", b"bulk", HEADERS) for n in range(20_000)])
    )

    async def singles() -> None:
        await asyncio.wait_for(asyncio.gather(*[appender.append(topic, f"agent/{n}", b"one", []) for n in range(300)]), 30)

    bulk.start()
    asyncio.run(singles())
    bulk.join(30)
    assert sum(end_offsets(kafka_bootstrap, topic).values()) == 20_300
    assert appender.in_flight() == 0
    asyncio.run(singles())


def test_a_bulk_larger_than_the_window_waits_its_turn_and_loses_none(kafka_bootstrap: str, topics: TopicSet) -> None:
    with Appender(kafka_bootstrap, topics, "test", max_records=600) as appender:
        positions = appender.append_many([Entry(topics.names[0], f"agent/{n}", str(n).encode(), []) for n in range(5_000)])
        assert appender.in_flight() == 0
    lying = {(r.partition, r.offset): r.value for r in read_all(kafka_bootstrap, topics.names[0])}
    assert [lying[p.partition, p.offset] for p in positions] == [str(n).encode() for n in range(5_000)]


def test_a_bulk_without_a_broker_fails_in_bounded_time_and_leaves_nothing_behind(topics: TopicSet) -> None:
    with Appender("127.0.0.1:1", topics, "test", delivery_timeout_s=1.0, max_records=600) as appender:
        started = time.monotonic()
        with pytest.raises(AppendFailed):
            appender.append_many([Entry(topics.names[0], f"agent/{n}", b"x", []) for n in range(3_000)])
        assert time.monotonic() - started < 20
        assert appender.in_flight() == 0


def test_something_that_is_no_record_is_refused_and_the_rest_of_its_bulk_lands(
    kafka_bootstrap: str, topic: str, appender: Appender
) -> None:
    entries = [Entry(topic, f"agent/{n}", b"x", []) for n in range(1000)]
    entries[500] = Entry(topic, "agent/ava", b"x", [("ce_id", 7)])  # type: ignore[list-item]
    with pytest.raises(AppendFailed, match="not a record") as failed:
        appender.append_many(entries)
    assert not failed.value.maybe_written
    assert sum(end_offsets(kafka_bootstrap, topic).values()) == 999
    assert appender.in_flight() == 0
