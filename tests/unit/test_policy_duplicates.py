"""Two hundred agents on one brief: what one judging process knows of the tenant's accounts, and what it stops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chimera.events.fold import fold
from chimera.events.hashes import distance, simhash, text_hash
from chimera.policy.boardkit import Soul, load_text, parse_soul
from chimera.policy.brief import load_brief
from chimera.policy.checks.said import claim
from chimera.processors import elsewhere
from chimera.processors.elsewhere import Elsewhere
from tests.histories import agent_with_policy
from tests.swarmhouse import SwarmHouse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOULS = sorted((EXAMPLES / "souls").glob("*.md"))
SOUL: Soul = parse_soul(load_text(SOULS[0]))
TEXT = "Kitchen note: The foot ferry to Gull Point sails until eleven from this Friday, two hours later than in summer."


def fleet_of(count: int, **policy: object) -> SwarmHouse:
    """So many agents with the example's personas and its brief, one post each, until nobody owes anything."""
    changes = "".join(f"{name}: {value}\n" for name, value in {"failures_allowed": 2, **policy}.items())
    rules = load_text(EXAMPLES / "AGENTS.md").replace("failures_allowed: 4\n", changes)
    brief = load_brief(EXAMPLES / "briefs/autumn.yaml")
    house = SwarmHouse(EXAMPLES, rules)
    for n in range(count):
        house.enrol(
            f"agent/{n}", load_text(SOULS[n % len(SOULS)]), brief.model_copy(update={"formats": brief.formats[:1]}), f"a{n}"
        )
    asyncio.run(house.run())
    return house


def duplicates(house: SwarmHouse) -> int:
    """Standing texts whose claim another account's standing text made before, or nearly."""
    told: list[tuple[str, int]] = []
    found = 0
    for key, effect in house.standing():
        soul = parse_soul(load_text(SOULS[int(key.removeprefix("agent/")) % len(SOULS)]))
        said = claim(house.text_of(effect), soul)
        own = (text_hash(said), simhash(said))
        found += any(own[0] == h or distance(own[1], bits) <= 6 for h, bits in told)
        told.append(own)
    return found


def test_of_two_hundred_agents_on_one_brief_no_two_say_the_same() -> None:
    free, held = fleet_of(200, distinct_across_tenant="false"), fleet_of(200)
    before, after = duplicates(free), duplicates(held)
    print(f"duplicates of 200 agents: {before} without the rule, {after} with it: {1 - after / before:.0%} caught")
    assert before > 150
    assert after == 0
    assert len(held.standing()) > 2 * len({claim(free.text_of(e), SOUL) for _, e in free.standing()}), "they spread over the facts"


def test_a_small_fleet_says_all_it_wants_and_nothing_twice() -> None:
    house = fleet_of(6, failures_allowed=4)
    assert len(house.standing()) == 6
    assert duplicates(house) == 0


def test_what_another_account_says_is_found_whatever_stands_around_it_and_ones_own_is_not() -> None:
    known = Elsewhere()
    known.enter("acme", "agent/a", TEXT, SOUL)
    again = TEXT.replace("Kitchen note: ", "") + " #InSeason"
    assert known.like("acme", "agent/b", again, SOUL)
    assert known.like("acme", "agent/a", again, SOUL) == []
    assert known.like("other", "agent/b", again, SOUL) == []


def test_what_is_not_said_after_all_may_be_said_by_others() -> None:
    known = Elsewhere()
    known.enter("acme", "agent/a", TEXT, SOUL)
    known.leave("acme", "agent/b", TEXT, SOUL)
    assert known.like("acme", "agent/b", TEXT, SOUL), "only who says it may take it back"
    known.leave("acme", "agent/a", TEXT, SOUL)
    assert known.like("acme", "agent/b", TEXT, SOUL) == []


def test_a_process_that_starts_anew_knows_what_was_published() -> None:
    log, agent = agent_with_policy(), None
    for r in log.records:
        agent, _ = fold(log.law, agent, r)
    assert agent is not None
    agent.fingerprints["x/@ava"] = [(text_hash(TEXT), simhash(TEXT), 1, 1)]
    known = Elsewhere()
    known.saw(agent)
    assert known.like(agent.tenant, "agent/b", TEXT, SOUL)


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "REMEMBERED", 10)
    known = Elsewhere()
    for n in range(50):
        known.enter("acme", "agent/a", f"entirely different words number {n} about thing {n * n} and {n * 7}", SOUL)
    tenant = known._tenants["acme"]
    assert len(tenant.owners) == 10
    assert sum(len(members) for members in tenant._by_band.values()) == 80
