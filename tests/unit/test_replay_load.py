"""What a load does at its ends: it begins beside the empty tables, waits for nothing that is there, and leaves nobody behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from chimera.eventlog.read import PORTION
from chimera.events.raw import RawRecord
from chimera.projections.engine import Projector, new_fold
from chimera.replay.builds_hands import Idle
from tests.integration.projection_data import History, day

Step = Callable[[int, bool], tuple[int, list[float]]]


class Shelf:
    """A log whose records come a few at a time, as a consumer's do while it still fetches."""

    def __init__(self, raws: list[RawRecord], at_once: int) -> None:
        self._raws, self._at_once = raws, at_once

    def read(self, max_records: int, timeout_s: float) -> list[RawRecord]:
        n = min(max_records, self._at_once)
        taken, self._raws = self._raws[:n], self._raws[n:]
        return taken

    def close(self) -> None:
        pass


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    """One step of so many records, `bulk` or not: how many were taken, and which waits it made (none is waited for here)."""
    h = History("shelf")
    while len(h.entries) < 3 * PORTION:
        day(h, f"agent{len(h.entries)}")
    made: list[Projector] = []

    def one(max_records: int, bulk: bool, at_once: int = 50) -> tuple[int, list[float]]:
        waits, stop = list[float](), threading.Event()
        monkeypatch.setattr(stop, "wait", lambda s: waits.append(s))
        projector = Projector("", "", h.root.public, topic="shelf", stop=stop, bulk=bulk)
        projector._count = h.partitions
        projector._folds = {p: new_fold(p, h.partitions, h.root.public) for p in range(h.partitions)}
        projector._write_from = dict.fromkeys(range(h.partitions), 0)
        monkeypatch.setattr(projector, "_reader", Shelf(h.raws(), at_once))
        monkeypatch.setattr(projector, "_hand_over", lambda: None)
        projector._pace.begins(max_records, 1e12)  # a transaction of the busy kind has just begun
        made.append(projector)
        return projector.step(max_records, 0.1), waits

    yield one
    for projector in made:
        projector.close()


def test_a_load_fills_its_transaction_with_what_is_on_its_way_and_pauses_for_nothing(step: Step) -> None:
    assert step(3 * PORTION, True) == (3 * PORTION, [])


def test_a_live_projector_lets_records_gather(step: Step) -> None:
    taken, waits = step(2 * PORTION, False)
    assert taken == 2 * PORTION
    assert waits


def test_nobody_waits_for_more_who_has_all_that_was_asked_for(step: Step) -> None:
    assert step(50, False) == (50, [])


def test_a_load_process_that_was_started_ahead_and_is_not_needed_ends_without_complaint() -> None:
    with Idle(1) as idle:
        process = idle._started[0].process
        assert process.poll() is None
    assert process.poll() == 0
