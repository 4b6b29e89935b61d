"""kill -9 exactly between two steps: every failpoint of every process, each proved to have fired, and the invariants after it.

The rule not to break: a run in which a point did not fire proves nothing about it, so it fails.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from chimera import failpoints
from chimera.commands.client import answers
from chimera.failpoints import POINTS
from chimera.stack import supervisor
from tests.e2e.house import House, open_house
from tests.faults.breakable import breakable, orders
from tests.faults.invariants import Watermarks, all_hold

PLACES: Mapping[str, Mapping[str, int]] = {
    "brain": {
        "catchup.restored": 1,
        "catchup.folded": 1,
        "job.started": 3,
        "job.answered": 2,
        "record.encoded": 1,
        "append.handed": 2,
        "record.appended": 1,
        "swarm.folded": 2,
        "worker.started": 1,
        "worker.made": 1,
        "gate.told": 1,
        "snapshot.cut": 1,
        "snapshot.saved": 2,
    },
    "gate": {
        "record.read": 2,
        "record.ruled": 1,
        "gate.guarded": 1,
        "gate.answered": 1,
        "executor.drawn": 1,
        "executor.claimed": 1,
        "executor.checked": 1,
        "executor.called": 1,
        "executor.lost": 1,
        "lookup.asked": 1,
        "lookup.listed": 1,
    },
    "projector": {
        "projector.leased": 1,
        "projector.read": 1,
        "projector.folded": 1,
        "projector.moved": 1,
        "projector.copied": 1,
        "projector.committed": 1,
        "beside.read": 1,
        "beside.written": 1,
    },
    "command": {"command.decided": 1, "command.appended": 1, "command.ruled": 1},
}
"""Role -> point -> at which of its arrivals there the process is killed in the short form."""
ELSEWHERE: Mapping[str, str] = {
    "executor.polled": "integration/test_effects.py",
    "executor.received": "unit/test_generation.py",
    "gate.collected": "unit/test_generation.py",
    "calls.taken": "unit/test_processors_calllog.py",
    "courier.made": "integration/test_courier.py",
    "courier.appended": "integration/test_courier.py",
    "memory.moved": "integration/test_memory_kills.py",
    "memory.put": "integration/test_memory_kills.py",
    "metrics.moved": "integration/test_engagement.py",
    "metrics.copied": "integration/test_engagement.py",
    "metrics.kept": "integration/test_engagement.py",
    **dict.fromkeys(("build.prepared", "build.loaded", "build.indexed", "build.followed"), "faults/test_rebuild_points.py"),
    **dict.fromkeys(("load.opened", "load.taken", "load.folded"), "faults/test_rebuild_points.py"),
    **dict.fromkeys(("swap.locked", "swap.renamed", "swap.committed"), "faults/test_rebuild_points.py"),
    "notary.taken": "integration/test_notary.py",
    "notary.written": "integration/test_notary.py",
}
"""Point -> the test that fires it: these campaigns order no pictures, have no tenant; nobody loads numbers, signs or rebuilds."""
EVERY = {name for points in PLACES.values() for name in points}
CHANCES: Mapping[str, tuple[float, float]] = {
    "job": (0.002, 0.02),
    "record": (0.002, 0.02),
    "append": (0.002, 0.02),
    "swarm": (0.002, 0.02),
    "gate": (0.005, 0.03),
    "worker": (0.01, 0.06),
    "executor": (0.05, 0.2),
    "lookup": (0.1, 0.3),
    "catchup": (0.1, 0.3),
    "snapshot": (0.05, 0.2),
    "projector": (0.05, 0.2),
    "beside": (0.02, 0.1),
    "command": (0.1, 0.4),
}
"""First word of a point -> how likely it does something in the long form, by how often it is come by."""
LEFT_OVER = dict.fromkeys(PLACES, 0.5) | {"command": 0.8}
"""The most that a point is given where chance left it out. A round has three commands only, repeated where they fail."""
ROUNDS, RECORDS, ROUND_S = 3, 300, 90.0
"""After so many records or seconds, or when its campaign is over, a round of the long form is broken enough."""
WAVES = 6
"""Campaigns that the last round may take, in which what chance left out has to happen: a start of work, for one, is come by only
where a brain died with an attempt open."""


def arm(house: House, role: str, rules: Mapping[str, str], seed: int = 0) -> None:
    """What the next processes of this role are armed with."""
    orders(house.home, role).write_text(";".join([f"seed={seed}", *(f"{name}={rule}" for name, rule in rules.items())]))


def start_anew(house: House) -> None:
    """Kill all roles, so that they start with what they are armed with."""
    before = {role: house.restarts(role) for role in PLACES}
    for role in PLACES:
        if house.pid(role) is not None:
            house.kill(role)
    house.until(lambda: all(house.restarts(role) > before[role] for role in PLACES), "all roles are started again", 60)


def fired(house: House) -> set[str]:
    """The points that did something so far."""
    return {line["point"] for line in failpoints.fired(house.home)}


def tell(house: House) -> None:
    """What fired when, for whoever looks at a run's output."""
    lines = failpoints.fired(house.home)
    for line in lines:
        print(f"{line['at'] - lines[0]['at']:6.1f} s  {line['process']:9}  {line['action']:5}  {line['point']} #{line['arrival']}")


