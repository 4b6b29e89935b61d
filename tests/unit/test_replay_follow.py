"""A topic followed to an offset exactly: what lies beyond waits, and holds up nothing."""

from __future__ import annotations

from typing import Any

from chimera.events.raw import RawRecord
from chimera.replay.builds_follow import BATCH, Tail


class Given:
    """A reader that gives what it was given, one piece per question."""

    def __init__(self, *pieces: list[tuple[int, int]]) -> None:
        self.pieces = list(pieces)
        self.positions = {0: 0, 1: 0}

    def read(self, most: int, timeout_s: float) -> list[RawRecord]:
        piece = self.pieces.pop(0) if self.pieces else []
        for partition, offset in piece:
            self.positions[partition] = offset + 1
        return [RawRecord("log", partition, offset, 0, b"k", b"v", []) for partition, offset in piece]


def places(raws: list[RawRecord]) -> list[tuple[int, int]]:
    return [(raw.partition, raw.offset) for raw in raws]


def test_what_lies_beyond_is_kept_and_given_when_it_is_asked_for() -> None:
    given: Any = Given([(0, 0), (0, 1), (1, 0), (0, 2)])
    tail = Tail(given)
    assert places(tail.read({0: 1, 1: 1}, 0)) == [(0, 0), (1, 0)]
    assert places(tail.read({0: 2, 1: 1}, 0)) == [(0, 1)]
    assert places(tail.read(None, 0)) == [(0, 2)]


def test_one_partition_far_ahead_does_not_keep_another_from_being_read() -> None:
    far = [(0, n) for n in range(2 * BATCH)]
    given: Any = Given(far, [(1, 0)])
    tail = Tail(given)
    assert tail.read({0: 0, 1: 1}, 0) == []
    assert places(tail.read({0: 0, 1: 1}, 0)) == [(1, 0)]
    assert len(tail.read({0: 2 * BATCH, 1: 1}, 0)) == 2 * BATCH
