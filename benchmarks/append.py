"""What the door to Kafka costs: appends beside a raw producer, reads beside a raw consumer, and single records by offset.

    python benchmarks/append.py [--records N] [--kafka host:port] [--json]

The rule not to break: every figure stands beside its limit from the same run, in alternating rounds; medians, so that
a busy machine slows both alike.
Values are 450 bytes of JSON-like text with eight headers, on a topic like `chimera.log`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from chimera.eventlog.append import Appender, Entry
from chimera.eventlog.cluster import admin_client, apply
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.read import consumer_config, end_offsets, read_until
from chimera.eventlog.store import RecordStore
from chimera.eventlog.topics import TopicSet, load_topics
from chimera.events.raw import Headers

ROUNDS = 5
PARTITIONS = 24


@contextmanager
def broker(given: str | None) -> Iterator[str]:
    """The broker that was named, or one of our own for the time of the run."""
    if given:
        yield given
        return
    from chimera.stack.kafka import prepare_kafka
    from chimera.stack.supervisor import Supervisor

    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as home:
        kafka = prepare_kafka(Path(home) / "kafka")
        supervisor = Supervisor(Path(home) / "logs")
        supervisor.start()
        try:
            supervisor.add([kafka.child])
            yield kafka.bootstrap
        finally:
            supervisor.stop()


def made_records(topic: str, count: int) -> list[Entry]:
    """Records like those of the log, of 1,000 agents."""
    rng = random.Random(1)
    agents = [f"agent/{uuid.UUID(int=rng.getrandbits(128))}" for _ in range(1000)]
    words = ["campaign", "quiet", "harbour", "0.93", "draft", "thread", "source", "morning"]
    records = []
    for n in range(count):
        value = json.dumps({"task": n, "text": " ".join(rng.choices(words, k=55))})[:450].encode()
        names = ("ce_id", "ce_source", "ce_specversion", "ce_type", "ce_time", "ce_subject", "ce_tenant", "ce_causationid")
        headers: Headers = [(name, rng.randbytes(12).hex().encode()) for name in names]
        records.append(Entry(topic, agents[n % len(agents)], value, headers))
    return records


def raw_appends(bootstrap: str, records: list[Entry]) -> float:
    """Records per second of an idempotent confluent producer that counts its delivery reports and does nothing else."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 5, "compression.type": "lz4"}
    )
    delivered = 0

    def count(error: object, message: object) -> None:
        nonlocal delivered
        delivered += error is None

    producer.produce(records[0].topic, b"", "law/0", 0)
    producer.flush(30)
    placed = [(r.topic, r.value, r.key, partition_for(r.key, PARTITIONS), r.headers) for r in records]
    started = time.perf_counter()
    for topic, value, key, partition, headers in placed:
        while True:
            try:
                producer.produce(topic, value, key, partition, count, headers=headers)  # type: ignore[arg-type]
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert delivered == len(records)
    return len(records) / (time.perf_counter() - started)


def our_appends(bootstrap: str, topics: TopicSet, records: list[Entry]) -> float:
    """Records per second of `append_many`, every position known."""
    with Appender(bootstrap, topics, "bench") as appender:
        appender.append_blocking(records[0].topic, "law/0", b"", [])
        started = time.perf_counter()
        assert len(appender.append_many(records)) == len(records)
        return len(records) / (time.perf_counter() - started)


