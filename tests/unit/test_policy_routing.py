"""From scores to a verdict: calibration, the lower opinion, and where each border goes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.policy.boardkit import Rules
from chimera.policy.routing import confidence, route, verdict
from chimera.policy.rules import Findings, RuleHit

RULES = Rules.model_validate({"boardkit": 1, "name": "t", "approvers": {"publish": ["kim"]}})
CLEAN = Findings()


@pytest.mark.parametrize("value", [0.90, 0.70, 0.7000001, 0.9000001, 0.0, 1.0])
def test_a_usable_confidence_passes_through_bit_by_bit(value: float) -> None:
    assert verdict(CLEAN, value, 1.0, RULES).confidence == value


@pytest.mark.parametrize(
    ("value", "goes"), [(0.90, "people"), (0.9000001, "auto"), (0.70, "people"), (0.7000001, "people"), (0.6999999, "retry")]
)
def test_both_borders_go_to_people(value: float, goes: str) -> None:
    assert route(verdict(CLEAN, value, 1.0, RULES), RULES) == goes


@pytest.mark.parametrize("value", [math.nan, -1.0, 1.5, math.inf, None])
def test_a_confidence_that_is_none_goes_to_people_without_a_number(value: float | None) -> None:
    made = verdict(CLEAN, value, 0.95, RULES)
    assert (made.decision, made.confidence_raw, made.confidence) == ("people", None, None)
    assert route(made, RULES) == "people"


def test_a_judge_that_could_not_finish_asks_people_and_says_so() -> None:
    made = verdict(CLEAN, 0.95, None, RULES)
    assert made.decision == "people"
    assert "judge_error" in made.reasons[0]


def test_a_failed_rule_fails_whatever_the_scores_say() -> None:
    found = Findings(failed=[RuleHit("length", "300", "shorten it")])
    made = verdict(found, 0.99, 0.99, RULES)
    assert (made.decision, made.failed_rules, made.reasons) == ("fail", ["length"], ["length[300]: shorten it"])
    assert verdict(found, 0.99, None, RULES).decision == "fail"


def test_a_sensitive_tag_goes_to_people_however_sure_everyone_is() -> None:
    made = verdict(Findings(tags=["health"]), 0.99, 0.99, RULES)
    assert made.decision == "pass"
    assert route(made, RULES) == "people"


def test_a_low_score_carries_the_reasons_for_the_next_attempt() -> None:
    made = verdict(CLEAN, 0.9, 0.5, RULES, quality_reasons=["fit[0.20]: choose a nearer fact"])
    assert made.confidence == 0.5
    assert made.reasons == [
        "confidence[0.50]: is below 0.70: tell it better or choose another fact",
        "fit[0.20]: choose a nearer fact",
    ]


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_lower_opinion_counts(worker: float, judge: float) -> None:
    assert confidence(worker, judge) == (min(worker, judge), min(worker, judge))


def test_the_policys_table_calibrates_and_the_raw_number_is_kept_beside_it() -> None:
    rules = RULES.model_copy(update={"calibration": [(0.0, 0.0), (0.8, 0.5), (1.0, 0.95)]})
    made = verdict(CLEAN, 0.9, 0.95, rules)
    assert made.confidence_raw == 0.9
    assert made.confidence == pytest.approx(0.725)


def test_what_a_rule_sends_to_people_goes_there_with_its_reason_and_its_confidence() -> None:
    made = verdict(Findings(asked=[RuleHit("handles", "@kim", "people decide")]), 0.99, 0.99, RULES)
    assert (made.decision, made.confidence, made.reasons) == ("people", 0.99, ["handles[@kim]: people decide"])
    assert route(made, RULES) == "people"


def test_a_failed_rule_counts_for_more_than_one_that_asks_people() -> None:
    found = Findings(failed=[RuleHit("length", "300", "shorten it")], asked=[RuleHit("handles", "@kim", "people decide")])
    assert verdict(found, 0.99, 0.99, RULES).decision == "fail"
