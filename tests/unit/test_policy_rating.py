"""A model's rating is data with a closed schema: what does not fit is no score, and then people decide."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chimera.events.hashes import digest
from chimera.events.records import JudgeVerdict
from chimera.mcp.records import Outcome
from chimera.policy.boardkit import load_text
from chimera.policy.brief import load_brief
from chimera.policy.writing import RateResponse, read_rating
from chimera.processors.jobs import Job
from chimera.processors.ratings import Ratings
from tests.swarmhouse import SwarmHouse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GOOD: dict[str, Any] = {
    "purpose": "rate",
    "writer": "model:m",
    "score": 0.93,
    "reasons": ["fit[0.7]: nearer"],
    "parts": {"fit": 0.7},
}
BAD: dict[str, dict[str, Any]] = {
    "a field too many": {"approve": True},
    "a number as text": {"score": "0.99"},
    "a truth value": {"score": True},
    "above one": {"score": 1.01},
    "no number": {"score": float("nan")},
    "nothing": {"score": None},
    "reasons without end": {"reasons": ["x"] * 41},
    "a reason without end": {"reasons": ["x" * 601]},
    "a part that is none": {"parts": {"fit": 7}},
}


def test_a_rating_that_fits_is_read_without_what_the_server_adds() -> None:
    assert read_rating(GOOD).score == 0.93


@pytest.mark.parametrize("wrong", BAD.values(), ids=BAD.keys())
def test_anything_else_is_no_rating(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_rating(GOOD | wrong)


class BadlyRated(SwarmHouse):
    """The writer's server rates like a model that was talked into something."""

    async def tool(
        self, job: Job, capability: str, inputs: dict[str, Any], account: str | None = None, platform: str | None = None
    ) -> Outcome:
        if inputs.get("purpose") == "rate":
            return Outcome("ok", data=GOOD | {"score": 1.0, "approve": True})
        return await super().tool(job, capability, inputs, account)


def test_with_an_unusable_rating_people_decide_and_failed_rules_stand() -> None:
    house = BadlyRated(EXAMPLES, load_text(EXAMPLES / "AGENTS.md"))
    house.enrol("agent/ava", load_text(EXAMPLES / "souls/ava.md"), load_brief(EXAMPLES / "briefs/autumn.yaml"), "ava")
    asyncio.run(house.run())
    votes = [r.data for r in house.records if isinstance(r.data, JudgeVerdict) and "criteria" in r.data.trace]
    assert {effect.status for _, effect in house.standing()} == {"people"}
    assert any(v.decision == "fail" and v.failed_rules == ["persona_taboo"] for v in votes), "what the rules found counts"
    assert all(v.decision != "pass" and v.confidence is None for v in votes)
    assert all(any("bad_value[rating]" in why for why in v.reasons) for v in votes)


def rated_house() -> tuple[SwarmHouse, list[JudgeVerdict]]:
    """An agent that has done what it could, and its judge's votes that rest on a rating."""
    house = SwarmHouse(EXAMPLES, load_text(EXAMPLES / "AGENTS.md"))
    house.enrol("agent/ava", load_text(EXAMPLES / "souls/ava.md"), load_brief(EXAMPLES / "briefs/autumn.yaml"), "ava")
    asyncio.run(house.run())
    return house, [r.data for r in house.records if isinstance(r.data, JudgeVerdict) and "score" in r.data.trace]


def test_a_text_is_rated_once_though_it_comes_as_a_draft_and_as_a_proposal() -> None:
    house, votes = rated_house()
    asked = [digest(request.model_dump(mode="json")) for purpose, request in house.asked if purpose == "rate"]
    assert len(asked) == len(set(asked)), "no request is made twice"
    again = [vote for vote in votes if vote.trace.get("rated") == "before"]
    assert again
    assert all(vote.effect_hash is not None for vote in again), "what comes again are proposals"
    assert len(asked) == len(votes) - len(again)
    scores = {vote.trace["score"] for vote in votes if "rated" not in vote.trace}
    assert {vote.trace["score"] for vote in again} <= scores


def test_ratings_are_forgotten_from_the_one_used_longest_ago_on() -> None:
    ratings = Ratings(most=2)
    first, second, third = (RateResponse(score=score) for score in (0.1, 0.2, 0.3))
    ratings.keep("a", first)
    ratings.keep("b", second)
    assert ratings.of("a") == first
    ratings.keep("c", third)
    assert [ratings.of(asked) for asked in "abc"] == [first, None, third]
