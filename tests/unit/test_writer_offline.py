"""The offline writer: angles from the sources, drafts that obey feedback, scores that are computed; and the example fleet."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera.mcp.sandbox.writer.compose import speak, trimmed, wishes
from chimera.mcp.sandbox.writer.offline import CannotWrite, angles, draft, rate
from chimera.mcp.sandbox.writer.score import parts_of, score_of
from chimera.policy import text as measure
from chimera.policy.boardkit import Soul, Voice
from chimera.policy.brief import LinksSource
from chimera.policy.writing import AnglesRequest, Article, DraftRequest, RateRequest
from tests.mending import brief

ROOT = Path(__file__).resolve().parents[2]
BRIEF = brief()
SOUL = Soul(
    name="dov",
    voice=Voice(tone=["slow"], openers=["From the workbench:"], sign_offs=["Patience holds."], hashtags=["MendIt", "Slow"]),
    topics=["mending", "toasters", "tools"],
)
REPAIR = Article(
    id="repair",
    title="Repair café mends 312 things",
    url="https://courier.example/repair",
    text=(
        "The repair café mended 312 of the 401 broken things that people carried in this year. "
        "Mending a toaster took 25 minutes, "
        'and buying a new one costs 38 dollars.\n\n"This café is a game-changer for our street," says Tom Okafor. '
        "They open on Friday."
    ),
)
LEAVES = Article(
    id="leaves", title="Fallen leaves", url="https://notes.example/leaves", text="Three sacks of leaves become one sack of mould."
)


def first_angle(articles: list[Article] | None = None) -> DraftRequest:
    offered = articles or [REPAIR, LEAVES]
    angle = angles(AnglesRequest(brief=BRIEF, soul=SOUL, articles=offered, count=1)).angles[0]
    return DraftRequest(brief=BRIEF, soul=SOUL, angle=angle, articles=[REPAIR], platform="x", format="post", max_chars=280)


def test_angles_are_verbatim_and_the_nearest_to_the_brief_comes_first() -> None:
    found = angles(AnglesRequest(brief=BRIEF, soul=SOUL, articles=[LEAVES, REPAIR], count=5)).angles
    assert found[0].support[0].article_id == "repair"
    for angle in found:
        for passage in angle.support:
            source = next(a for a in (REPAIR, LEAVES) if a.id == passage.article_id)
            assert passage.quote in " ".join(source.text.split())
    confidences = [a.confidence for a in found]
    assert len(set(confidences)) > 1
    assert confidences == sorted(confidences, reverse=True)


def test_sources_that_say_nothing_of_the_brief_give_no_angle() -> None:
    far = Article(
        id="f", title="Opera", url="https://a.example/f", text="Tenor sang Verdi beneath golden chandeliers yesterday evening."
    )
    assert angles(AnglesRequest(brief=BRIEF, soul=SOUL, articles=[far], count=3)).angles == []


def test_a_first_draft_fits_speaks_with_the_personas_voice_and_links_its_source() -> None:
    made = draft(first_angle())
    assert measure.weighted_length(made.text, "x") <= 280
    assert made.link == REPAIR.url
    assert made.link in made.text
    assert any(p in made.text for p in (*SOUL.voice.openers, *SOUL.voice.sign_offs))
    assert made.support_ratio == 1.0
    assert all(q.quote in REPAIR.text for q in made.quotes)


def test_the_same_request_gives_the_same_answer() -> None:
    assert draft(first_angle()) == draft(first_angle())


def test_a_phrase_that_feedback_bans_is_gone_from_the_next_attempt() -> None:
    request = first_angle()
    speech = next(
        a for a in angles(AnglesRequest(brief=BRIEF, soul=SOUL, articles=[REPAIR], count=9)).angles if "game-changer" in a.claim
    )
    first = draft(request.model_copy(update={"angle": speech, "format": "quote"}))
    assert measure.holds_phrase(first.text, "game-changer")
    again = request.model_copy(
        update={"angle": speech, "format": "quote", "attempt": 2, "feedback": ["banned_phrases[game-changer]: leave it out"]}
    )
    assert not measure.holds_phrase(draft(again).text, "game-changer")


def test_feedback_about_length_shortens_and_about_hashtags_drops_one() -> None:
    first = draft(first_angle())
    shorter = draft(first_angle().model_copy(update={"attempt": 2, "feedback": ["length[290]: at most 280: shorten it"]}))
    assert measure.weighted_length(shorter.text, "x") < measure.weighted_length(first.text, "x")
    fewer = draft(first_angle().model_copy(update={"attempt": 2, "feedback": ["max_hashtags: 2 hashtags, at most 1"]}))
    assert len(fewer.hashtags) == len(first.hashtags) - 1


def test_a_fact_that_was_told_is_not_told_again() -> None:
    first = draft(first_angle())
    second = draft(first_angle().model_copy(update={"used_texts": [first.text]}))
    assert second.text != first.text
    assert not {q.quote for q in first.quotes} & {q.quote for q in second.quotes}


def test_when_nothing_can_be_said_the_error_says_what_would_help() -> None:
    with pytest.raises(CannotWrite, match=r"no article was given"):
        draft(first_angle().model_copy(update={"articles": []}))
    with pytest.raises(CannotWrite, match=r"without leaves: hand over more articles"):
        draft(first_angle([REPAIR]).model_copy(update={"articles": [LEAVES], "feedback": ["banned_phrases[leaves]: no"]}))


def test_the_score_falls_with_what_no_source_says() -> None:
    good = "The repair café mended 312 of the 401 broken things. Patience holds. https://courier.example/repair"
    bad = "The repair café mended 999 unicorn engines beside Saturn. Patience holds. https://courier.example/repair"
    best, worst = (rate(RateRequest(text=t, brief=BRIEF, soul=SOUL, articles=[REPAIR])) for t in (good, bad))
    assert best.score > 0.85
    assert worst.score < 0.70
    assert any(r.startswith("support[") for r in worst.reasons)


def test_an_unmet_criterion_lowers_the_rating_and_is_named() -> None:
    text = "The repair café mended 312 of the 401 broken things. Patience holds."
    plain = rate(RateRequest(text=text, brief=BRIEF, soul=SOUL, articles=[REPAIR]))
    asked = rate(RateRequest(text=text, brief=BRIEF, soul=SOUL, articles=[REPAIR], criteria=[LinksSource()]))
    assert asked.score < plain.score
    assert asked.reasons[0].startswith("links_source")
    assert not asked.criteria[0].met


@given(st.text(max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_text_has_a_score_between_nothing_and_one(text: str) -> None:
    parts = parts_of(text, BRIEF, SOUL, [REPAIR])
    assert all(0 <= value <= 1 for value in parts.values())
    assert 0 <= score_of(parts) <= 1


@given(st.lists(st.text(max_size=80), max_size=5))
@settings(max_examples=80, deadline=None)
def test_any_feedback_is_taken_without_failing(feedback: list[str]) -> None:
    wishes(feedback)


def test_trimming_cuts_at_clauses_and_never_inside_somebodys_words() -> None:
    spoken = '"Mend it, because it is small," says weaver Joan Petrie from the mill, who is 81.'
    assert list(trimmed(spoken)) == [spoken, '"Mend it, because it is small," says weaver Joan Petrie from the mill.']
    assert speak('"Mend it," she says.') == "“Mend it,” she says."


@pytest.fixture(scope="module")
def preview() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chimera_example_preview", ROOT / "examples/preview.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_example_fleet_takes_all_three_routes_because_of_what_its_texts_are(preview: ModuleType) -> None:
    rows = preview.preview()
    first = [r for r in rows if r.attempt == 1]
    assert len({r.agent for r in rows}) >= 5
    assert len(first) == len({(r.agent, r.format) for r in rows})
    assert any(r.route == "auto" and r.confidence > 0.90 for r in first)
    assert any(r.route == "people" and r.tags for r in first), "a sensitive text"
    assert any(r.route == "people" and not r.tags and 0.70 <= r.confidence <= 0.90 for r in first), "a medium text"
    failing = [r for r in first if r.route == "retry"]
    assert {r.reason.split("[")[0] for r in failing} >= {"banned_phrases", "persona_taboo"}
    for row in failing:
        later = [r for r in rows if (r.agent, r.format) == (row.agent, row.format) and r.attempt > 1]
        assert later[-1].route in ("auto", "people")


def test_the_example_confidences_are_computed_and_differ(preview: ModuleType) -> None:
    rows = preview.preview()
    assert len({r.confidence for r in rows}) > len(rows) // 2
    assert preview.preview() == rows
    assert all(measure.weighted_length(r.text, "x") <= 280 for r in rows)


def test_the_table_shows_every_attempt_with_route_confidence_and_text(preview: ModuleType) -> None:
    rows = preview.preview()[:2]
    shown = preview.table(rows)
    for row in rows:
        assert row.agent in shown
        assert f"{row.confidence:.3f}" in shown
        assert row.text.splitlines()[0] in shown
