"""The swarm's core over a log in memory: jobs in flight, holds, slots, revocation, holes. No broker, no clock but the test's.

The rule not to break: nothing here waits for time to pass; the test moves the clock and delivers the records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from chimera.eventlog.append import AppendFailed
from chimera.events import records as rec
from chimera.events.envelope import Wire
from chimera.events.fold import fold
from chimera.events.partition import PartitionFold
from chimera.events.raw import Position, RawRecord
from chimera.events.state import Agent
from chimera.processors import debts, planner, swarm
from chimera.processors.clock import BrokerClock
from chimera.processors.debts import FIRST_HOLD_S, LONGEST_HOLD_S
from chimera.processors.jobs import Answer, Due, Job, NotNow, Role
from chimera.processors.swarm import HoleInLog, Swarm
from tests.histories import planned, row

TOPIC = "chimera.log"
Do = Callable[[Job, Any], Awaitable[Answer | None]]


def agent_with_tasks(key: str, tasks: int) -> Agent:
    """An agent whose planner owes `tasks` openings."""
    agent: Agent | None = None
    log = planned(*(row(n) for n in range(1, tasks + 1)))
    for r in log.records:
        agent, _ = fold(log.law, agent, r)
    assert agent is not None
    agent.key = key
    return agent


async def open_task(job: Job, tools: object) -> Answer | None:
    """What the planner answers to `open`, without reading anything back."""
    return Answer(rec.TaskPlanned(campaign=job.campaign, ordinal=job.ordinal, attempt=job.attempt))


async def never(job: Job, tools: object) -> Answer | None:
    """A job that is busy for good."""
    await asyncio.Event().wait()
    return None


class House:
    """A swarm, its log, its clock. Records reach the fold when the test delivers them."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        do: Do = open_task,
        *,
        due: Callable[[Agent, int], Due] = planner.due,
        agents: dict[str, int] | None = None,
        **limits: Any,
    ) -> None:
        self.seconds = 1_000.0
        self.log: list[RawRecord] = []
        self.delivered = 0
        self.started: list[tuple[str, int]] = []
        self._do = do
        for module in (swarm, debts):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.seconds))
        self.swarm = Swarm(self._append, self._fold, name="test", **limits)
        self.swarm.employ([Role("planner", due, self._watched)], None)
        self.swarm.clock = BrokerClock(lambda: self.seconds)
        self.agents = {key: agent_with_tasks(key, tasks) for key, tasks in (agents or {"agent/a": 1}).items()}

    def _fold(self, partition: int) -> PartitionFold:
        made = PartitionFold(partition, 1, "")
        made.agents.update(self.agents)
        return made

    async def _append(self, wire: Wire) -> Position:
        at = Position(TOPIC, 0, len(self.log), int(self.seconds * 1000))
        self.log.append(RawRecord(TOPIC, 0, at.offset, at.append_ts, wire.key.encode(), wire.value, wire.headers))
        return at

    async def _watched(self, job: Job, tools: object) -> Answer | None:
        self.started.append((job.agent, job.ordinal))
        return await self._do(job, tools)

    def begin(self) -> None:
        """All of the one partition is caught up."""
        self.swarm.clock.saw(int(self.seconds * 1000))
        self.swarm.light([0])

    async def deliver(self) -> None:
        """Fold what was appended, as the runtime does, and let everybody react."""
        await settle()
        fresh, self.delivered = self.log[self.delivered :], len(self.log)
        self.swarm.ask_all(self.swarm.fold_batch(fresh))
        await settle()

    async def too_late(self, seconds: float) -> None:
        """More than so many seconds pass, and nothing comes meanwhile."""
        self.seconds += seconds + 1
        self.swarm.give_up()
        await settle()

    async def later(self, seconds: float) -> None:
        """Time passes, and every agent is asked again."""
        self.seconds += seconds
        self.swarm.ask_all(self.agents)
        await settle()