@pytest.fixture(scope="module")
def impatient() -> Iterator[None]:
    """A supervisor that starts again at once, however often: here dying is the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "BACKOFF_S", (0.1, 0.1))
        yield


@pytest.fixture(scope="module")
def house(impatient: None) -> Iterator[House]:
    with open_house("points", breakable, claim_lease_s=12, call_timeout_s=4) as opened:
        yield opened


def test_every_point_has_a_process_that_is_killed_there() -> None:
    named = Counter(name for points in PLACES.values() for name in points)
    assert named + Counter(ELSEWHERE.keys()) == Counter(POINTS.keys())
    for name, file in ELSEWHERE.items():
        text = (Path(__file__).parents[1] / file).read_text()
        assert f'"{name}"' in text, f"{file} does not name {name}"
        assert "failpoints.fired(" in text, f"{file} does not look at what fired"


def _dies_of(house: House, command: Callable[[], object]) -> None:
    """Give a command to the command service, which dies of it; whoever gave it gets its answer all the same."""
    house.until(lambda: answers(house.home), "the command service answers", 60)
    before = house.restarts("command")
    command()
    house.until(lambda: house.restarts("command") > before, "the command service died of a command", 30)


@pytest.mark.timeout(800)
def test_a_kill_at_every_point_loses_no_task_and_repeats_no_effect(house: House) -> None:
    made = house.enrol("act", 3, approve_above=1.0, failures_allowed=50)
    house.start(house.brief("Made", 4), made)
    house.until(lambda: house.resting(made), "cards wait for the gate to be killed over", 90)
    fresh = house.enrol("new", 4, failures_allowed=50)
    names, marks, lives = [*made, *fresh], Watermarks(), -1
    for role, points in PLACES.items():
        arm(house, role, {name: f"kill#{arrival}" for name, arrival in points.items()})
    start_anew(house)
    _dies_of(house, lambda: house.start(house.brief("Failpoints", 3), fresh))

    def all_fired() -> bool:
        """An approval for each life of the gate: claimed all at once, effects would be lost all at once."""
        nonlocal lives
        marks.look(house)
        if house.restarts("gate") > lives and (cards := house.cards(made)):
            lives = house.restarts("gate")
            house.decide(cards[0])
        house.approve_all(fresh)
        return fired(house) >= EVERY - PLACES["command"].keys()

    house.until(all_fired, "every point has fired", 420)
    _dies_of(house, lambda: house.done("agent", "pause", "act0"))
    _dies_of(house, lambda: house.done("agent", "resume", "act0"))
    tell(house)
    house.until_completed(names, 120)
    assert fired(house) == EVERY
    assert {line["action"] for line in failpoints.fired(house.home)} == {"kill"}
    assert len(house.records("CampaignStarted", names)) == len(names)
    assert len(house.records("AgentStatusSet", names)) == 2
    all_hold(house, names)


# --- the long form ------------------------------------------------------------------------------------------------------


def rules_of(dice: random.Random, points: Sequence[str]) -> dict[str, str]:
    """For each point one thing that may happen there, with a chance that fits how often it is come by."""
    rules = {}
    for name in points:
        action = dice.choice(("kill", "kill", "error", "error", f"delay({dice.uniform(0.05, 0.5):.2f})"))
        chance = dice.uniform(*_chances(name))
        rules[name] = f"{action}:{chance:.3f}"
    return rules


def _chances(name: str) -> tuple[float, float]:
    return CHANCES[name.partition(".")[0]]


def _insist(house: House, *words: object) -> None:
    """Give a command until it is taken: a service that is made to fail says so, and repeating it is harmless."""
    for _ in range(30):
        if house.run(*(str(word) for word in words)).code == 0:
            return
    raise AssertionError(f"thirty times refused: {words}")


@pytest.mark.chaos
@pytest.mark.timeout(3000)
def test_whatever_happens_at_any_point_the_invariants_hold_after_every_round(house: House) -> None:
    seed = int(os.environ.get("CHIMERA_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"CHIMERA_CHAOS_SEED={seed}")
    dice, everyone, earlier = random.Random(seed), list[str](), len(failpoints.fired(house.home))

    def missing() -> set[str]:
        return EVERY - {line["point"] for line in failpoints.fired(house.home)[earlier:]}

    for n in range(ROUNDS):
        rules = {role: rules_of(dice, list(points)) for role, points in PLACES.items()}
        everyone += _round(house, n, rules, seed + n)
        all_hold(house, everyone)
    if left := missing():  # what chance left out is made to happen
        rules = {
            role: {name: f"error:{min(LEFT_OVER[role], 8 * _chances(name)[1]):.2f}" for name in points if name in left}
            for role, points in PLACES.items()
        }
        rules["gate"].setdefault("executor.called", "kill:0.3")  # look-ups are made of lost claims,
        rules["brain"].setdefault("swarm.folded", "kill:0.02")  # and starts of work of what a dead brain left open
        everyone += _round(house, ROUNDS, rules, seed + ROUNDS, missing)
        all_hold(house, everyone)
    tell(house)
    assert missing() == set(), "these points never fired: the run proves nothing about them"


def _round(
    house: House, n: int, rules: Mapping[str, Mapping[str, str]], seed: int, missing: Callable[[], set[str]] | None = None
) -> list[str]:
    """A campaign while the roles are armed, then without: it has to complete. The names of its agents.

    Armed until enough is broken; with `missing`, until nothing is missing, and with other agents where these are through before.
    """
    names, marks = list[str](), Watermarks()
    waves = [house.enrol(f"chaos{n}x{wave}-", 4, failures_allowed=50) for wave in range(1 if missing is None else WAVES)]

    def begin() -> None:
        fresh, brief = waves.pop(), house.brief(f"Chaos {n}.{len(waves)}", 4)
        _insist(house, "campaign", "start", "-f", brief, "--agents", ",".join(fresh), "--as", "dora")
        names.extend(fresh)

    for role, own in rules.items():
        print(f"round {n}: {role}: {'; '.join(f'{name}={rule}' for name, rule in own.items())}")
        arm(house, role, own, seed)
    start_anew(house)
    begin()
    goal, end = len(house.seen) + RECORDS, time.monotonic() + ROUND_S * (1 if missing is None else 4)

    def broken_enough() -> bool:
        marks.look(house)
        house.approve_all(names)
        rows = house.campaigns(names)
        over = len(rows) == len(names) and all(row.status == "completed" for row in rows)
        if missing is None:
            return over or len(house.seen) > goal or time.monotonic() > end
        if over and waves and missing():  # what is come by in few campaigns needs more of them
            begin()
        return not missing() or time.monotonic() > end

    house.until(broken_enough, "the round is broken enough", 5 * ROUND_S)
    for verb in ("pause", "resume"):
        _insist(house, "agent", verb, names[0])
    for role in PLACES:
        orders(house.home, role).unlink()
    start_anew(house)
    house.until_completed(names, 300)
    return names
