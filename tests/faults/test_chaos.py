"""The long form: whatever runs is killed again and again, at random moments, during a campaign of some two hundred tasks.

The seed is printed and can be given (CHIMERA_CHAOS_SEED): it fixes who dies and when by the log's length, not by the clock.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.e2e.house import House
from tests.faults.oracle import every_effect_happened_once, no_task_is_lost

VICTIMS = ("command", "brain", "gate", "projector", "x", "writer", "feeds", "kafka")
KILLS = 14


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_a_long_campaign_survives_the_death_of_everything_again_and_again(house: House) -> None:
    seed = int(os.environ.get("CHIMERA_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"CHIMERA_CHAOS_SEED={seed}")
    dice = random.Random(seed)
    names = house.enrol("cha", 6)
    house.start(house.brief("Chaos", 16), names)
    died: dict[str, int] = {}
    for n in range(KILLS):
        victim = VICTIMS[n % len(VICTIMS)]
        goal = len(house.seen) + dice.randrange(5, 60)

        def over() -> bool:
            house.approve_all(names)
            return all(row.status == "completed" for row in house.campaigns(names))

        house.until(lambda goal=goal: over() or len(house.seen) >= goal, "the log goes on", 240)
        if over():
            break
        before = house.restarts(victim)
        house.kill(victim)
        died[victim] = died.get(victim, 0) + 1
        house.until(lambda victim=victim, before=before: house.restarts(victim) > before, f"{victim} is started again", 90)
    assert len(died) >= 5, f"the campaign was over too soon: only {died} died"
    house.until_completed(names, 600)
    assert sum(len(row.tasks) for row in house.campaigns(names)) >= 200
    no_task_is_lost(house, names)
    every_effect_happened_once(house, names)
    house.equals_refold()