async def settle() -> None:
    """Let every coroutine that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that real time brings about, at most five seconds."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about within 5 s")


def play(story: Coroutine[Any, Any, None]) -> None:
    """Run one story to its end, at most ten seconds."""

    async def bounded() -> None:
        await asyncio.wait_for(story, 10)

    asyncio.run(bounded())


def test_a_job_is_in_flight_until_its_record_is_folded_and_is_not_begun_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)

    async def story() -> None:
        house.begin()
        await settle()
        assert len(house.log) == 1, "the record is on the log"
        assert house.swarm.running() == 1, "but not yet folded"
        for _ in range(3):
            house.swarm.ask("agent/a")
        await settle()
        assert house.started == [("agent/a", 1)]
        await house.deliver()
        assert house.swarm.running() == 0
        assert house.swarm.idle()
        assert house.swarm.counters.applied == 1

    play(story())


def test_an_agent_is_asked_once_when_a_record_is_folded_and_not_again_when_its_job_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def due(agent: Agent, now: int) -> Due:
        asked.append(agent.key)
        return planner.due(agent, now)

    house = House(monkeypatch, due=due, agents={"agent/a": 3}, per_agent=1)

    async def story() -> None:
        house.begin()
        for _ in range(3):
            await house.deliver()
        assert [ordinal for _, ordinal in house.started] == [1, 2, 3], "what was owed all the while is begun all the same"
        assert len(asked) == 1 + 3, "once at first, once per record"
        assert house.swarm.idle()

    play(story())


def test_an_agent_whose_job_said_nothing_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it owes may hang on what the job learnt, though no record tells of it."""
    learnt: list[int] = []

    async def learn(job: Job, tools: object) -> Answer | None:
        learnt.append(job.ordinal)
        return None

    def due(agent: Agent, now: int) -> Due:
        return Due([job for job in planner.due(agent, now).jobs if job.ordinal not in learnt])

    house = House(monkeypatch, learn, due=due, agents={"agent/a": 3})

    async def story() -> None:
        house.begin()
        await settle()
        assert sorted(learnt) == [1, 2, 3]
        assert house.swarm.idle()

    play(story())


