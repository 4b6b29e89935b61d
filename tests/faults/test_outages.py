"""Kafka or Postgres away, half open or slow: what still works meanwhile, what the doctor says, and that nobody has to lend a hand.

Each of the two servers is behind a proxy (`tests.faults.proxy`); the tests' own eyes go around it. Short in CI, ten minutes by
`make chaos`. Each outage proves that it bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest

from chimera.observe.findings import COMMAND, ROLES
from tests.e2e.house import House, accounts, open_house
from tests.faults.oracle import every_effect_happened_once, no_task_is_lost
from tests.faults.proxy import CLEAR, GONE, SILENT, Proxy, Weather
from tests.faults.servers import Outside, servers_behind_proxies

FOLLOWERS = (*ROLES, COMMAND)
"""Roles that follow the log, and say so where it is silent."""
SHORT_S, LONG_S = 20.0, 600.0
GROWTH_MB = 80.0
"""What a process may take more after an outage than before it: a queue without a bound would take more in ten minutes."""

OUTAGES = [
    pytest.param("gone", GONE, SHORT_S, marks=pytest.mark.timeout(300)),
    pytest.param("half open", SILENT, SHORT_S, marks=(pytest.mark.timeout(300), pytest.mark.chaos)),
    pytest.param("gone for long", GONE, LONG_S, marks=(pytest.mark.timeout(1200), pytest.mark.chaos)),
    pytest.param("half open for long", SILENT, LONG_S, marks=(pytest.mark.timeout(1200), pytest.mark.chaos)),
]


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    with servers_behind_proxies() as found:
        yield found


@pytest.fixture(scope="module")
def stack(outside: Outside) -> Iterator[House]:
    with open_house("outages", servers=outside.through, eyes=outside.direct) as house:
        yield house


@pytest.fixture
def far(stack: House, outside: Outside) -> Iterator[House]:
    """The stack with a clear way to its servers, and clear again for the next test whatever this one did."""
    yield stack
    outside.kafka.set(CLEAR)
    outside.postgres.set(CLEAR)


def at_work(house: House, prefix: str) -> list[str]:
    """A campaign that is under way."""
    names = house.enrol(prefix.replace(" ", ""), 3)
    house.start(house.brief(prefix, 4), names)
    house.until(lambda: len(house.records("ArtifactProduced", names)) >= 3, "work goes on", 60)
    return names


def problems(house: House) -> list[str]:
    """What the doctor finds wrong; every word of it comes with a way out."""
    found = [finding for finding in house.diagnosis()["findings"] if finding["level"] == "problem"]
    assert all(finding["todo"] and finding["where"] for finding in found)
    return [finding["what"] for finding in found]


def memory(house: House) -> dict[int, float]:
    """Process id -> MB, of those that serve."""
    return {status["pid"]: status["rss_mb"] for role in FOLLOWERS for status in house.serving(role)}


def lasts(house: House, until: float) -> None:
    """Look on until a monotonic time has come."""
    house.until(lambda: time.monotonic() >= until, "the outage is over", until - time.monotonic() + 30)


def recovers_by_itself(house: House, proxy: Proxy, names: Sequence[str], before: dict[int, float]) -> None:
    """The weather clears, and everything that was there before gets on, loses nothing and repeats nothing."""
    proxy.set(CLEAR)
    house.until_well(90)
    now = memory(house)
    assert now.keys() == before.keys(), "a process ended that an outage should not end"
    assert all(now[pid] - before[pid] < GROWTH_MB for pid in now), (before, now)
    house.until_completed(names, 150)
    no_task_is_lost(house, names)
    every_effect_happened_once(house, names)
    house.equals_refold()
    for role in ("brain", "gate"):  # what they cannot append for good they say
        said = (house.home / "logs" / f"{role}.log").read_text()
        assert "could not be appended" not in said, f"records of {role}'s calls are lost"


@pytest.mark.parametrize(("name", "weather", "seconds"), OUTAGES)
def test_without_postgres_work_pauses_and_switches_go_on_and_the_read_models_catch_up(
    far: House, outside: Outside, name: str, weather: Weather, seconds: float
) -> None:
    names = at_work(far, f"pg {name}")
    before, at, carried = memory(far), len(far.seen), outside.postgres.carried
    began = time.monotonic()
    outside.postgres.set(weather)
    far.until(lambda: any("PostgreSQL does not answer" in what for what in problems(far)), "the doctor says so", 30)

    far.done("agent", "pause", names[0], "--reason", "while the database is away")
    far.until(lambda: far.agent(names[0]).held, "the pause is seen", 60)
    far.done("switch", "close", f"account:x/{names[1]}_x", "--reason", "the same")
    far.done("agent", "resume", names[0])
    far.done("switch", "open", f"account:x/{names[1]}_x", "--reason", "seen enough")
    far.approve_all(names)
    far.until(
        lambda: [s for s in far.seen[at:] if s.record.type == "EffectEnded" and s.ruling.outcome == "applied"], "posts leave", 90
    )
    lasts(far, began + seconds)
    assert outside.postgres.carried - carried < 64 * 1024, "the database was not away"
    recovers_by_itself(far, outside.postgres, names, before)


@pytest.mark.parametrize(("name", "weather", "seconds"), OUTAGES)
def test_without_kafka_nothing_moves_everything_says_so_and_the_rest_is_done_afterwards(
    far: House, outside: Outside, name: str, weather: Weather, seconds: float
) -> None:
    names = at_work(far, f"kafka {name}")
    before = memory(far)
    began = time.monotonic()
    outside.kafka.set(weather)
    far.until(lambda: any(what.startswith("Kafka at ") for what in problems(far)), "the doctor says so", 30)

    posts = far.posts(accounts(names))  # the doctor was patient for longer than a look at the switches is fresh
    paused = far.run("agent", "pause", names[0], "--reason", "nobody can hear it")
    assert paused.code == 1
    assert "chimera.log" in paused.out, "a command that cannot count says what it could not reach"
    silent = {f"{role} does not get on: Kafka has not told" for role in FOLLOWERS}
    far.until(lambda: all(any(what.startswith(s) for what in problems(far)) for s in silent), "every process says so", 60)
    lasts(far, began + seconds)
    assert far.posts(accounts(names)) == posts, "nobody posts who cannot see the switches"
    outside.kafka.set(CLEAR)
    far.until_well(90)
    far.done("agent", "resume", names[0])  # the pause may have been appended after all
    recovers_by_itself(far, outside.kafka, names, before)


@pytest.mark.timeout(300)
def test_with_servers_two_hundred_milliseconds_away_everything_is_done_only_later(far: House, outside: Outside) -> None:
    slow = Weather(delay_s=0.1)
    outside.kafka.set(slow)
    outside.postgres.set(slow)
    names = at_work(far, "slow")
    far.until_completed(names, 200)
    far.until_projected(60)
    far.until(lambda: not problems(far), "nothing is wrong with being slow", 60)
    no_task_is_lost(far, names)
    every_effect_happened_once(far, names)
    far.equals_refold()


@pytest.mark.timeout(300)
def test_connections_that_are_reset_again_and_again_cost_nothing_but_time(far: House, outside: Outside) -> None:
    names = at_work(far, "reset")
    before, turned_away = memory(far), outside.kafka.turned_away
    for _ in range(5):
        at = len(far.seen)
        outside.kafka.reset()
        outside.postgres.reset()

        def goes_on(at: int = at) -> bool:
            far.approve_all(names)
            return len(far.seen) > at + 3 or all(row.status == "completed" for row in far.campaigns(names))

        far.until(goes_on, "the log goes on", 60)
    assert outside.kafka.turned_away > turned_away, "nothing was reset"
    recovers_by_itself(far, outside.kafka, names, before)
