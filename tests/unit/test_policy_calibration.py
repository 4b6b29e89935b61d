"""Calibration: monotone, mean-preserving, bounded, and humble where nobody has decided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.policy.boardkit import Rules
from chimera.policy.calibration import IDENTITY, Decided, brier, calibrate, fit, reliability

RAW = st.integers(0, 1000).map(lambda n: n / 1000)
DECISIONS = st.lists(st.builds(Decided, RAW, st.booleans()), min_size=1, max_size=200)


def table(decisions: list[Decided]) -> list[tuple[float, float]]:
    return list(fit(decisions, minimum=1))


@given(DECISIONS, RAW, RAW)
def test_a_higher_raw_confidence_never_counts_for_less(decisions: list[Decided], a: float, b: float) -> None:
    low, high = sorted((a, b))
    fitted = table(decisions)
    assert calibrate(low, fitted) <= calibrate(high, fitted) + 1e-12


@given(DECISIONS)
def test_the_mean_over_the_decisions_is_the_share_that_people_approved(decisions: list[Decided]) -> None:
    fitted = table(decisions)
    mean = sum(calibrate(d.raw, fitted) for d in decisions) / len(decisions)
    assert mean == pytest.approx(sum(d.approved for d in decisions) / len(decisions), abs=1e-9)


@given(DECISIONS, RAW)
def test_what_comes_out_is_a_share_and_a_table_that_a_policy_takes(decisions: list[Decided], raw: float) -> None:
    fitted = table(decisions)
    assert 0 <= calibrate(raw, fitted) <= 1
    Rules.model_validate({"boardkit": 1, "name": "t", "approvers": {"publish": ["kim"]}, "calibration": fitted})


@given(DECISIONS, RAW)
def test_below_what_anybody_decided_nothing_counts_for_more_than_it_says(decisions: list[Decided], raw: float) -> None:
    lowest = min(d.raw for d in decisions)
    if raw < lowest - 1e-3:
        assert calibrate(raw, table(decisions)) <= raw + 1e-9


@given(DECISIONS)
def test_no_monotone_step_fits_the_decisions_better_than_its_own_mean(decisions: list[Decided]) -> None:
    assert brier(decisions, table(decisions)) <= 0.25 + 1e-9


def test_too_few_decisions_fit_nothing() -> None:
    assert fit([Decided(0.9, False)] * 99) == IDENTITY
    assert fit([Decided(0.9, False)] * 100) != IDENTITY


def test_an_overconfident_judge_is_taken_at_what_people_made_of_it() -> None:
    said = [Decided(0.95, n % 2 == 0) for n in range(100)] + [Decided(0.80, n % 4 == 0) for n in range(100)]
    fitted = fit(said)
    assert calibrate(0.95, fitted) == pytest.approx(0.5)
    assert calibrate(0.80, fitted) == pytest.approx(0.25)
    assert calibrate(0.99, fitted) == pytest.approx(0.5), "nobody decided there, so no more is known"
    assert brier(said, fitted) < brier(said)


def test_a_step_never_rests_on_three_lucky_approvals() -> None:
    said = [Decided(0.8, n % 2 == 0) for n in range(100)] + [Decided(0.99, True)] * 3
    assert calibrate(0.99, fit(said)) < 0.6


def test_reliability_shows_what_was_said_beside_what_was_done() -> None:
    rows = reliability([Decided(0.95, True), Decided(0.91, False), Decided(0.15, False)])
    assert [(r.low, r.n, r.mean, r.approved) for r in rows] == [(0.1, 1, 0.15, 0.0), (0.9, 2, pytest.approx(0.93), 0.5)]


@pytest.mark.parametrize("bad", [[(0.0, 0.0)], [(0.0, 0.5), (1.0, 0.4)], [(0.5, 0.0), (0.5, 1.0)]])
def test_a_table_that_is_not_monotone_is_refused_also_in_a_policy(bad: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="calibration"):
        calibrate(0.5, bad)
    with pytest.raises(ValueError, match="calibration"):
        Rules.model_validate({"boardkit": 1, "name": "t", "approvers": {"publish": ["kim"]}, "calibration": bad})


def test_a_confidence_that_is_none_is_refused_by_the_fit() -> None:
    with pytest.raises(ValueError, match=r"1\.5 is none"):
        fit([Decided(1.5, True)])