def test_an_append_that_fails_is_tried_again_with_the_same_record(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    tried: list[Wire] = []
    append = house.swarm._append

    async def refuse_twice(wire: Wire) -> Position:
        tried.append(wire)
        if len(tried) < 3:
            raise AppendFailed(TOPIC, 0, "no broker", maybe_written=True)
        return await append(wire)

    monkeypatch.setattr(house.swarm, "_append", refuse_twice)
    monkeypatch.setattr(swarm, "APPEND_AGAIN_S", (0.0, 0.0, 0.0))

    async def story() -> None:
        house.begin()
        await house.deliver()
        await house.deliver()
        assert len(tried) == 3
        assert tried[0] == tried[1] == tried[2], "one record, so that a second one in the log is void"
        assert house.swarm.counters.job_errors == 0

    play(story())


def test_an_append_that_never_succeeds_is_the_jobs_error(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    tried: list[Wire] = []

    async def refuse(wire: Wire) -> Position:
        tried.append(wire)
        raise AppendFailed(TOPIC, 0, "no broker", maybe_written=True)

    monkeypatch.setattr(house.swarm, "_append", refuse)
    monkeypatch.setattr(swarm, "APPEND_AGAIN_S", (0.0, 0.0))

    async def story() -> None:
        house.begin()
        await settle()
        assert len(tried) == 3
        assert house.swarm.counters.job_errors == 1

    play(story())


def test_no_job_begins_before_its_partition_is_caught_up_or_while_a_rebalance_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)

    async def story() -> None:
        house.swarm.fold_for(0)
        house.swarm.ask("agent/a")
        await settle()
        assert house.started == []
        house.begin()
        house.swarm.darken()
        await house.later(1)
        assert len(house.started) == 1, "what began before goes on"
        await house.deliver()
        house.agents["agent/a"].campaigns[1].tasks[1].status = "planned"
        await house.later(1)
        assert len(house.started) == 1, "nothing new while it is dark"
        house.begin()
        await settle()
        assert len(house.started) == 2

    play(story())


def test_a_debt_whose_record_was_void_is_held_with_doubling_delay_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def too_late(job: Job, tools: object) -> Answer | None:
        return Answer(rec.TaskPlanned(campaign=job.campaign, ordinal=job.ordinal, attempt=job.attempt + 7))

    house = House(monkeypatch, too_late)

    async def story() -> None:
        house.begin()
        await house.deliver()
        delay = FIRST_HOLD_S
        for tries in range(1, 12):
            assert len(house.started) == tries
            assert house.swarm.idle(), "a held debt is not owed now"
            due_in = house.swarm.next_wake_ms()
            assert due_in is not None
            await house.later(delay - 0.01)
            assert len(house.started) == tries, f"tried again before {delay} s were over"
            await house.later(0.02)
            await house.deliver()
            delay = min(LONGEST_HOLD_S, delay * 2)
        assert delay == LONGEST_HOLD_S
        assert house.swarm.counters.void == len(house.started) == 12

    play(story())


def test_a_job_that_fails_is_counted_and_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    moods = iter([True, False])

    async def moody(job: Job, tools: object) -> Answer | None:
        if next(moods):
            raise RuntimeError("the cable was pulled")
        return await open_task(job, tools)

    house = House(monkeypatch, moody)

    async def story() -> None:
        house.begin()
        await house.deliver()
        assert (house.swarm.counters.job_errors, len(house.log)) == (1, 0)
        await house.later(FIRST_HOLD_S + 0.01)
        await house.deliver()
        assert (house.swarm.counters.job_errors, house.swarm.counters.applied) == (1, 1)
        assert house.swarm.idle()

    play(story())


def test_a_job_that_a_switch_stops_is_held_and_counts_as_nobodys_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = [True]

    async def work(job: Job, tools: object) -> Answer | None:
        if stopped and stopped.pop():
            raise NotNow("text.complete is stopped (switch:fleet)")
        return await open_task(job, tools)

    house = House(monkeypatch, work)

    async def story() -> None:
        house.begin()
        await house.deliver()
        assert (house.swarm.counters.job_errors, len(house.log), len(house.started)) == (0, 0, 1)
        await house.later(FIRST_HOLD_S + 0.01)
        await house.deliver()
        assert (house.swarm.counters.job_errors, house.swarm.counters.applied) == (0, 1)

    play(story())


def test_slots_go_round_the_agents_and_one_agent_never_takes_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, never, agents={"agent/a": 9, "agent/b": 2, "agent/c": 9}, slots=7, per_agent=3)

    async def story() -> None:
        house.begin()
        await settle()
        order = [key for key, _ in house.started]
        assert len(order) == 7
        assert {key: order.count(key) for key in set(order)} == {"agent/a": 3, "agent/b": 2, "agent/c": 2}
        assert order[3:6] == ["agent/b", "agent/c", "agent/b"] or len(set(order[:5])) == 3
        await house.swarm.stop(0.1)

    play(story())


def test_a_job_whose_answer_is_on_its_way_to_the_log_holds_no_slot_though_it_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, agents={"agent/a": 9, "agent/b": 9, "agent/c": 9}, slots=2, per_agent=9)

    async def story() -> None:
        house.begin()
        await settle()
        assert len(house.log) == house.swarm.running() == swarm.IN_FLIGHT * 2, "as many are in flight as may be, all answered"
        await house.deliver()
        assert len(house.started) == swarm.IN_FLIGHT * 2 * 2, "what was folded made room"
        await house.swarm.stop(0.1)

    play(story())


