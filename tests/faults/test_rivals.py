"""Two of everything at once: rival role sets that never yield, and a gate that sleeps beyond its group session and wakes again.

The log decides: one plan, one claim, one call per effect; what the other one says is void.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.e2e.house import House, accounts
from tests.faults.oracle import every_effect_happened_once, no_task_is_lost, plans

none: dict[str, Any] = {"partitions": []}
"""What a process that does not serve yet would say."""


def said_by(house: House, pid: int, outcome: str) -> set[str]:
    """Types of records that a process appended and that were ruled so."""
    return {s.record.type for s in house.seen if s.record.actor.endswith(f"-{pid}") and s.ruling.outcome == outcome}


@pytest.mark.timeout(300)
def test_two_brains_and_two_gates_at_once_make_one_plan_and_one_call_per_effect(house: House) -> None:
    names = house.enrol("riv", 3)
    with house.another("brain", "rival-brain") as brain, house.another("gate", "rival-gate") as gate:
        for rival in (brain, gate):
            house.until(lambda pid=rival.pid: len((house.status(pid) or none)["partitions"]) == 24, "it serves all", 30)
        house.start(house.brief("Rivals", 4), names)
        house.until_completed(names)
        pids = [pid for name in ("brain", "gate") if (pid := house.pid(name)) is not None]
        at_once = {type_ for pid in (*pids, brain.pid, gate.pid) for type_ in said_by(house, pid, "void")}
        assert at_once, "they never met"
        assert said_by(house, brain.pid, "applied") | said_by(house, brain.pid, "void"), "the rival brain said nothing"
        assert said_by(house, gate.pid, "applied") | said_by(house, gate.pid, "void"), "the rival gate said nothing"
    assert set(plans(house, names).values()) == {1}
    no_task_is_lost(house, names)
    every_effect_happened_once(house, names)
    assert set(house.calls(accounts(names)).values()) == {1}, "an effect was called twice"


@pytest.mark.timeout(300)
def test_a_gate_that_sleeps_beyond_its_session_and_wakes_among_its_heirs_calls_nothing_twice(house: House) -> None:
    names = house.enrol("zom", 3, approve_above=1.0)  # so everything waits for people, and for the moment
    house.start(house.brief("Zombie", 4), names)
    house.until(lambda: house.resting(names), "cards wait", 90)
    sleeper = house.pid("gate")
    assert sleeper is not None
    with house.another("gate") as heir:
        house.until(lambda: all(house.status(pid) for pid in (sleeper, heir.pid)), "both share the partitions", 60)
        house.approve_all(names)
        os.kill(sleeper, signal.SIGSTOP)
        try:
            house.until(lambda: len((house.status(heir.pid) or none)["partitions"]) == 24, "the heir has taken over all", 60)
            house.until(lambda: not house.cards(names, ("approved",)), "the heir pays what is owed", 60)
        finally:
            os.kill(sleeper, signal.SIGCONT)
        house.until_completed(names)
        house.until(lambda: 0 < len((house.status(house.pid("gate") or 0) or none)["partitions"]) < 24, "the sleeper is back", 60)
    assert said_by(house, heir.pid, "applied"), "the heir did nothing"
    no_task_is_lost(house, names)
    every_effect_happened_once(house, names)
    assert set(house.calls(accounts(names)).values()) == {1}, "an effect was called twice"


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_a_gate_that_sleeps_in_a_call_for_longer_than_its_lease_posts_once(house: House) -> None:
    names = house.enrol("slp", 1, approve_above=1.0)
    house.start(house.brief("Sleeper", 2), names)
    house.until(lambda: house.resting(names), "cards wait", 90)
    sleeper = house.pid("gate")
    assert sleeper is not None
    house.ask_fault("hang_after_write")
    with house.another("gate", "heirs-of-a-sleeper") as heir:
        os.kill(heir.pid, signal.SIGSTOP)
        house.approve_all(names)
        house.until(lambda: house.faults_left() == 0, "the sleeper waits for an answer", 30)
        os.kill(sleeper, signal.SIGSTOP)
        try:
            os.kill(heir.pid, signal.SIGCONT)
            house.until_completed(names, 180)
        finally:
            os.kill(sleeper, signal.SIGCONT)
        at = len(house.seen)
        house.until(lambda: [s for s in house.seen[at:] if s.record.actor.endswith(f"-{sleeper}")], "the sleeper speaks", 90)
        assert {s.ruling.outcome for s in house.seen[at:] if s.record.actor.endswith(f"-{sleeper}")} == {"void"}
    every_effect_happened_once(house, names)
