"""Lag, health and the page of figures: slow is not ill, standing still is, and every figure has a name that stays."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from chimera.errors import ChimeraError
from chimera.events.records import PolicyInline
from chimera.events.state import Agent, Campaign, Effect, Policy, Ref, Task
from chimera.observe.health import DARK_S, ENDS_UNKNOWN_S, SILENT_S, STALLED_S, unwell
from chimera.observe.lag import SAMPLES, Lag
from chimera.observe.look import COUNTED, Look, count_agents
from chimera.observe.watch import Watch


def test_a_reader_at_the_end_is_no_second_behind() -> None:
    lag = Lag()
    lag.saw({0: 5}, {0: 5}, 10.0)
    assert (lag.records(), lag.seconds(99.0)) == ({0: 0}, {0: 0.0})


def test_seconds_count_from_when_the_oldest_unread_record_was_first_seen() -> None:
    lag = Lag()
    lag.saw({0: 0}, {0: 3}, 10.0)
    lag.saw({0: 0}, {0: 9}, 14.0)
    assert (lag.records()[0], lag.seconds(20.0)[0]) == (9, 10.0)
    lag.saw({0: 3}, {0: 9}, 20.0)
    assert (lag.records()[0], lag.seconds(20.0)[0]) == (6, 6.0)
    lag.saw({0: 9}, {0: 9}, 21.0)
    assert lag.seconds(30.0)[0] == 0.0


def test_a_slow_reader_is_behind_but_not_stalled_and_a_standing_one_is() -> None:
    lag = Lag()
    for second in range(100):
        lag.saw({0: second, 1: 4}, {0: 1000, 1: 10}, float(second))
    assert lag.seconds(100.0)[0] > STALLED_S
    assert set(lag.stalled(100.0, STALLED_S)) == {1}


def test_a_partition_that_is_read_no_more_is_forgotten() -> None:
    lag = Lag()
    lag.saw({0: 0, 1: 0}, {0: 5, 1: 5}, 0.0)
    lag.saw({1: 0}, {0: 5, 1: 5}, 1.0)
    assert lag.records() == {1: 5}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=50))
def test_lag_is_never_negative_and_seconds_are_zero_exactly_when_all_is_read(steps: list[tuple[int, int]]) -> None:
    lag, position, end = Lag(), 0, 0
    for now, (written, read) in enumerate(steps):
        end += written
        position = min(end, position + read)
        lag.saw({0: position}, {0: end}, float(now))
        assert lag.records()[0] == end - position
        assert (lag.seconds(float(now) + 1.0)[0] == 0.0) == (position == end)


def test_a_log_that_grows_for_days_past_a_dead_reader_takes_bounded_memory() -> None:
    lag = Lag()
    for second in range(3 * SAMPLES):
        lag.saw({0: 0}, {0: second}, float(second))
    assert lag.records()[0] == 3 * SAMPLES - 1
    assert len(lag._of[0].seen) <= SAMPLES
    assert lag.seconds(float(3 * SAMPLES))[0] == 3 * SAMPLES - 1


WELL = {"told_at": 100.0, "ends_at": 100.0, "lit_at": 100.0}


def test_a_process_that_tells_and_moves_is_well() -> None:
    assert unwell(Look(), Lag(), 101.0, **WELL) == []


def test_each_way_of_not_getting_on_is_a_reason_of_its_own() -> None:
    assert "loop is stuck" in unwell(Look(), Lag(), 100 + SILENT_S + 1, **{**WELL, "ends_at": 110.0})[0]
    assert "where the log ends" in unwell(Look(), Lag(), 200.0, **{**WELL, "told_at": 200.0})[0]
    assert "not served" in unwell(Look(dark=frozenset({3})), Lag(), 101.0 + DARK_S, told_at=161.0, ends_at=161.0, lit_at=100.0)[0]
    assert unwell(Look(troubles=("the producer is dead",)), Lag(), 101.0, **WELL) == ["the producer is dead"]
    lag = Lag()
    lag.saw({7: 3}, {7: 9}, 0.0)
    assert "partition 7 stands at 3" in unwell(Look(), lag, 101.0, **WELL)[0]
    lag.saw(dict.fromkeys(range(24), 3), dict.fromkeys(range(24), 9), 0.0)
    (said,) = unwell(Look(), lag, 101.0, **WELL)
    assert "partition 0 stands at 3" in said
    assert "23 more" in said, "an outage that stops everything is one thing to say"


def test_a_process_that_starts_has_a_minute_to_say_its_first_word() -> None:
    assert unwell(None, Lag(), 101.0, **WELL) == []
    assert "told nothing" in unwell(None, Lag(), 101.0 + DARK_S, **WELL)[0]


def agent(**changes: object) -> Agent:
    made = Agent("agent/1", "acme", "ava")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def task(ordinal: int, status: str) -> Task:
    from decimal import Decimal

    effect = Effect("h", "publish", "keyed", "x", "a", None, "t", 0, "owner", (), Decimal(0), None, 0, Ref(0, 0), status=status)
    return Task(ordinal, "post", (), (), Decimal(0), 0, False, Ref(0, 0), status="produced", effect=effect)


def test_the_figures_of_a_fleet_are_counted_by_what_an_operator_asks() -> None:
    campaign = Campaign(1, "c", "ann", 1, Ref(0, 0))
    statuses = ("people", "approved", "claimed", "submitted", "unknown", "proposed")
    campaign.tasks = {n: task(n, status) for n, status in enumerate(statuses)}
    fleet = [
        agent(campaigns={1: campaign}, policy=Policy(1, "d", "ann", PolicyInline(), Ref(0, 0))),
        agent(quarantine=Ref(0, 1)),
        agent(status="paused"),
    ]
    counts = count_agents(fleet)
    assert set(counts) == set(COUNTED)
    assert counts == {
        "agents": 3,
        "agents_held": 2,
        "quarantined": 1,
        "open_tasks": 6,
        "cards": 1,
        "approved": 1,
        "claims_open": 2,
        "unknown_effects": 1,
    }


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def no_kafka() -> Mapping[int, int]:
    raise ChimeraError("no broker here")


def test_a_process_shows_its_figures_and_its_health_at_an_address_of_its_own(tmp_path: Path) -> None:
    watch = Watch("brain", tmp_path, no_kafka)
    watch.start()
    try:
        assert watch.url.startswith("http://127.0.0.1:")
        look = Look(
            positions={0: 7},
            rulings={("rejected", "stale", "JudgeVerdict"): 2},
            jobs={"judge": 3},
            counts=count_agents([]),
            checkpoint_age_s=4.5,
            snapshot_age_s=6.5,
            snapshot_behind=12,
            written=9,
        )
        watch.metrics.called("x", "createPosts", "ok", 0.02)
        watch.metrics.appended(0.003)
        watch.write_status(watch.tell(look))
        code, page = get(f"{watch.url}/metrics")
        assert code == 200
        for line in (
            'chimera_rulings_total{outcome="rejected",reason="stale",role="brain",type="JudgeVerdict"} 2.0',
            'chimera_jobs_in_flight{job="judge",role="brain"} 3.0',
            'chimera_lag_records{partition="0",role="brain"} 0.0',
            'chimera_call_seconds_count{profile="x",result="ok",role="brain",tool="createPosts"} 1.0',
            'chimera_append_seconds_count{role="brain"} 1.0',
            'chimera_checkpoint_age_seconds{role="brain"} 4.5',
            'chimera_snapshot_age_seconds{role="brain"} 6.5',
            'chimera_snapshot_behind_records{role="brain"} 12.0',
            'chimera_unknown_effects{role="brain"} 0.0',
            'chimera_healthy{role="brain"} 1.0',
        ):
            assert line in page
        assert json.loads(get(f"{watch.url}/health")[1]) | {"pid": 0} == {"role": "brain", "pid": 0, "healthy": True, "reasons": []}
        watch.tell(Look(troubles=("the producer is dead",)))
        code, page = get(f"{watch.url}/health")
        assert (code, json.loads(page)["reasons"]) == (503, ["the producer is dead"])
        assert get(f"{watch.url}/elsewhere")[0] == 404
        status = json.loads(watch.status_file.read_text())
        assert (status["role_set"], status["http"], status["unwell"]) == ("brain", watch.url, [])
    finally:
        watch.close()
    assert not watch.status_file.exists()


def test_a_broker_that_does_not_answer_is_told_by_health_and_ends_nothing(tmp_path: Path) -> None:
    watch = Watch("brain", tmp_path, no_kafka)
    watch.tell(Look())
    watch._ends_at -= ENDS_UNKNOWN_S + 1
    assert "Kafka has not told" in watch.health()[0]