def test_a_job_that_waits_for_a_record_of_its_own_holds_no_slot_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    async def claiming(job: Job, tools: object) -> Answer | None:
        """Says one record, hears its ruling, and is then busy for good."""
        await house.swarm.say(job, Answer(rec.TaskPlanned(campaign=job.campaign, ordinal=job.ordinal, attempt=job.attempt)))
        return await never(job, tools)

    house = House(monkeypatch, claiming, agents={"agent/a": 9, "agent/b": 9}, slots=2, per_agent=9)

    async def story() -> None:
        house.begin()
        await settle()
        assert len(house.started) == swarm.IN_FLIGHT * 2, "as many are begun as may be in flight"
        await house.deliver()
        assert len(house.started) == swarm.IN_FLIGHT * 2, "who heard the ruling works on and holds a slot again"
        await house.swarm.stop(0.1)

    play(story())


def test_a_job_that_is_worked_on_holds_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, never, agents={"agent/a": 9, "agent/b": 9}, slots=2, per_agent=9)

    async def story() -> None:
        house.begin()
        await settle()
        assert house.swarm.running() == 2
        await house.swarm.stop(0.1)

    play(story())


def test_an_agent_that_has_much_to_do_does_not_starve_one_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, agents={"agent/a": 30, "agent/b": 1}, slots=2, per_agent=2)

    async def story() -> None:
        house.begin()
        while not house.swarm.idle():
            await house.deliver()
        turn = house.started.index(("agent/b", 1))
        assert turn <= 4, f"agent b came only after {turn} jobs of agent a"
        assert len(house.started) == len(set(house.started)) == 31, "each debt was paid once"

    play(story())


def test_agents_of_one_partition_are_served_one_after_the_other_in_whatever_order_they_are_owed_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_now = False

    def due(agent: Agent, now: int) -> Due:
        return planner.due(agent, now) if open_now else Due([])

    house = House(monkeypatch, due=due, agents=dict.fromkeys(("a@0", "b@1", "c@0", "d@1"), 2), slots=2)
    everybody = house.agents

    def of(partition: int) -> PartitionFold:
        house.agents = {key: agent for key, agent in everybody.items() if key.endswith(f"@{partition}")}
        return House._fold(house, partition)

    monkeypatch.setattr(house.swarm, "_new_fold", of)

    async def story() -> None:
        nonlocal open_now
        house.swarm.light([0, 1])
        open_now = True
        house.swarm.ask_all(everybody)
        await settle()
        partitions = [key[-1] for key, _ in house.started]
        await house.swarm.stop(0.1)
        assert partitions == ["0", "0", "1", "1"] * 2

    play(story())


def test_revocation_cancels_jobs_of_lost_partitions_but_a_call_that_was_sent_ends_and_appends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = asyncio.Event()

    async def calling(job: Job, tools: object) -> Answer | None:
        if job.ordinal == 1:
            house.swarm.shield(job)
        await answered.wait()
        return await open_task(job, tools)

    house = House(monkeypatch, calling, agents={"agent/a": 2})

    async def story() -> None:
        house.begin()
        await settle()
        assert house.swarm.running() == 2
        house.swarm.darken()
        await settle()
        assert house.swarm.running() == 2, "until the new assignment is known nobody's job ends"
        house.swarm.keep_only(set(house.swarm.partitions))
        await settle()
        assert house.swarm.running() == 2, "nor then, where the partition stays here"
        house.swarm.darken()
        house.swarm.keep_only(set())
        await settle()
        assert house.swarm.running() == 1, "only the call that was sent goes on"
        answered.set()
        await settle()
        assert [raw.key for raw in house.log] == [b"agent/a"], "its record is appended whoever owns the partition now"
        await house.too_late(swarm.RULING_TIMEOUT_S)
        assert not house.swarm.running(), "it is folded elsewhere, and not waited for any longer than that"
        assert house.started == [("agent/a", 1), ("agent/a", 2)], "nothing of a lost partition is begun"

    play(story())


