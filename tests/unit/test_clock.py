"""The lower bound of the broker's clock: what raises it, and when the broker is asked. No broker, no clock but the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from chimera.eventlog.append import AppendFailed
from chimera.processors import clock
from chimera.processors.clock import ASK_EVERY_S, BrokerClock


class World:
    """A broker with the true time, and a process whose own clock the test moves with it, or leaves behind."""

    def __init__(self) -> None:
        self.true_ms = 1_000_000
        self.own_s = 50.0
        self.asked = 0
        self.down = False
        self.clock = BrokerClock(lambda: self.own_s)

    def pass_(self, seconds: float, *, asleep: bool = False) -> None:
        self.true_ms += int(seconds * 1000)
        self.own_s += 0 if asleep else seconds

    async def ping(self) -> int:
        self.asked += 1
        if self.down:
            raise AppendFailed("chimera.pings", 0, "the broker is away", maybe_written=False)
        return self.true_ms


@pytest.fixture
def world() -> World:
    return World()


def looks(world: World, turns: int, waits: Callable[[], bool] = lambda: True) -> None:
    """Let `keep` look so often."""

    async def run() -> None:
        keeping = asyncio.create_task(clock.keep(world.clock, waits, world.ping, look_s=0))
        for _ in range(turns * 4):  # one turn of the loop to sleep, and some to ask
            await asyncio.sleep(0)
        keeping.cancel()

    asyncio.run(run())


def test_old_records_leave_the_bound_behind_by_their_age_and_one_answer_brings_it_up(world: World) -> None:
    world.clock.saw(world.true_ms - 3_600_000)
    world.pass_(1)
    assert world.clock.now() == world.true_ms - 3_600_000
    asyncio.run(clock.ask(world.clock, world.ping))
    assert world.clock.now() == world.true_ms


def test_the_bound_never_runs_ahead_whatever_is_seen_late(world: World) -> None:
    asyncio.run(clock.ask(world.clock, world.ping))
    for seconds in (0.5, 2, 40):
        seen = world.true_ms
        world.pass_(seconds)
        world.clock.saw(seen)
        assert world.clock.now() <= world.true_ms


def test_without_a_timer_nobody_is_asked(world: World) -> None:
    looks(world, 5, lambda: False)
    assert world.asked == 0


def test_while_a_timer_runs_the_broker_is_asked_again_only_after_a_while(world: World) -> None:
    looks(world, 5)
    assert world.asked == 1
    world.pass_(ASK_EVERY_S - 1)
    looks(world, 5)
    assert world.asked == 1
    world.pass_(1)
    looks(world, 5)
    assert world.asked == 2


def test_what_the_process_appends_anyway_is_asking_too(world: World) -> None:
    world.clock.acknowledged(world.true_ms)
    looks(world, 5)
    assert world.asked == 0


def test_time_that_a_sleeping_machine_missed_is_caught_up_with(world: World) -> None:
    world.clock.acknowledged(world.true_ms)
    world.pass_(7_200, asleep=True)
    world.pass_(ASK_EVERY_S)
    assert world.clock.now() == world.true_ms - 7_200_000
    looks(world, 1)
    assert world.clock.now() == world.true_ms


def test_a_broker_that_does_not_answer_leaves_the_bound_as_it_was(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.clock.saw(world.true_ms - 5_000)
    world.down = True
    asyncio.run(clock.ask(world.clock, world.ping))
    assert world.clock.now() == world.true_ms - 5_000
    assert "timers may be late" in caplog.text
