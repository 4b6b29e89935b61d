"""What was published is remembered by its platform id, and what was taken down says since when and why."""

from __future__ import annotations

import pytest

from chimera.commands.posts import Post, Posts, platform_ids
from chimera.events import records as rec
from chimera.events.state import Change, Ref, Ruling
from tests.histories import AGENT, artifact, proposal, record


def applied(*changes: Change) -> Ruling:
    return Ruling("applied", "", 1, 1, changes)


def executed(ordinal: int, **fields: object) -> tuple[rec.EffectEnded, Ruling]:
    body = {"campaign": 1, "ordinal": ordinal, "attempt": 0, "claim": 1, "outcome": "executed", **fields}
    return rec.EffectEnded.model_validate(body), applied(Change("effect", 1, ordinal, 0, "executed"))


def published() -> Posts:
    """One post, `77`, that the record at offset 4 holds."""
    posts = Posts()
    posts(record(artifact(1, 1, 0, 1, proposal(input_version=1)), 4, 100), applied())
    ended, ruling = executed(1, platform_id="77", url="http://x/77")
    posts(record(ended, 5, 200), ruling)
    return posts


def test_an_executed_effect_is_a_post_that_stands() -> None:
    standing = Post(AGENT, 1, "x", "@ava", "77", "http://x/77", Ref(0, 4), 200)
    assert list(published().of()) == list(published().of(AGENT)) == [standing]
    assert list(published().of("agent/other")) == []


def test_an_executed_takedown_marks_the_post_and_is_none_itself() -> None:
    posts = published()
    taking = artifact(1, 2, 0, 1, proposal(input_version=1)).model_copy(
        update={"content": {"takedown": "77", "platform": "x", "reason": "closed"}}
    )
    posts(record(taking, 6, 300), applied())
    assert next(posts.of()).taken_down_ts == 0, "proposed is not done"
    ended, ruling = executed(2)
    posts(record(ended, 7, 400), ruling)
    (post,) = posts.of()
    assert (post.taken_down_ts, post.taken_down_because) == (400, "closed")


def test_what_one_person_was_told_in_private_is_no_post() -> None:
    posts = Posts()
    message = proposal(input_version=1).model_copy(update={"capability": "social.dm"})
    posts(record(artifact(1, 1, 0, 1, message), 4, 100), applied())
    ended, ruling = executed(1, platform_id="77")
    posts(record(ended, 5, 200), ruling)
    assert list(posts.of()) == []


def test_what_did_not_count_is_no_post() -> None:
    posts = Posts()
    posts(record(artifact(1, 1, 0, 1, proposal(input_version=1)), 4, 100), Ruling("void", "duplicate", 1, 1))
    ended, ruling = executed(1, platform_id="77")
    posts(record(ended, 5, 200), ruling)
    assert list(posts.of()) == []


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("77", ("77",)),
        ("https://x.com/ava/status/77", ("https://x.com/ava/status/77", "77")),
        ("https://x.com/ava/status/77/?s=20", ("https://x.com/ava/status/77/?s=20", "77")),
    ],
)
def test_a_post_is_named_by_id_or_address(said: str, meant: tuple[str, ...]) -> None:
    assert platform_ids(said) == meant