def test_stopping_lets_a_call_that_was_sent_end_and_cancels_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def calling(job: Job, tools: object) -> Answer | None:
        if job.ordinal != 1:
            return await never(job, tools)
        house.swarm.shield(job)
        await settle()
        await settle()
        return await open_task(job, tools)

    house = House(monkeypatch, calling, agents={"agent/a": 3})

    async def story() -> None:
        house.begin()
        await settle()
        stopping = asyncio.ensure_future(house.swarm.stop(60))
        for _ in range(3):
            await settle()
        assert len(house.log) == house.swarm.running() == 1
        await house.too_late(swarm.RULING_TIMEOUT_S)
        await stopping
        assert house.swarm.running() == 0

    play(story())


def test_a_job_that_hangs_loses_its_slot_and_is_owed_again_but_not_a_call_that_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hanging(job: Job, tools: object) -> Answer | None:
        if job.agent == "agent/b":
            house.swarm.shield(job)
        return await never(job, tools)

    house = House(monkeypatch, hanging, agents={"agent/a": 1, "agent/b": 1})

    async def story() -> None:
        house.begin()
        await settle()
        await house.too_late(swarm.JOB_DEADLINE_S)
        assert house.swarm.counters.job_errors == 1
        assert house.swarm.running() == 1, "the one that was sent"
        await house.later(FIRST_HOLD_S + 0.01)
        assert house.started == [("agent/a", 1), ("agent/b", 1), ("agent/a", 1)]
        await house.swarm.stop(0.1)

    play(story())


def test_a_hole_in_the_log_stops_the_reader_and_names_both_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, agents={"agent/a": 3})

    async def story() -> None:
        house.begin()
        await settle()
        assert len(house.log) == 3
        with pytest.raises(HoleInLog, match=r"chimera.log\[0\]: expected offset 0, got 1"):
            house.swarm.fold_batch(house.log[1:])
        await house.swarm.stop(0.1)

    play(story())


def test_records_that_come_again_are_folded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, agents={"agent/a": 3})

    async def story() -> None:
        house.begin()
        await house.deliver()
        before = house.swarm.counters.folded
        assert not house.swarm.fold_batch(house.log)
        assert house.swarm.counters.folded == before == 3

    play(story())


def test_a_partition_that_comes_back_is_folded_from_its_first_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was folded before it was lost is forgotten with it: the state may have moved on elsewhere."""
    house = House(monkeypatch)

    async def story() -> None:
        house.begin()
        await house.deliver()
        house.swarm.keep_only(set())
        assert house.swarm.partitions == {}
        assert house.swarm.fold_for(0).next_offset == 0

    play(story())


def test_a_debt_of_the_future_is_asked_for_when_its_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def due(agent: Agent, now: int) -> Due:
        at = 1_000_000 + 5_000
        return planner.due(agent, now) if now >= at else Due([], at)

    house = House(monkeypatch, due=due)

    async def story() -> None:
        house.begin()
        ticking = asyncio.create_task(house.swarm.tick())
        await settle()
        assert (house.started, house.swarm.next_wake_ms()) == ([], 5_000)
        house.seconds += 5
        await until(lambda: bool(house.started))
        ticking.cancel()
        await house.swarm.stop(0.1)

    play(story())


def test_records_that_only_make_a_lost_state_anew_are_folded_and_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)

    async def story() -> None:
        house.begin()
        await house.deliver()
        counted = dict(house.swarm.counters.rulings)
        assert sum(counted.values()) == len(house.log) == 1
        house.swarm.partitions[0] = house.swarm._new_fold(0)
        house.swarm.fold_batch(house.log, again=[0])
        assert house.swarm.partitions[0].next_offset == 1
        assert (house.swarm.counters.rulings, house.swarm.counters.folded) == (counted, 2)

    play(story())


def test_the_broker_clock_never_runs_ahead_of_the_broker() -> None:
    seconds = 10.0
    clock = BrokerClock(lambda: seconds)
    assert clock.now() == 0
    clock.saw(50_000)
    assert clock.now() == 50_000
    seconds = 12.0
    assert clock.now() == 52_000
    clock.saw(51_000)  # a record seen late proves nothing
    assert clock.now() == 52_000
    clock.saw(53_500)
    assert clock.now() == 53_500
