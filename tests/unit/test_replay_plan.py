"""What a plan says, and what it refuses: on facts, without servers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chimera.replay.plan import Facts, Refused, check, make_plan, matching, moment, plan_from, shares

FACTS = Facts(
    cluster="here",
    begins={"log": {0: 0, 1: 0}},
    ends={"log": {0: 30_000, 1: 10_000}},
    live={"log": {0: 20_000, 1: 0}},
    live_bytes=60_000_000,
    free_bytes=10**9,
)
AGENTS = [("agent/1", "ava", "acme"), ("agent/2", "ben", "acme"), ("agent/3", "cy", "other")]


def test_a_plan_counts_records_from_zero_and_estimates_by_what_is_live() -> None:
    plan = make_plan(FACTS, ["tasks"])
    assert (plan.records, plan.bytes) == (40_000, 120_000_000)
    assert make_plan(FACTS._replace(measured=20_000.0), ()).seconds == 2.0


def test_a_plan_reads_back_as_it_was_kept() -> None:
    plan = make_plan(FACTS, ["tasks", "effects"])
    assert plan_from(plan.as_json()) == plan


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (FACTS._replace(cluster="elsewhere"), "made against Kafka cluster here, this is elsewhere: set CHIMERA_KAFKA"),
        (
            FACTS._replace(ends={"log": {0: 29_999, 1: 10_000}}),
            r"offset out of range: .* log\[0\] up to 30000, but the log ends at 29999",
        ),
        (FACTS._replace(begins={"log": {0: 0, 1: 5}}), r"log\[1\] begins at offset 5: .* Restore"),
        (FACTS._replace(free_bytes=149_000_000), "low disk: .* drop older builds"),
    ],
    ids=["another cluster", "offset out of range", "a cut log", "low disk"],
)
def test_a_plan_that_things_have_left_behind_is_refused_with_what_to_do(now: Facts, said: str) -> None:
    plan = make_plan(FACTS, ())
    check(plan, FACTS)
    with pytest.raises(Refused, match=said):
        check(plan, now)


def test_free_space_that_cannot_be_known_refuses_nothing() -> None:
    check(make_plan(FACTS, ()), FACTS._replace(free_bytes=None))


@pytest.mark.parametrize(
    ("agent", "tenant", "names"),
    [("ava", None, ["ava"]), ("agent/2", None, ["ben"]), (None, "acme", ["ava", "ben"]), ("cy", "other", ["cy"])],
)
def test_a_selector_means_agents_by_name_key_or_tenant(agent: str | None, tenant: str | None, names: list[str]) -> None:
    assert [name for _, name, _ in matching(AGENTS, agent, tenant)] == names


@pytest.mark.parametrize(("agent", "tenant"), [("eva", None), (None, "acne"), ("ava", "other")])
def test_a_selector_that_matches_nothing_is_refused_and_says_what_there_is(agent: str | None, tenant: str | None) -> None:
    with pytest.raises(Refused, match=r"matches nothing; there are (ava, ben, cy|acme, other)"):
        matching(AGENTS, agent, tenant)


def test_a_time_without_a_zone_is_refused_and_one_with_a_zone_is_meant_exactly() -> None:
    with pytest.raises(Refused, match=r"says no time zone.*2026-11-22T14:00Z for UTC"):
        moment("2026-11-22T14:00")
    with pytest.raises(Refused, match="is no time"):
        moment("yesterday")
    assert moment("2026-11-22T14:00+01:00").isoformat() == "2026-11-22T13:00:00+00:00"


def test_partitions_are_dealt_evenly_and_those_that_are_done_are_not_dealt_again() -> None:
    ends = {0: 100, 1: 60, 2: 50, 3: 10}
    assert shares(ends, {}, 2) == [[0, 3], [1, 2]]
    assert shares(ends, {0: 100, 1: 60, 2: 50}, 2) == [[3]]
    assert shares(ends, ends, 2) == []


def test_whatever_replays_has_no_tool_within_reach() -> None:
    rooms = (
        "chimera.cli.replay_builds, chimera.replay.__main__, chimera.replay.builds_load, chimera.replay.repair, chimera.replay.swap"
    )
    code = f"import {rooms}, sys; print([m for m in sys.modules if m.split('.')[0] == 'mcp' or m.startswith('chimera.mcp')])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"
