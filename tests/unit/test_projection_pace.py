"""When a live projector writes: soon while little comes, in larger transactions while much does, and never late after a burst."""

from __future__ import annotations

import itertools

import pytest

from chimera.projections.pace import BUSY_GATHER_S, FULL_GATHER_S, GATHER_S, LOOK_S, Pace

READ_S = 0.001


def written(pace: Pace, arrivals: list[float], now: float) -> tuple[float, int]:
    """Ask the pace as the projector does, from `now` on, when records arrive at those times: (when it writes, how many)."""
    while True:
        done = sum(at <= now for at in arrivals)
        wait = pace.wait_s(done, now)
        if not wait:
            break
        seen, now = done, now + wait
        if sum(at <= now for at in arrivals) == seen:  # the projector writes where nothing came while it waited
            break
        now += READ_S
    done = sum(at <= now for at in arrivals)
    pace.begins(done, now)
    return now, done


def steady(per_s: float, until_s: float) -> list[tuple[float, int]]:
    """The transactions of a log that gets so many records a second, from second 100 on: (since the one before, records)."""
    arrivals = [100 + n / per_s for n in range(int(per_s * until_s))]
    pace, found, before, now = Pace(), [], 100.0, 100.0
    while arrivals:
        now = max(now, arrivals[0])
        now, done = written(pace, arrivals, now)
        arrivals = arrivals[done:]
        found.append((now - before, done))
        before = now
    return found


def test_a_record_that_comes_alone_is_written_at_once() -> None:
    pace = Pace()
    assert pace.wait_s(1, 100.0) == 0
    pace.begins(1, 100.0)
    assert pace.wait_s(1, 100.001 + GATHER_S) == 0
    assert pace.wait_s(1, 100.0 + GATHER_S / 2) == pytest.approx(GATHER_S / 2), "the next one shares what came meanwhile"


@pytest.mark.parametrize(("per_s", "every_s"), [(200, GATHER_S), (600, BUSY_GATHER_S), (1500, FULL_GATHER_S)])
def test_the_more_comes_the_more_share_a_transaction(per_s: float, every_s: float) -> None:
    settled = steady(per_s, 8)[10:-2]
    assert settled
    for since, _ in settled:
        assert every_s - 0.006 <= since <= every_s + LOOK_S, (per_s, settled)


def test_after_a_burst_nobody_waits_for_a_full_transaction() -> None:
    burst = [100.0 + n / 5_000 for n in range(1_000)]  # a fifth of a second
    late = [101.0, 101.2]
    pace, now, left = Pace(), 100.0, burst + late
    delays: list[float] = []
    while left:
        now = max(now, left[0])
        now, done = written(pace, left, now)
        delays += [now - at for at in left[:done]]
        left = left[done:]
    assert max(delays[: len(burst)]) <= BUSY_GATHER_S + 2 * LOOK_S + 4 * READ_S
    assert max(delays[len(burst) :]) <= 2 * READ_S, "it was over: the next transaction had said so"


def test_each_wait_ends_in_a_transaction() -> None:
    for per_s, begun in itertools.product((100, 1_000, 100_000), (0, 10_000)):
        pace = Pace()
        pace.begins(begun, 0.01)
        now, asked = 0.01, 0
        while wait := pace.wait_s(int(per_s * (now - 0.01)), now):
            now, asked = now + wait, asked + 1
            assert asked < 20, "it would gather for ever"
        assert now <= 0.01 + FULL_GATHER_S + 1e-9
