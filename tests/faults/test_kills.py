"""kill -9 of brain, gate, projector and broker in the middle of a campaign, and MCP servers that die, hang and talk nonsense.

All of it happens in one mess (a lost claim's lease takes its time to pass, so every fault is made before anything is awaited);
the tests then look at what came of it. Each fault asserts that it bit.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

import pytest

from chimera.events.records import WorkFailed
from chimera.projections.engine import LOG, MODEL_SET, checkpoints, connect
from tests.e2e.house import House
from tests.faults.oracle import every_effect_happened_once, no_task_is_lost

HEAL_S = 180
"""Lease (30 s), grace (5 s), the breaker's pause and a slow machine."""


class Mess(NamedTuple):
    """Agents by what was done to their work."""

    killed: list[str]
    mcp: list[str]
    writer: list[str]
    broker: list[str]

    @property
    def everyone(self) -> list[str]:
        return [*self.killed, *self.mcp, *self.writer, *self.broker]


@pytest.fixture(scope="module")
def mess(house: House) -> Mess:
    # Above 1.0 nothing is approved by itself: the tests decide when something leaves.
    enrolled = [house.enrol(name, agents, approve_above=1.0) for name, agents in (("kil", 4), ("mcp", 2), ("bro", 1))]
    made = Mess(enrolled[0], enrolled[1], house.enrol("wri", 2), enrolled[2])
    house.start(house.brief("Killed", 5), made.killed)
    _kill_the_brain(house, made.killed)
    _kill_the_projector(house, made.killed)
    _kill_the_gate_in_a_call(house, made.killed)
    house.start(house.brief("Bad platform", 3), made.mcp)
    house.until(lambda: house.resting(made.mcp), "the cards of those who meet a bad platform wait", 60)
    _break_the_platform(house, made)
    _kill_the_writer(house, made.writer)
    _kill_the_broker(house, made.broker)
    return made


def _kill_the_brain(house: House, names: list[str]) -> None:
    """While there is work that only it can do: it is stopped, looked at, and let go on until it is caught so."""

    def busy() -> bool:
        """Attempts to work on, or votes to cast. What waits for people or for the gate is not the brain's."""
        tasks = [t for a in house.agents(names) for c in a.campaigns.values() for t in c.tasks.values()]
        return any(
            t.status == "open" or (t.status == "produced" and (not t.effect or t.effect.status == "proposed")) for t in tasks
        )

    house.until(lambda: len(house.records("ArtifactProduced", names)) >= 6, "work goes on", 60)
    pid, starts = house.pid("brain"), house.restarts("brain")
    assert pid is not None

    def caught() -> bool:
        os.kill(pid, signal.SIGSTOP)
        house.service.catch_up()
        if busy():
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    house.until(caught, "the brain has something to do", 60)
    os.kill(pid, signal.SIGKILL)
    house.until(lambda: house.restarts("brain") > starts and house.serving("brain"), "the brain is back", 60)


def _kill_the_projector(house: House, names: list[str]) -> None:
    """While the log is ahead of it."""
    pid, starts = house.pid("projector"), house.restarts("projector")
    assert pid is not None
    house.until(lambda: len(house.cards(names)) >= 6, "cards come", 60)
    os.kill(pid, signal.SIGSTOP)
    try:
        before = len(house.seen)
        for card in house.cards(names)[:3]:
            house.decide(card)
        house.until(lambda: len(house.seen) > before + 5, "the log goes on", 60)
        with connect(house.addresses.postgres) as connection:
            assert sum(checkpoints(connection, "core", MODEL_SET, LOG).values()) < len(house.seen), "it died with nothing to do"
    finally:
        os.kill(pid, signal.SIGKILL)
    house.until(lambda: house.restarts("projector") > starts, "the projector is back", 60)


