"""Bytes on the log that nobody can read: they close a gate for one agent, and for nobody else."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, Producer

from chimera.eventlog.partitioner import partition_for
from chimera.events.envelope import NewRecord, encode
from chimera.events.records import TaskPlanned
from tests.e2e.house import House, accounts
from tests.faults.oracle import every_effect_happened_once, no_task_is_lost

LOG = "chimera.log"


def put(house: House, key: str, value: bytes, headers: Any, partition: int | None = None) -> tuple[int, int]:
    """Append raw bytes as any client on the network could; the partition and offset where they lie."""
    offsets: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        offsets.append(int(message.offset() or 0))

    producer = Producer({"bootstrap.servers": house.addresses.kafka})
    place = partition_for(key, 24) if partition is None else partition
    producer.produce(LOG, value, key.encode(), place, delivered, headers=headers)
    assert producer.flush(20) == 0
    return place, offsets[0]


def rulings(house: House, places: Collection[tuple[int, int]]) -> list[tuple[str, str]]:
    """Outcome and reason of what lies there, as far as it was read. Other agents of this house append meanwhile."""
    return [seen.ruling[:2] for seen in house.seen if (seen.record.partition, seen.record.offset) in places]


def good_headers(key: str) -> list[tuple[str, bytes]]:
    """Headers of a record that could be read."""
    new = NewRecord(key, TaskPlanned(campaign=1, ordinal=1, attempt=1), "acme", "nobody", "2026-01-01T00:00:00Z", "id-1")
    return list(encode(new).headers)


@pytest.mark.timeout(200)
def test_broken_bytes_quarantine_one_agent_while_others_go_on_and_a_release_heals_it(house: House) -> None:
    names = house.enrol("poi", 2, approve_above=1.0)  # so everything waits for people
    sick, well = names
    house.start(house.brief("Poison", 2), names)
    house.until(lambda: house.resting(names), "cards wait", 90)
    key = house.agent(sick).key
    place = put(house, key, b"\xff\xfe not json", good_headers(key))
    house.until(lambda: house.agent(sick).quarantine is not None, "the agent is in quarantine", 30)
    assert rulings(house, [place]) == [("void", "unreadable")]
    shown = {row["name"]: row["status"] for row in house.done("agent", "list")["agents"]}
    assert (shown[sick], shown[well]) == ("quarantined", "active")

    house.approve_all(names)
    waiting = len(house.cards([sick], ("approved",)))
    assert waiting, "people may decide in a quarantine"
    house.until_completed([well])
    assert house.posts(accounts([well]))
    assert len(house.cards([sick], ("approved",))) == waiting
    assert not house.calls(accounts([sick])), "an agent in quarantine acts no more"

    house.done("agent", "release", sick, "--reason", "looked at it")
    house.until_completed([sick])
    assert len(house.posts(accounts([sick]))) == waiting
    no_task_is_lost(house, names)
    every_effect_happened_once(house, names)


def test_bytes_of_nobody_and_of_the_wrong_place_stop_no_reader(house: House) -> None:
    names = house.enrol("nob", 1)
    key = house.agent(names[0]).key
    elsewhere = (partition_for(key, 24) + 1) % 24
    places = {
        put(house, key, b"{}", good_headers(key), elsewhere),
        put(house, "", b"", [], partition_for(key, 24)),
        put(house, "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"), b"{}", [("ce_type", b"\xff")], 3),
        put(house, "law/3", b"{}", good_headers("law/3"), 3),
        put(house, f"{key}x", b"{}", [*good_headers(key), *good_headers(key)], 5),
    }
    house.until(lambda: len(rulings(house, places)) == 5, "they are read", 30)
    assert {outcome for outcome, _ in rulings(house, places)} == {"void"}
    assert house.agent(names[0]).quarantine is None, "a record on another partition is not this agent's"
    house.start(house.brief("Nobody", 1), names)
    house.until_completed(names)
    house.equals_refold()
