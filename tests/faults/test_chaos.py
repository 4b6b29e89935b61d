"""The long form: whatever runs is killed again and again, in turn and at random, during a campaign of some two hundred tasks.

The seed is printed and can be given (CHIMERA_CHAOS_SEED): it fixes who dies and when by the log's length, not by the clock.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from chimera.mcp.profiles import PROFILES_DIR
from tests.e2e.house import House, accounts, open_house
from tests.faults.oracle import every_effect_happened_once, no_effect_happened_twice, no_task_is_lost

VICTIMS = ("command", "brain", "gate", "projector", "brain-2", "postgres", "kafka", "x", "writer", "feeds")
KILLS = 20
"""Everyone once in turn, then as the dice say."""


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("CHIMERA_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"CHIMERA_CHAOS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def two_brains() -> Iterator[House]:
    with open_house("chaos") as house:
        house.seat("brain", "brain-2")
        yield house


@pytest.fixture
def once_only(tmp_path: Path) -> Iterator[House]:
    """A house whose platform takes no idempotency keys and can tell nobody what it holds: who calls, calls once."""
    shutil.copytree(PROFILES_DIR, tmp_path / "profiles")
    profile = tmp_path / "profiles" / "x.yaml"
    keyed, once = "tool_class: {sandbox: keyed, live: reconcilable}", "tool_class: {sandbox: at_most_once, live: reconcilable}"
    assert keyed in profile.read_text()
    profile.write_text(profile.read_text().replace(keyed, once))
    with open_house("once", profiles=tmp_path / "profiles") as house:
        house.seat("brain", "brain-2")
        yield house


def kill_all_in_turn(house: House, names: Sequence[str], dice: random.Random, settled: Callable[[], bool]) -> Counter[str]:
    """Let everyone die, in turn first and then as the dice say, until the campaign has settled; who died how often."""
    died: Counter[str] = Counter()
    order = [*VICTIMS, *(dice.choice(VICTIMS) for _ in range(KILLS - len(VICTIMS)))]
    for victim in order:
        goal = len(house.seen) + dice.randrange(5, 60)

        def on(goal: int = goal) -> bool:
            house.approve_all(names)
            return settled() or len(house.seen) >= goal

        house.until(on, "the log goes on", 400)  # a platform that was away again and again is tried every 300 s at last
        if settled():
            break
        before = house.restarts(victim)
        house.until(lambda victim=victim: house.pid(victim), f"{victim} runs, to be killed", 90)
        house.kill(victim)
        died[victim] += 1
        house.until_again(victim, before)
    assert len(died) >= 7, f"the campaign was over too soon: only {died} died"
    assert {"brain", "brain-2", "gate", "projector", "command", "postgres", "kafka"} <= set(died)
    return died


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_long_campaign_survives_the_death_of_everything_again_and_again(two_brains: House, dice: random.Random) -> None:
    house = two_brains
    names = house.enrol("cha", 6)
    house.start(house.brief("Chaos", 16), names)
    died = kill_all_in_turn(house, names, dice, lambda: all(row.status == "completed" for row in house.campaigns(names)))
    house.until_completed(names, 900)
    assert sum(len(row.tasks) for row in house.campaigns(names)) >= 200, died
    no_task_is_lost(house, names)
    every_effect_happened_once(house, names)
    house.equals_refold()
    house.until_well()


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_where_the_platform_takes_no_keys_nothing_happens_twice_and_what_nobody_knows_waits_for_a_person(
    once_only: House, dice: random.Random
) -> None:
    house = once_only
    names = house.enrol("onc", 4, approve_above=1.0)
    house.start(house.brief("Once", 12), names)
    house.until(lambda: len(house.cards(names)) >= 8, "cards wait", 120)
    house.ask_fault("hang_after_write", 2)
    house.ask_fault("die_after_write", 1)
    house.ask_fault("die", 1)

    def rests() -> bool:
        tasks = [t for agent in house.agents(names) for c in agent.campaigns.values() for t in c.tasks.values()]
        return bool(house.records("EffectUnknown", names)) and all(t.effect and t.effect.status == "unknown" for t in tasks)

    died = kill_all_in_turn(house, names, dice, rests)

    def rests_at_last() -> bool:
        house.approve_all(names)
        return rests()

    house.until(rests_at_last, "all that is left is unknown", 900)
    unknown = house.cards(names, ("unknown",))
    assert unknown, f"{died} died and every call's end is known"
    no_effect_happened_twice(house, names)
    listed = house.done("review", "list", "--all")
    assert {card.effect.hash for card in unknown} <= {row["effect_hash"] for row in listed}
    house.equals_refold()

    missing = set()
    for card in unknown:  # a person looks at the platform, and says what is there
        there = house.platform("SELECT 1 FROM keys WHERE key = ?", card.effect.hash)
        missing |= set() if there else {card.effect.hash}
        outcome = ["--outcome", "executed", "--platform-id", "1"] if there else ["--outcome", "not_executed"]
        house.done("review", "resolve", str(card.address), *outcome, "--proof", "looked at the account", "--as", "kim")
    house.until_completed(names, 300)
    no_task_is_lost(house, names)
    every_effect_happened_once(house, names)
    calls = house.calls(accounts(names))
    assert {calls[key] for key in calls if key not in missing} == {1}, "a call was made twice, and nobody had said that it may be"
    house.equals_refold()
    house.until_well()
