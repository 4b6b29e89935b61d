"""The long form: whatever runs is killed again and again, in turn and at random, during a campaign of some two hundred tasks.

The seed is printed and can be given (CHIMERA_CHAOS_SEED): it fixes who dies and when by the log's length, not by the clock.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from chimera.mcp.profiles import PROFILES_DIR
from tests.e2e.house import House, accounts, open_house
from tests.faults.oracle import every_effect_happened_once, no_effect_happened_twice, no_task_is_lost

VICTIMS = ("command", "brain", "gate", "projector", "brain-2", "postgres", "kafka", "x", "writer", "feeds")


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


def kill_all_in_turn(house: House, brief: Path, names: Sequence[str], dice: random.Random) -> None:
    """Let the campaign come to one agent after the other, and kill somebody in the middle of the work of each.

    In turn first, and then as the dice say. Nobody waits for a wave to end, and the next one comes while who died is still away.
    """
    order = [*VICTIMS, *(dice.choice(VICTIMS) for _ in range(len(names) - len(VICTIMS)))]
    died: tuple[str, int] | None = None
    for name, victim in zip(names, order, strict=True):
        goal = len(house.seen) + dice.randrange(10, 55)

        def started(name: str = name) -> bool:
            """Given again where it was cut short: a second one is harmless."""
            return house.run("campaign", "start", "-f", brief, "--agents", name, "--as", "dora").code == 0

        def under_way(name: str = name, goal: int = goal) -> bool:
            house.approve_all(names)
            return len(house.seen) >= goal or any(row.status == "completed" for row in house.campaigns([name]))

        house.until(started, f"the campaign reaches {name}", 180)
        if died is not None:
            house.until_again(*died)
        house.until(under_way, f"{name} works", 120)
        died = (victim, house.restarts(victim))
        house.kill(victim)
    assert died is not None
    house.until_again(*died)


def _is_taken(house: House, words: list[str]) -> bool:
    return house.run(*words).code == 0


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_long_campaign_survives_the_death_of_everything_again_and_again(two_brains: House, dice: random.Random) -> None:
    house = two_brains
    names = house.enrol("cha", 20)
    kill_all_in_turn(house, house.brief("Chaos", 4), names, dice)
    house.until_completed(names, 900)
    assert sum(len(row.tasks) for row in house.campaigns(names)) >= 200
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
    names = house.enrol("onc", 12)
    for kind in ("hang_after_write", "die_after_write", "die", "hang"):
        house.ask_fault(kind)
    kill_all_in_turn(house, house.brief("Once", 4), names, dice)

    def rests() -> bool:
        """Whatever is not over waits for a person to say how it ended."""
        house.approve_all(names)
        tasks = [t for agent in house.agents(names) for c in agent.campaigns.values() for t in c.tasks.values()]
        return all(t.effect and t.effect.status == "unknown" for t in tasks)

    house.until(rests, "all that is left is unknown", 900)
    unknown = house.cards(names, ("unknown",))
    assert unknown, "every call's end is known: nothing was proved"
    no_effect_happened_twice(house, names)
    listed = house.done("review", "list", "--all")
    assert {card.effect.hash for card in unknown} <= {row["effect_hash"] for row in listed["cards"]}
    house.equals_refold()

    missing = set()
    for card in unknown:  # a person looks at the platform, and says what is there
        there = house.platform("SELECT 1 FROM keys WHERE key = ?", card.effect.hash)
        missing |= set() if there else {card.effect.hash}
        outcome = ["--outcome", "executed", "--platform-id", "1"] if there else ["--outcome", "not_executed"]
        words = ["review", "resolve", str(card.address), *outcome, "--proof", "looked at the account", "--as", "kim"]
        # "It did not happen" counts only once the claim's lease and grace are over: until then it may happen still.
        house.until(partial(_is_taken, house, words), "what the person found counts", 120)
    house.until_completed(names, 300)
    no_task_is_lost(house, names)
    every_effect_happened_once(house, names)
    calls = house.calls(accounts(names))
    assert {calls[key] for key in calls if key not in missing} == {1}, "a call was made twice, and nobody had said that it may be"
    house.equals_refold()
    house.until_well()
