"""The floor under the swarm loop: the records of a run again, appended, read and folded, and nothing else done.

What a task of the swarm costs beyond this is work: planning, writing, judging, calling, projecting. Used by `swarm.py --floor`.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable

from chimera.commands.keys import LOG, log_topics
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import Reader, end_offsets, read_until
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord

HANDS = 64
"""As many appends are awaited at once as the swarm has slots; each stream's records keep their order."""
PARTITIONS = 24
DEADLINE_S = 300.0


def floor(kafka: str, root_public: str, tasks: int, broker_cpu_s: Callable[[], float]) -> dict[str, float]:
    """CPU milliseconds per task of one process that does it, and of the broker, by the records of `chimera.log` there."""
    ends = end_offsets(kafka, LOG)
    raws = [raw for batch in read_until(kafka, LOG, ends, end=ends) for raw in batch]
    topics = log_topics(f"floor{uuid.uuid4().hex[:8]}.{LOG}")
    apply(kafka, topics)
    topic = topics.names[0]
    with Reader(kafka, topic, dict.fromkeys(ends, 0), gather_when_busy=True) as reader:
        reading = threading.Thread(target=_fold_all, args=(reader, root_public, len(raws)))
        cpu, broker, began = time.process_time(), broker_cpu_s(), time.monotonic()
        reading.start()
        asyncio.run(_append_all(kafka, topic, raws))
        reading.join(DEADLINE_S)
        assert not reading.is_alive(), f"not folded within {DEADLINE_S:g} s"
        return {
            "floor: tasks/s": tasks / (time.monotonic() - began),
            "floor: append, read, fold CPU ms per task": 1000 * (time.process_time() - cpu) / tasks,
            "floor: broker CPU ms per task": 1000 * (broker_cpu_s() - broker) / tasks,
        }


def _fold_all(reader: Reader, root_public: str, count: int) -> None:
    folds = {p: PartitionFold(p, PARTITIONS, root_public, place) for p in range(PARTITIONS)}
    deadline = time.monotonic() + DEADLINE_S
    while count > 0 and time.monotonic() < deadline:
        for raw in reader.read(2_000, 0.2):
            folds[raw.partition].apply(raw)
            count -= 1


async def _append_all(kafka: str, topic: str, raws: list[RawRecord]) -> None:
    hands: list[list[RawRecord]] = [[] for _ in range(HANDS)]
    for raw in raws:
        hands[hash(raw.key) % HANDS].append(raw)

    async def one(mine: list[RawRecord]) -> None:
        for raw in mine:
            await appender.append(topic, (raw.key or b"").decode(), raw.value or b"", raw.headers, partition=raw.partition)

    with Appender(kafka, log_topics(topic), "bench-floor", linger_ms=2.0) as appender:
        await asyncio.gather(*map(one, hands))
