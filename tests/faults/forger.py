"""Hands that write whatever they like to Kafka, and eyes that ask every reader what it made of it.

The rule not to break: what was written is judged by its place in the log, by each reader for itself; nothing is told to them.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Sequence

import httpx
from confluent_kafka import KafkaError, Message, Producer
from prometheus_client.parser import text_string_to_metric_families

from chimera.eventlog.clientlog import ClientLog
from chimera.eventlog.partitioner import partition_for
from chimera.events.envelope import NewRecord, SigningKey, Wire, encode
from chimera.events.records import Data
from tests.e2e.house import House

log = logging.getLogger(__name__)

LOG = "chimera.log"
PARTITIONS = 24

Place = tuple[int, int]
"""Partition and offset."""


def signed(key: str, data: Data, signer: SigningKey | None, actor: str = "kim", id_: str | None = None) -> Wire:
    """A record as the command service makes it, by whoever's key."""
    new = NewRecord(key, data, "acme", actor, "2026-01-01T00:00:00Z", id_ or str(uuid.uuid4()))
    return encode(new, signer)


class Forger:
    """A plain producer in a house, and what it put there."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._producer = Producer({"bootstrap.servers": house.addresses.kafka, "logger": ClientLog(log)})
        self._put: dict[Place, str] = {}
        self._void_before = self._brain_voids()

    def put(self, what: str, wire: Wire, *, partition: int | None = None) -> None:
        """Append to the log; `what` names it in what is asserted later."""
        self._put[self.append(wire, LOG, partition)] = what

    def append(self, wire: Wire, topic: str = LOG, partition: int | None = None) -> Place:
        """Append without asking what becomes of it; where it lies. `partition` None: that of its key on the log."""
        place = partition_for(wire.key, PARTITIONS) if partition is None else partition
        offsets: list[int] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            offsets.append(int(message.offset() or 0))

        self._producer.produce(topic, wire.value, wire.key.encode(), place, delivered, headers=list(wire.headers))
        assert self._producer.flush(20) == 0
        return place, offsets[0]

    def void(self) -> dict[str, str]:
        """What was put -> why it is void, once command service, projector and brain have all said so of it."""
        house = self._house
        house.until(lambda: self._put.keys() <= {(s.record.partition, s.record.offset) for s in house.seen}, "they are read", 30)
        seen = {(s.record.partition, s.record.offset): s.ruling for s in house.seen}
        ruled = {place: seen[place] for place in self._put}
        assert {ruling.outcome for ruling in ruled.values()} == {"void"}, {self._put[p]: r[:2] for p, r in ruled.items()}
        house.until_projected()
        rows = {(p, o): reason for p, o, reason in house.sql('SELECT partition, "offset", reason FROM core.voids')}
        assert {place: rows.get(place) for place in ruled} == {place: ruling.reason for place, ruling in ruled.items()}
        wanted = Counter(ruling.reason for ruling in ruled.values())
        house.until(lambda: self._brain_voids() - self._void_before >= wanted, f"the brain ruled {dict(wanted)} void as well", 30)
        return {what: ruled[place].reason for place, what in self._put.items()}

    def _brain_voids(self) -> Counter[str]:
        """Reason -> records that the brain ruled void."""
        found: Counter[str] = Counter()
        for status in self._house.serving("brain"):
            for family in text_string_to_metric_families(httpx.get(f"{status['http']}/metrics", timeout=10).text):
                for sample in family.samples:
                    if sample.name == "chimera_rulings_total" and sample.labels["outcome"] == "void":
                        found[sample.labels["reason"]] += int(sample.value)
        return found


def nothing_left(house: House, accounts: Sequence[str]) -> None:
    """The platform was not called for these accounts."""
    assert not house.calls(accounts)
    assert not house.posts(accounts)
