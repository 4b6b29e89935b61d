"""Holding a card: a mark that others see, that ends by itself, and that stands in nobody's way."""

from __future__ import annotations

import pytest
import typer

from chimera.cli import cards as shown
from chimera.cli.review import _moment
from chimera.commands import reviews
from chimera.commands.decision import Refused
from chimera.events import records as rec
from chimera.events.state import Change, Hold, Ref, Ruling
from chimera.projections.models import events, models_for
from chimera.projections.rows import Insert
from tests.histories import record
from tests.unit.test_commands_decisions import AT, with_card

NOW = 1_800_000_000_000


def test_a_card_is_held_by_a_person_and_released_by_anybody() -> None:
    log = with_card()
    assert log.when(reviews.hold(AT, "kim", "legal looks", NOW + 5, now=NOW), "kim") == ["CardHoldSet"]
    effect = log.ava.campaigns[1].tasks[1].effect
    assert effect is not None
    assert effect.held == Hold("kim", NOW + 5, Ref(0, log.offset - 1))
    assert log.when(reviews.release(AT), "lee") == ["CardHoldSet"]
    assert effect.held is None


def test_a_held_card_waits_on_can_be_decided_and_forgets_the_mark_when_it_is_approved() -> None:
    log = with_card()
    log.when(reviews.hold(AT, "kim", "legal looks"), "kim")
    log.when(reviews.approve(AT, "lee", log.seen()), "lee")
    log.when(reviews.approve(AT, "kim", log.seen()), "kim")
    effect = log.ava.campaigns[1].tasks[1].effect
    assert effect is not None
    assert (effect.status, effect.held) == ("approved", None)


def test_holding_changes_nothing_of_what_was_shown() -> None:
    """A decision names the digest of what was on the screen: a mark by somebody else must not make it another card."""
    log = with_card()
    before = log.seen().shown_hash
    log.when(reviews.hold(AT, "kim", "legal looks"), "kim")
    assert log.seen().shown_hash == before


@pytest.mark.parametrize(
    ("actor", "until", "words"),
    [
        ("service/ci", 0, "machines hold no cards"),
        ("lee", 0, "'kim' holds it already"),
        ("kim", NOW, "is over already"),
        ("kim", NOW - 1, "is over already"),
    ],
)
def test_who_may_not_hold_it_is_told_why(actor: str, until: int, words: str) -> None:
    log = with_card()
    log.when(reviews.hold(AT, "kim", "legal looks", NOW + 9, now=NOW), "kim")
    with pytest.raises(Refused, match=words):
        reviews.hold(AT, actor, "me too", until, now=NOW)(log.agent)


def test_a_mark_that_ended_by_itself_stands_in_nobodys_way() -> None:
    log = with_card()
    log.when(reviews.hold(AT, "kim", "legal looks", NOW + 9, now=NOW), "kim")
    with pytest.raises(Refused, match="holds it already"):
        reviews.hold(AT, "lee", "my turn", now=NOW + 8)(log.agent)
    assert log.when(reviews.hold(AT, "lee", "my turn", now=NOW + 9), "lee") == ["CardHoldSet"]


def test_a_card_that_waits_for_nobody_is_not_held() -> None:
    log = with_card()
    for person in ("kim", "lee"):
        log.when(reviews.approve(AT, person, log.seen()), person)
    with pytest.raises(Refused, match="it is approved"):
        reviews.hold(AT, "kim", "too late")(log.agent)


@pytest.mark.parametrize(
    ("said", "ms"),
    [("30m", NOW + 1_800_000), ("4h", NOW + 14_400_000), ("2d", NOW + 172_800_000), ("2027-01-15T08:00:05Z", NOW + 5_000)],
)
def test_until_is_a_span_or_a_time_with_its_zone(said: str, ms: int) -> None:
    assert _moment(said, NOW) == ms


@pytest.mark.parametrize("said", ["tomorrow", "4", "4w", "-4h", "2027-01-15T08:00"])
def test_what_is_no_time_says_how_one_is_written(said: str) -> None:
    with pytest.raises(typer.BadParameter, match="write 30m, 4h, 2d"):
        _moment(said, NOW)


def test_the_read_models_know_a_hold_as_an_event_of_its_attempt_and_as_nothing_else() -> None:
    made = record(rec.CardHoldSet(command_no=2, campaign=1, ordinal=2, attempt=3, effect_hash="e", held=True), 5, NOW)
    ruling = Ruling("applied", "", 7, 7, (Change("hold", 1, 2, 3, "held"),))
    assert [model.name for model in models_for(made, ruling)] == ["events"]
    (row,) = events.rows(made, ruling, None)
    assert isinstance(row, Insert)
    assert dict(zip(events.EVENTS.columns, row.values, strict=True)).items() >= {"campaign": 1, "ordinal": 2, "attempt": 3}.items()


def test_who_holds_it_is_told_in_a_line() -> None:
    assert shown.held(None) == "-"
    assert shown.held({"by": "kim", "until_ts": 0, "reason": "legal looks"}) == "by kim: legal looks"
    assert shown.held({"by": "kim", "until_ts": NOW, "reason": ""}) == "by kim until 2027-01-15 08:00:00 UTC"