def _kill_the_gate_in_a_call(house: House, names: list[str]) -> None:
    """After the platform has written the post and before the gate hears of it: the worst moment."""
    starts = house.restarts("gate")
    house.ask_fault("hang_after_write")

    def written() -> set[str]:
        keys = {str(key) for (key,) in house.platform("SELECT key FROM keys")}
        return keys & {card.effect.hash for card in house.cards(names, ("claimed",))}

    def called() -> bool:
        house.approve_all(names)
        return house.faults_left() == 0

    house.until(called, "the platform holds back an answer", 60)
    house.until(written, "the post is written", 20)
    house.kill("gate")
    house.service.catch_up()
    assert written(), "it died without a call that nobody knows the end of"
    house.until(lambda: house.restarts("gate") > starts and house.serving("gate"), "the gate is back", 60)


def _break_the_platform(house: House, made: Mess) -> None:
    """Death before and after writing, nonsense, a refusal for now, and a call that hangs."""
    starts = house.restarts("x")
    for kind in ("die_after_write", "nonsense_after_write", "nonsense", "429", "die", "hang"):
        house.ask_fault(kind)

    def bitten() -> bool:
        house.approve_all(made.everyone)
        return house.faults_left() == 0

    house.until(bitten, "every fault of the platform has bitten", 120)
    # One death may swallow several calls, and so several faults.
    house.until(lambda: house.restarts("x") > starts and house.pid("x"), "the platform died and is back", 60)


def _kill_the_writer(house: House, names: list[str]) -> None:
    """While texts are being written by it."""
    pid, starts = house.pid("writer"), house.restarts("writer")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        house.start(house.brief("No writer", 2), names)

        def asked() -> bool:
            angles = [t for a in house.agents(names) for c in a.campaigns.values() for t in c.tasks.values() if t.kind == "angles"]
            return len(angles) == len(names) and all(t.status == "open" for t in angles)

        house.until(asked, "texts are asked for", 60)
        house.until(lambda: any(status["running"] >= len(names) for status in house.serving("brain")), "the brain waits", 30)
    finally:
        os.kill(pid, signal.SIGKILL)
    house.until(lambda: house.restarts("writer") > starts, "the writer is back", 60)


def _kill_the_broker(house: House, names: list[str]) -> None:
    """While something is planned that cannot end without it: its card is approved when the broker is back."""
    starts = house.restarts("kafka")
    house.start(house.brief("No broker", 1), names)
    house.until(lambda: house.records("PlanDrafted", names), "work goes on", 60)
    house.kill("kafka")
    house.until_again("kafka", starts)
    assert {row.status for row in house.campaigns(names)} == {"running"}, "it died with nothing to do"


@pytest.mark.timeout(400)
def test_what_the_writer_did_not_answer_is_written_when_it_is_back(house: House, mess: Mess) -> None:
    house.until_completed(mess.writer, HEAL_S)
    lost = [s.record.data for s in house.records("WorkFailed", mess.writer)]
    assert [d for d in lost if isinstance(d, WorkFailed) and d.not_before is not None], "the dead writer was noticed"
    no_task_is_lost(house, mess.writer)


@pytest.mark.timeout(400)
def test_a_killed_brain_gate_and_projector_lose_no_task_and_repeat_no_effect(house: House, mess: Mess) -> None:
    house.until_completed(mess.killed, HEAL_S)
    assert sum(len(row.tasks) for row in house.campaigns(mess.killed)) >= 40
    no_task_is_lost(house, mess.killed)
    every_effect_happened_once(house, mess.killed)


@pytest.mark.timeout(400)
def test_a_platform_that_dies_hangs_or_talks_nonsense_gets_every_approved_post_once(house: House, mess: Mess) -> None:
    house.until_completed(mess.mcp, HEAL_S)
    no_task_is_lost(house, mess.mcp)
    every_effect_happened_once(house, mess.mcp)
    assert house.records("EffectUnknown", mess.everyone), "some call's end was unknown for a while"
    assert max(house.calls([f"{name}_x" for name in mess.everyone]).values()) > 1, "some call was made again under its key"


@pytest.mark.timeout(400)
def test_a_killed_broker_loses_nothing_that_it_had_taken_and_everybody_finds_it_again(house: House, mess: Mess) -> None:
    house.until_completed(mess.broker, HEAL_S)
    no_task_is_lost(house, mess.broker)
    every_effect_happened_once(house, mess.broker)


def test_the_read_models_equal_a_refold_after_all_that(house: House, mess: Mess) -> None:
    house.equals_refold()
