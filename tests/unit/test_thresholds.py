"""Thresholds of platforms and risk tags in the fold: the strictest that applies, to the last digit."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from chimera.events import records as rec
from chimera.events.thresholds import borders
from chimera.policy.boardkit import Rules, inline, load_text, parse_rules
from chimera.policy.context import Findings
from chimera.policy.report import Given, context_of
from chimera.policy.routing import route
from chimera.policy.routing import verdict as judged
from chimera.policy.rules import judge
from tests.histories import INLINE, Log, artifact, planned, proposal, row, verdict
from tests.lawspec import given

ROOT = Path(__file__).resolve().parents[2]
AT = {"campaign": 1, "ordinal": 1, "attempt": 1}
STRICT = INLINE.model_copy(
    update={
        "platform_thresholds": {"x": rec.Threshold(approve_above=0.95), "linkedin": rec.Threshold(approve_above=0.99)},
        "tag_thresholds": {
            "tea": rec.Threshold(approve_above=0.97, people_from=0.80),
            "rain": rec.Threshold(people_from=0.85),
            "loose": rec.Threshold(approve_above=0.10, people_from=0.10),
        },
    }
)


def proposed(*tags: str, effect_class: str = "publish") -> Log:
    """An effect on x that the worker gave these tags."""
    log = planned(row(1), inline=STRICT)
    log.add(rec.TaskPlanned(**AT))
    cost = Decimal(2) if effect_class == "paid" else Decimal(0)
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3, effect_class=effect_class, cost=cost), tags=tags))
    return log


@pytest.mark.parametrize(
    ("worker", "judge_", "confidence", "becomes"),
    [
        ([], [], 0.9500001, "approved"),
        ([], [], 0.95, "people"),
        ([], [], 0.70, "people"),
        ([], [], 0.6999999, "rejected"),
        (["tea"], [], 0.9700001, "approved"),
        (["tea"], [], 0.97, "people"),
        ([], ["tea"], 0.97, "people"),
        ([], ["tea"], 0.80, "people"),
        ([], ["tea"], 0.7999999, "rejected"),
        (["tea"], ["rain"], 0.85, "people"),
        (["tea"], ["rain"], 0.8499999, "rejected"),
        (["rain"], [], 0.9500001, "approved"),
        (["loose"], [], 0.95, "people"),
        (["loose"], [], 0.6999999, "rejected"),
        (["unknown"], [], 0.9500001, "approved"),
    ],
)
def test_the_strictest_of_default_platform_and_tags_counts_to_the_last_digit(
    worker: list[str], judge_: list[str], confidence: float, becomes: str
) -> None:
    log = proposed(*worker)
    then = given(log).when(verdict(log.state, 1, 1, confidence=confidence, tags=judge_))
    assert then.changed("effect") == [becomes]


@pytest.mark.parametrize(("confidence", "becomes"), [(0.98, "approved"), (0.97, "people"), (0.80, "people"), (0.79, "rejected")])
@pytest.mark.parametrize("last", ["cfo", "content"])
def test_a_tag_that_only_the_cfo_saw_raises_the_threshold_whoever_votes_last(last: str, confidence: float, becomes: str) -> None:
    log = proposed(effect_class="paid")
    log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    votes = {
        "content": verdict(log.state, 1, 1, confidence=confidence),
        "cfo": verdict(log.state, 1, 1, judge="cfo", confidence=1.0, tags=["tea"]),
    }
    log.add(votes.pop("cfo" if last == "content" else "content"))
    assert given(log).when(votes[last]).changed("effect") == [becomes]


def test_a_draft_is_held_against_the_default_and_caps_by_it() -> None:
    log = planned(row(1), row(2, depends_on=[1]), inline=STRICT)
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3))
    then = given(log).when(verdict(log.state, 1, 1, confidence=0.91))
    assert then.state is not None
    assert then.state.campaigns[1].done[1].cap == 1.0


def test_votes_are_asked_again_under_a_stricter_edition_and_the_old_confidence_counts_no_more() -> None:
    log = proposed()
    log.add(verdict(log.state, 1, 1, confidence=0.96))
    stricter = STRICT.model_copy(update={"platform_thresholds": {"x": rec.Threshold(approve_above=0.98)}})
    then = given(log).when(
        rec.PolicyAdopted(command_no=log.state["command_no"] + 1, edition=2, digest="p2", editor="eve", inline=stricter)
    )
    e = then.task().effect
    assert e is not None
    assert (e.status, e.confidence) == ("proposed", None)
    log.command(rec.PolicyAdopted, edition=2, digest="p2", editor="eve", inline=stricter)
    assert given(log).when(verdict(log.state, 1, 1, confidence=0.96)).changed("effect") == ["people"]


# --- the file ----------------------------------------------------------------------------------------------------------


def rules(**fields: object) -> Rules:
    template = parse_rules(load_text(ROOT / "policies/AGENTS.md"))
    return Rules.model_validate(template.model_dump() | fields)


WATCHED = rules(
    sensitive={},
    watched={"finance": "finance"},
    tag_thresholds={"finance": {"approve_above": 0.97, "people_from": 0.8}},
    platform_thresholds={"x": {"approve_above": 0.95}},
)


def test_the_file_the_fold_and_the_preview_hold_a_confidence_against_the_same() -> None:
    for platform in ("x", "bluesky", ""):
        for tags in ([], ["finance"], ["health"]):
            assert WATCHED.borders(platform, tags) == borders(inline(WATCHED), platform, tags)
    found = Findings(tags=["finance"])
    assert route(judged(found, 0.97, 1.0, WATCHED, platform="x"), WATCHED, platform="x") == "people"
    assert route(judged(found, 0.98, 1.0, WATCHED, platform="x"), WATCHED, platform="x") == "auto"
    assert route(judged(Findings(), 0.95, 1.0, WATCHED, platform="x"), WATCHED, platform="x") == "people"
    low = judged(found, 0.79, 1.0, WATCHED, platform="x")
    assert route(low, WATCHED, platform="x") == "retry"
    assert "is below 0.80" in low.reasons[0]


def test_a_watched_lexicon_raises_its_tag_and_asks_nobody_by_itself() -> None:
    found = judge(
        "Shares and bonds are what the village talks of.",
        context_of(Given(rules={"watched": {"finance": "finance"}, "sensitive": {}})),
    )
    assert found.tags == ["finance"]
    assert inline(WATCHED).sensitive_tags == []
