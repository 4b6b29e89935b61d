"""Seats, role sets and the watchdog: who a process is to the others, and when it must end itself. The clock is the test's."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from chimera.errors import ChimeraError
from chimera.processors import faust_app, runtime, swarm
from chimera.processors.membership import REBALANCE_TIMEOUT_S, ROLE_SETS, SESSION_TIMEOUT_S, Seat, roles_of
from chimera.processors.watchdog import DARK_S, END_GRACE_S, LOOK_S, STUCK_S, Progress, Standing
from chimera.stack.children import role_process


def at(offset: int, beat: int, *, dark: bool = False) -> Progress:
    return Progress({0: offset}, frozenset() if dark else frozenset([0]), dark, beat)


def looks(
    standing: Standing, progress: list[Progress], end: int | None = 10, *, every_s: float = LOOK_S, begin: float = 0
) -> list[str]:
    """What the watchdog finds at one look after the other."""
    ends = None if end is None else {0: end}
    found = [standing.look(each, ends, begin + every_s * (n + 1)) for n, each in enumerate(progress)]
    return [why for why in found if why is not None]


def test_a_process_that_folds_nothing_while_records_wait_is_stuck_after_its_time() -> None:
    enough = int(STUCK_S / LOOK_S) + 2
    assert looks(Standing(0), [at(7, beat) for beat in range(enough - 1)]) == []
    [why] = looks(Standing(0), [at(7, beat) for beat in range(enough)])
    assert why == "chimera.log[0] stands at 7 for 35 s while the log ends at 10"


def test_a_slow_one_is_not_stuck_nor_one_that_stands_at_the_end() -> None:
    assert looks(Standing(0), [at(beat // 4, beat) for beat in range(100)], end=1000) == []
    assert looks(Standing(0), [at(10, beat) for beat in range(100)]) == []


def test_one_record_that_comes_after_a_quiet_night_is_given_the_whole_time() -> None:
    standing = Standing(0)
    looks(standing, [at(10, beat) for beat in range(100)])
    assert looks(standing, [at(10, 200 + n) for n in range(5)], end=11, begin=500) == []


def test_while_the_broker_is_silent_nobody_is_stuck_and_the_time_begins_anew() -> None:
    standing = Standing(0)
    assert looks(standing, [at(7, beat) for beat in range(5)]) == []
    assert looks(standing, [at(7, beat) for beat in range(5, 200)], end=None, begin=25) == []
    assert looks(standing, [at(7, beat) for beat in range(200, 206)], begin=1000) == []


def test_a_machine_that_slept_is_given_its_time_anew() -> None:
    standing = Standing(0)
    looks(standing, [at(7, 0)])
    assert standing.look(at(7, 0), {0: 10}, 600) is None, "the first look after ten minutes of SIGSTOP"
    assert standing.look(at(7, 1), {0: 10}, 605) is None


def test_a_loop_that_no_longer_turns_is_stuck_even_when_nothing_waits() -> None:
    [why, *_] = looks(Standing(0), [at(10, 3) for _ in range(9)])
    assert why.startswith("its loop has not turned for")


def test_a_rebalance_without_an_end_is_stuck_but_a_long_catching_up_is_not() -> None:
    many = int(DARK_S / LOOK_S) + 3
    assert looks(Standing(0), [at(beat, beat, dark=True) for beat in range(2 * many)], end=10_000) == []
    [why, *_] = looks(Standing(0), [at(7, beat, dark=True) for beat in range(many)])
    assert why.startswith("a rebalance has gone on for")


def test_a_partition_that_was_lost_is_not_held_against_a_process() -> None:
    standing = Standing(0)
    looks(standing, [at(7, beat) for beat in range(6)])
    gone = Progress({}, frozenset(), False, 99)
    assert standing.look(gone, {0: 10}, 33) is None
    assert standing.look(at(7, 100), {0: 10}, 37) is None, "it came back: a new beginning"


def test_deadlines_lie_below_what_waits_for_them() -> None:
    assert swarm.RULING_TIMEOUT_S < REBALANCE_TIMEOUT_S
    assert SESSION_TIMEOUT_S < STUCK_S < REBALANCE_TIMEOUT_S
    assert role_process("brain", {"CHIMERA_HOME": "/h"}, ()).stop_timeout_s > runtime.STOP_S
    assert runtime.STOP_S + 10 < END_GRACE_S
    assert "broker_session_timeout=SESSION_TIMEOUT_S" in inspect.getsource(faust_app)


def test_each_role_is_in_one_set_and_a_role_in_two_is_refused() -> None:
    assert roles_of("brain") == ("planner", "worker", "judge")
    assert sorted(role for roles in ROLE_SETS.values() for role in roles) == ["executor", "judge", "planner", "worker"]
    with pytest.raises(ChimeraError, match="role 'judge' is in two sets, 'brain' and 'bench'"):
        roles_of("brain", {"brain": ("planner", "judge"), "bench": ("judge",)})
    with pytest.raises(ChimeraError, match="no role set 'wallet': there are brain, gate"):
        roles_of("wallet")


def test_a_seat_is_held_by_one_process_and_free_when_it_is_left(tmp_path: Path) -> None:
    first = Seat(tmp_path, "home-1", "brain", "brain-1")
    assert first.member == "home-1-brain-1", "the same after a restart, another in another installation"
    with pytest.raises(
        ChimeraError, match=r"brain 'brain-1' already runs in .* \(pid \d+\): stop it, or choose another --instance"
    ):
        Seat(tmp_path, "home-1", "brain", "brain-1")
    Seat(tmp_path, "home-1", "brain", "brain-2").leave()
    Seat(tmp_path, "home-1", "gate", "brain-1").leave()
    first.leave()
    Seat(tmp_path, "home-1", "brain", "brain-1").leave()
    with pytest.raises(ChimeraError, match="is no name for a member"):
        Seat(tmp_path, "home-1", "brain", "../x")


def test_the_supervisor_gives_brain_and_gate_a_seat() -> None:
    assert [list(role_process(role, {"CHIMERA_HOME": "/h"}, ()).argv[-2:]) for role in ("brain", "gate")] == [
        ["--instance", "brain-1"],
        ["--instance", "gate-1"],
    ]
    assert "--instance" not in role_process("projector", {"CHIMERA_HOME": "/h"}, ()).argv
