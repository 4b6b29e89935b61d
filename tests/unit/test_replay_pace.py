"""How fast a load goes: as fast as it is told, held while it is told to wait, over when nobody tells it any more."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from chimera.eventlog.topics import KafkaUnavailable
from chimera.projections.pace import BULK, LEAST, at_once
from chimera.replay import survey
from chimera.replay.builds_load import Pace
from chimera.replay.builds_run import STANDS_S, Pacing, Tally, _Running


class Told:
    """Lines that come when they are said; `over` ends them as the end of a process does."""

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes | None] = queue.Queue()

    def say(self, rate: float, hold: bool) -> None:
        self._lines.put(orjson.dumps({"rate": rate, "hold": hold}))

    def over(self) -> None:
        self._lines.put(None)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._lines.get, None)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    made = Told()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=made))
    yield made
    made.over()


def test_how_long_is_left_is_what_is_missing_at_this_rate() -> None:
    assert Tally("loading", 2_000, 10_000, 4_000.0, "").eta_s == 2.0
    assert Tally("loading", 0, 10_000, 0.0, "").eta_s is None


def test_at_a_slow_pace_no_more_is_taken_at_once_than_half_a_seconds(told: Told) -> None:
    assert Pace(0.0).batch == BULK
    assert Pace(1_000.0).batch == 500
    assert Pace(10.0).batch == 5
    assert Pace(0.5).batch == 1
    assert Pace(10**9).batch == BULK


def test_towards_its_end_a_load_takes_less_at_once_so_that_little_is_left_to_write_alone() -> None:
    left, taken = 2 * BULK + 1, list[int]()
    while left > 0:
        taken.append(min(left, at_once(BULK, left)))
        left -= taken[-1]
    assert taken[0] == BULK
    assert taken[-1] <= LEAST
    assert len(taken) < 12
    assert at_once(50, BULK) == 50


def test_so_many_records_wait_as_long_as_the_rate_asks_for(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    pace, waits = Pace(100.0), list[float]()
    monkeypatch.setattr(pace.stop, "wait", lambda s: waits.append(s))
    monkeypatch.setattr("chimera.replay.builds_load.time.monotonic", lambda: 1_000.0)
    pace._next_at = 1_000.0
    for _ in range(3):
        assert pace.go_on(200)
    assert waits == [2.0, 4.0, 6.0]  # no time passes here: what is due adds up


def test_a_load_that_was_held_back_by_others_does_not_make_up_for_it_in_a_rush(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    pace, waits = Pace(100.0), list[float]()
    monkeypatch.setattr(pace.stop, "wait", lambda s: waits.append(s))
    monkeypatch.setattr("chimera.replay.builds_load.time.monotonic", lambda: 1_000.0)
    pace._next_at = 0.0  # a quarter of an hour behind
    pace.go_on(100)
    pace.go_on(100)
    assert waits == [0.0, 1.0]


def test_a_load_that_is_held_goes_on_when_it_is_let_and_ends_when_nobody_tells_it_any_more(told: Told) -> None:
    pace, answers = Pace(0.0), list[bool]()
    told.say(0.0, True)
    await_(lambda: pace._hold)
    asking = threading.Thread(target=lambda: answers.append(pace.go_on(1)))
    asking.start()
    assert answers == []
    told.say(0.0, False)
    asking.join(60)
    assert answers == [True]
    told.over()
    assert pace.stop.wait(60)
    assert not pace.go_on(1)


def await_(condition: object) -> None:
    assert callable(condition)
    done, deadline = threading.Event(), 600
    while not condition() and deadline:
        done.wait(0.1)
        deadline -= 1
    assert condition()


def test_a_load_waits_for_live_read_models_that_are_behind_and_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now, written, end = [1_000.0], {"log": {0: 0}}, [6_000]
    monkeypatch.setattr("chimera.replay.builds_run.time.monotonic", lambda: now[0])
    monkeypatch.setattr(survey, "ends", lambda where: {"log": {0: end[0]}})
    database: Any = SimpleNamespace(do=lambda work: written)
    anything: Any = None
    running = _Running(database, anything, 7, anything, Pacing(yield_at=5_000), lambda tally: None)
    assert running._held() == "the live read models are 6000 records behind"
    now[0] += STANDS_S
    assert running._held() == "", "they stand still: nobody gains by waiting for them"
    written["log"][0] = 10
    assert running._held() == "the live read models are 5990 records behind", "they move again"
    written["log"][0] = 1_000
    assert running._held() == "", "they are near enough"
    end[0] = 99_000
    assert running._held()

    def away(where: object) -> dict[str, dict[int, int]]:
        raise KafkaUnavailable("no answer")

    monkeypatch.setattr(survey, "ends", away)
    assert running._held() == "", "how far behind they are cannot be known: the load finds out itself that Kafka is away"


def test_who_yields_to_nobody_does_not_even_ask_how_far_they_are() -> None:
    anything: Any = None
    assert _Running(anything, anything, 7, anything, Pacing(yield_at=0), lambda tally: None)._held() == ""
