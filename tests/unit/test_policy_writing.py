"""Requests to the text writer: what many of them share is read and written once, and nothing of that shows."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from chimera.policy.boardkit import Soul, Voice
from chimera.policy.brief import LinksSource, MentionsAny, read_criteria
from chimera.policy.writing import (
    REQUESTS,
    Angle,
    AnglesRequest,
    Article,
    DraftRequest,
    RateRequest,
    ReplyRequest,
    Support,
    body_of,
    read_article,
)
from tests.mending import brief

BRIEF = brief(
    formats=[{"platform": "x", "format": "post", "not_before": "2026-10-01T08:00:00+02:00"}],
    acceptance=[{"kind": "mentions_any", "words": ["mend*"]}],
)
SOUL = Soul(name="dov", voice=Voice(tone=["slow"], openers=["From the workbench:"]), topics=["mending"])
ARTICLES = [
    Article(id="a", title="Repair café", url="https://courier.example/repair", text="It mended 312 things."),
    Article(id="b", title="Leaves", url="https://notes.example/leaves", published="2026-10-01", summary="Of mould."),
]
ANGLE = Angle(id="1", title="t", claim="c", support=[Support(article_id="a", quote="312 things")], confidence=0.5)
SHARED: dict[str, Any] = {"brief": BRIEF, "soul": SOUL, "articles": ARTICLES}
EVERY: dict[str, Any] = {
    "angles": AnglesRequest(**SHARED, count=2),
    "draft": DraftRequest(**SHARED, angle=ANGLE, platform="x", format="post", max_chars=280, feedback=["x: cut"]),
    "rate": RateRequest(**SHARED, text="It mended 312 things.", criteria=[LinksSource(), MentionsAny(words=["mend*"])]),
    "reply": ReplyRequest(**SHARED, said="How many?", platform="x", max_chars=280, thread=["they: hello"]),
}


def test_every_purpose_has_its_request_here() -> None:
    assert set(EVERY) == set(REQUESTS)


@pytest.mark.parametrize("request_", EVERY.values(), ids=EVERY)
def test_a_request_is_written_as_its_model_would_be(request_: Any) -> None:
    assert body_of(request_) == request_.model_dump(mode="json")


@pytest.mark.parametrize("purpose", EVERY)
def test_a_request_that_is_read_is_the_one_that_was_written(purpose: Any) -> None:
    assert REQUESTS[purpose].model_validate(body_of(EVERY[purpose])) == EVERY[purpose]


def test_what_requests_share_is_one_object_for_all_of_them() -> None:
    first, second = (AnglesRequest.model_validate(EVERY["angles"].model_dump(mode="json")) for _ in range(2))
    assert first.brief is second.brief
    assert first.soul is second.soul
    assert first.articles[1] is second.articles[1]


@pytest.mark.parametrize(
    ("wrong", "at"),
    [
        ({"brief": {"name": "x"}}, ("brief", "goal")),
        ({"soul": {"name": "x", "topics": ["y"]}}, ("soul", "voice")),
        ({"articles": [{"id": "a", "title": "t", "url": ["no"]}]}, ("articles", 0, "url")),
        ({"articles": ["no article"]}, ("articles", 0)),
        ({"brief": 3}, ("brief",)),
    ],
)
def test_what_cannot_be_read_is_named_where_it_stands(wrong: dict[str, Any], at: tuple[object, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        AnglesRequest.model_validate({**body_of(EVERY["angles"]), **wrong})
    assert at in {tuple(error["loc"]) for error in refused.value.errors()}


@pytest.mark.parametrize(
    "told", [{}, {"id": "a", "title": "t"}, {"id": 3, "title": "t", "url": "u"}, {"id": [], "title": "t", "url": "u"}, "a"]
)
def test_what_is_no_article_is_refused_and_no_other_error(told: Any) -> None:
    with pytest.raises(ValidationError):
        read_article(told)


def test_an_article_knows_all_that_a_text_may_rest_on_and_nothing_of_that_is_written_down() -> None:
    article = read_article({"id": "a", "title": "Title", "url": "u", "summary": "Sum", "text": "Text", "more": 1})
    assert article.whole == "Title\n\nSum\n\nText"
    assert article == Article(id="a", title="Title", url="u", summary="Sum", text="Text")
    assert "whole" not in article.model_dump()


def test_criteria_are_read_as_the_plan_wrote_them() -> None:
    wanted: list[BaseModel] = [LinksSource(), MentionsAny(words=["mend*"])]
    assert list(read_criteria([each.model_dump(mode="json") for each in wanted])) == wanted
    with pytest.raises(ValidationError):
        read_criteria([{"kind": "rhymes"}])
