"""While a reader changes its pace both of its consumers read: whichever has a record brings it, and nothing comes twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from confluent_kafka import TopicPartition

from chimera.eventlog import read
from chimera.eventlog.read import LogHole, Reader
from chimera.eventlog.trickle import Trickle

TOPIC = "chimera.log"


class Sent:
    """A message of partition 0 as the client gives it."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def error(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, 1_795_000_000_000

    def key(self) -> bytes:
        return b"agent/ava"

    def value(self) -> bytes:
        return b"{}"

    def headers(self) -> list[tuple[str, bytes]]:
        return []


class Hand:
    """A consumer that brings what the test gives it, as long as it is assigned something."""

    made: ClassVar[list[Hand]] = []

    def __init__(self, config: dict[str, Any]) -> None:
        self.brings: list[int] = []
        self.assigned: list[TopicPartition] = []
        Hand.made.append(self)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    def unassign(self) -> None:
        self.assigned, self.brings = [], []

    def consume(self, most: int, timeout_s: float) -> list[Sent]:
        now, self.brings = self.brings[:most], self.brings[most:]
        return [Sent(offset) for offset in now]

    def poll(self, timeout_s: float) -> Sent | None:
        return next(iter(self.consume(1, timeout_s)), None)

    def close(self) -> None:
        self.unassign()


class Told(Trickle):
    """Changes when the test says so."""

    now = False

    def saw(self, records: int, now: float) -> bool:
        changed, Told.now = Told.now, False
        self.busy ^= changed
        return changed


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A reader of partition 0 from offset 5 on whose second consumer has just been asked for."""
    monkeypatch.setattr(read, "Consumer", Hand)
    monkeypatch.setattr(read, "Trickle", Told)
    monkeypatch.setattr(Hand, "made", [])
    monkeypatch.setattr(Told, "now", False)
    made = Reader("nowhere:1", TOPIC, {0: 5}, gather_when_busy=True, unasked=True)
    Hand.made[0].brings = [5]
    assert offsets(made) == [5]
    Told.now = True
    assert offsets(made) == []
    assert len(Hand.made) == 2, "one for each pace"
    return made


def offsets(reader: Reader, most: int = 100) -> Sequence[int]:
    """What one read brings."""
    return [record.offset for record in reader.read(most, 0.0)]


def test_what_the_new_consumer_is_kept_waiting_for_the_old_one_brings(reader: Reader) -> None:
    old, new = Hand.made
    assert [place.offset for place in new.assigned] == [6]
    old.brings = [6, 7]
    assert offsets(reader) == [6, 7]
    new.brings = [6, 7, 8]
    assert offsets(reader) == [8], "what it brings again is passed over"


def test_a_read_brings_no_more_than_it_may_from_both(reader: Reader) -> None:
    old, new = Hand.made
    old.brings, new.brings = [6, 7, 8], [6, 7]
    assert offsets(reader, 3) == [6, 7]
    assert offsets(reader, 3) == [8]


def test_what_comes_again_after_the_handover_is_passed_over_too(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Hand.made
    old.brings = [6, 7]
    monkeypatch.setattr(reader, "_handed_over_at", 0.0)
    assert offsets(reader) == [6, 7]
    assert old.assigned == [], "the handover is over"
    new.brings = [6, 7, 8]
    assert offsets(reader) == [8]


def test_a_hole_is_a_hole_during_a_handover_and_going_back_is_one_after_it(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Hand.made
    new.brings = [7]
    with pytest.raises(LogHole, match="expected offset 6, got 7"):
        offsets(reader)
    monkeypatch.setattr(reader, "_handed_over_at", 0.0)
    old.brings = [6]
    assert offsets(reader) == [6]
    new.brings = [7]
    assert offsets(reader) == [7]
    new.brings = [7]
    with pytest.raises(LogHole, match="expected offset 8, got 7"):
        offsets(reader)
