"""What is kept of debts: no more of it than there are agents that wait, however long a process lives."""

from __future__ import annotations

from typing import Any

import pytest

from chimera.events.state import Agent
from chimera.processors import debts
from chimera.processors.debts import Debts
from chimera.processors.jobs import Due, Job, Role

NOBODY: Any = None
AVA = Agent("agent/1", "acme", "ava")


def job(attempt: int) -> Job:
    return Job("worker", "work", AVA.key, AVA.tenant, "", 1, 1, attempt, 0, {})


def test_wakes_that_others_overtook_are_no_more_than_those_that_stand() -> None:
    """A card expires in a day; every record of its agent brings a nearer wake, and takes it away again."""
    owed, at = Debts(), [0]
    role = Role("planner", lambda agent, now: Due([], at[0]), NOBODY)
    for now in range(10_000):
        for at[0] in (now + 50, 86_400_000):
            owed.ask(AVA, [role], now)
    assert len(owed._wakes) <= debts.MOST_OVERTAKEN + 2
    assert list(owed.woken(86_400_000)) == [AVA.key]
    assert owed.next_wake is None


def test_a_debt_that_went_wrong_and_is_owed_no_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    owed, now = Debts(), [1_000.0]
    monkeypatch.setattr("chimera.processors.debts.time.monotonic", lambda: now[0])
    owed.hold(job(1))
    owed.hold(job(1))
    now[0] += debts.FORGET_S
    owed.hold(job(2))
    assert owed.holds(job(1)), "it may be tried again at any time"
    now[0] += 1
    owed.hold(job(3))
    assert [owed.holds(job(attempt)) for attempt in (1, 2, 3)] == [False, True, True]