def awaited_appends(bootstrap: str, topics: TopicSet, records: list[Entry], at_once: int) -> tuple[float, float, float]:
    """(records per second, median ms, 99th percentile ms) of `await append` with so many in flight."""
    waits: list[float] = []

    async def one(appender: Appender, mine: list[Entry]) -> None:
        for record in mine:
            began = time.perf_counter()
            await appender.append(record.topic, record.key, record.value, record.headers)
            waits.append(time.perf_counter() - began)

    async def run(appender: Appender) -> float:
        await appender.append(records[0].topic, "law/0", b"", [])
        began = time.perf_counter()
        await asyncio.gather(*[one(appender, records[n::at_once]) for n in range(at_once)])
        return len(records) / (time.perf_counter() - began)

    with Appender(bootstrap, topics, "bench") as appender:
        rate = asyncio.run(run(appender))
    waits.sort()
    return rate, waits[len(waits) // 2] * 1000, waits[int(len(waits) * 0.99)] * 1000


def raw_reads(bootstrap: str, topic: str) -> float:
    """Records per second of `consume` with headers, key and value touched, up to the captured end."""
    ends = end_offsets(bootstrap, topic)
    total = sum(ends.values())
    consumer = Consumer(consumer_config(bootstrap, "bench") | {"fetch.queue.backoff.ms": 5, "queued.max.messages.kbytes": 32768})
    started = time.perf_counter()
    consumer.assign([TopicPartition(topic, p, 0) for p in ends])
    seen = 0
    while seen < total:
        for message in consumer.consume(5000, 1.0):
            assert message.error() is None
            message.headers(), message.key(), message.value()
            seen += 1
    rate = total / (time.perf_counter() - started)
    consumer.close()
    return rate


def our_reads(bootstrap: str, topic: str) -> float:
    """Records per second of `read_until` over all partitions, contiguity asserted."""
    started = time.perf_counter()
    seen = sum(len(batch) for batch in read_until(bootstrap, topic, range(PARTITIONS)))
    return seen / (time.perf_counter() - started)


def single_reads(bootstrap: str, topic: str, count: int) -> tuple[float, float]:
    """(records per second fetched one by one from random places, records per second out of the cache)."""
    rng, ends = random.Random(2), {p: end for p, end in end_offsets(bootstrap, topic).items() if end}
    places = [(topic, p, rng.randrange(ends[p])) for p in rng.choices(list(ends), k=count)]
    with RecordStore(bootstrap) as store:
        store.read_at(*places[0])
        rates = []
        for _ in range(2):
            started = time.perf_counter()
            for place in places:
                store.read_at(*place)
            rates.append(count / (time.perf_counter() - started))
    return rates[0], rates[1]


def measure(bootstrap: str, count: int) -> dict[str, float]:
    """Every figure of this file by name."""

    def fresh() -> TopicSet:
        made = load_topics().only("chimera.log").with_prefix(f"bench{uuid.uuid4().hex[:8]}.")
        apply(bootstrap, made)
        mine.append(made.names[0])
        return made

    mine: list[str] = []
    try:
        topics = fresh()
        records = made_records(topics.names[0], count)
        # The input is a million small objects: out of the collector's sight for all contestants, or it is what is measured.
        gc.collect()
        gc.freeze()
        rates: dict[str, list[float]] = {"append raw": [], "append ours": []}
        contestants: list[tuple[str, Callable[[], float]]] = [
            ("append raw", lambda: raw_appends(bootstrap, records)),
            ("append ours", lambda: our_appends(bootstrap, topics, records)),
        ]
        for turn in range(ROUNDS):
            for name, run in contestants if turn % 2 else reversed(contestants):
                rates[name].append(run())
        figures = {f"{name} records/s": statistics.median(found) for name, found in rates.items()}
        figures |= {f"{name} best records/s": max(found) for name, found in rates.items()}
        figures["append ratio"] = figures["append ours records/s"] / figures["append raw records/s"]
        for at_once in (1, 20, 200):
            part = records[: max(200, count * at_once // 400)]
            rate, median, late = awaited_appends(bootstrap, topics, part, at_once)
            figures |= {f"await x{at_once} records/s": rate, f"await x{at_once} p50 ms": median, f"await x{at_once} p99 ms": late}
        topic = topics.names[0]
        figures["read raw records/s"] = max(raw_reads(bootstrap, topic) for _ in range(2))
        figures["read ours records/s"] = max(our_reads(bootstrap, topic) for _ in range(2))
        figures["read ratio"] = figures["read ours records/s"] / figures["read raw records/s"]
        figures["read_at records/s"], figures["read_at cached records/s"] = single_reads(bootstrap, topic, min(2000, count // 2))
        return figures
    finally:
        if mine:
            admin = admin_client(bootstrap)
            for deleted in admin.delete_topics(mine).values():
                deleted.result(30)


def main() -> int:
    """Run and print; exit 1 when appending reaches less than 0.8 of the raw producer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="records per bulk round (default 100000)")
    parser.add_argument("--kafka", help="brokers host:port; a broker of our own when not given")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.records < 1000:
        parser.error("--records: at least 1000, or start-up is all that is measured")
    with broker(arguments.kafka) as bootstrap:
        figures = measure(bootstrap, arguments.records)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name:28} {figure:12,.2f}" if figure < 100 else f"{name:28} {figure:12,.0f}")
        print(f"append: {figures['append ratio']:.2f} of the raw idempotent producer (wanted: at least 0.80)")
    return 0 if figures["append ratio"] >= 0.8 else 1


if __name__ == "__main__":
    sys.exit(main())
