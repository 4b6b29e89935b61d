"""The audience of the sandbox platforms: it grows, it speaks, it never goes back, and at pace 0 it is not there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.mcp.sandbox import instagram
from chimera.mcp.sandbox.audience import DAY_S, Audience, Numbers, followers, mentions, numbers
from chimera.mcp.sandbox.gram import Gram
from chimera.mcp.sandbox.serving import CallContext
from chimera.mcp.sandbox.timeline import PlatformRefused, Timeline, user_id_of
from chimera.mcp.sandbox.voices import HOSTILE_ONE_IN, answer_to
from chimera.mcp.sandbox.x import XSandbox
from chimera.mcp.sandbox.x_audience import AT_ONCE, BY_ITSELF, arrive
from chimera.media.store import MediaStore
from tests.clock import Clock

ASKED: dict[str, Any] = {"user.fields": ["public_metrics"]}


class Town:
    """An X sandbox whose clock a test moves, and which can be started again."""

    def __init__(self, home: Path, pace: float = 1.0) -> None:
        self.home, self.clock = home, Clock()
        self.open(pace)

    def open(self, pace: float) -> None:
        self.timeline = Timeline(self.home, self.clock)
        self.audience = Audience(self.home, pace, self.clock)
        self.sandbox = XSandbox(self.timeline, audience=self.audience)

    def close(self) -> None:
        self.timeline.close()
        self.audience.close()

    def ask(self, tool: str, account: str = "ava", key: str | None = None, **arguments: Any) -> dict[str, Any]:
        answer = asyncio.run(self.sandbox.handle(tool, arguments, CallContext(account, key)))
        assert not answer.is_error, answer.content
        return dict(answer.structured_content or {})

    def metrics(self, post_id: str) -> dict[str, int]:
        asked: dict[str, Any] = {"id": post_id, "tweet.fields": ["public_metrics"]}
        return dict(self.ask("getPostsById", **asked)["data"]["public_metrics"])

    def mentions(self, account: str = "ava") -> list[dict[str, Any]]:
        return list(self.ask("getUsersMentions", account, id=user_id_of(account), max_results=100).get("data", []))


@given(
    post=st.text(min_size=1), crowd=st.integers(0, 10**6), young=st.floats(0, 1e8), more=st.floats(0, 1e8), film=st.floats(0, 600)
)
def test_no_number_is_less_at_a_greater_age(post: str, crowd: int, young: float, more: float, film: float) -> None:
    before, after = numbers(post, crowd, young, film), numbers(post, crowd, young + more, film)
    assert all(getattr(after, name) >= getattr(before, name) >= 0 for name in Numbers.__dataclass_fields__)
    assert followers(post, young + more) >= followers(post, young) > 0
    assert mentions(post, young + more) >= mentions(post, young) >= 0


def test_a_post_is_seen_liked_and_answered_as_it_ages(tmp_path: Path) -> None:
    town = Town(tmp_path)
    post = town.ask("createPosts", text="Soup in season.")["data"]["id"]
    seen = [town.metrics(post)]
    for _ in range(3):
        town.clock.now += 6 * 3600
        seen.append(town.metrics(post))
    views = [each["impression_count"] for each in seen]
    assert views[0] == 0 < views[1] < views[2] < views[3]
    others = [town.ask("createPosts", text=f"Soup number {n}.")["data"]["id"] for n in range(5)]
    town.clock.now += DAY_S
    assert sum(town.metrics(each)["like_count"] for each in (post, *others)) > 0
    town.close()


def test_people_answer_and_call_by_themselves_and_each_thing_is_said_once(tmp_path: Path) -> None:
    town = Town(tmp_path)
    posts = {town.ask("createPosts", text=f"Soup number {n}.")["data"]["id"] for n in range(20)}
    town.clock.now += 10 * DAY_S
    for _ in range(20):
        heard = town.mentions()
    assert town.mentions() == heard
    told = [item["text"] for item in heard]
    assert all(text.startswith("@ava ") for text in told)
    answered = {item["referenced_tweets"][0]["id"] for item in heard if "referenced_tweets" in item}
    assert answered
    assert answered <= posts
    assert any("referenced_tweets" not in item for item in heard)
    post = answered.pop()
    assert town.metrics(post)["reply_count"] == sum(1 for i in heard if i.get("referenced_tweets", [{}])[0].get("id") == post)
    town.close()


def test_what_arrives_is_newer_than_what_was_heard_before(tmp_path: Path) -> None:
    """A reader asks for what is newer than the newest that it knows: whatever is said later must be found by that."""
    town = Town(tmp_path)
    for n in range(20):
        town.ask("createPosts", text=f"Soup number {n}.")
    town.clock.now += 3 * DAY_S
    known = max(int(item["id"]) for item in town.mentions())
    before = {item["id"] for item in town.mentions()}
    town.clock.now += 3 * DAY_S
    later = {item["id"] for item in town.mentions()} - before
    assert later
    assert min(map(int, later)) > known
    town.close()


def test_a_crowd_that_waited_long_speaks_a_few_at_a_time(tmp_path: Path) -> None:
    town = Town(tmp_path)
    for n in range(20):
        town.ask("createPosts", text=f"Soup number {n}.")
    town.clock.now += 400 * DAY_S
    assert arrive(town.timeline, town.audience, "ava") == AT_ONCE
    town.close()


def test_a_server_that_dies_before_it_notes_what_was_said_says_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = Town(tmp_path)
    for n in range(20):
        town.ask("createPosts", text=f"Soup number {n}.")
    town.clock.now += 2 * DAY_S

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(town.audience, "note", dies)
    with pytest.raises(KeyboardInterrupt):
        arrive(town.timeline, town.audience, "ava")
    monkeypatch.undo()
    said = town.timeline.mentions("ava")
    assert said
    arrive(town.timeline, town.audience, "ava")
    texts = [(post.account, post.text) for post in town.timeline.mentions("ava", limit=1000)]
    assert len(texts) == len(set(texts)) > len(said) - 1
    town.close()


def test_nothing_goes_back_when_the_server_is_started_again_at_another_pace_or_the_clock_is_set_back(tmp_path: Path) -> None:
    town = Town(tmp_path, pace=100.0)
    post = town.ask("createPosts", text="Soup in season.")["data"]["id"]
    town.clock.now += 600
    told = town.metrics(post)
    assert told["impression_count"] > 0
    for pace, step in ((0.0, 60.0), (1.0, -7200.0), (50.0, 60.0)):
        town.close()
        town.clock.now += step
        town.open(pace)
        now = town.metrics(post)
        assert all(now[name] >= value for name, value in told.items())
        told = now
    town.close()


def test_at_pace_nought_nobody_looks_and_nobody_speaks(tmp_path: Path) -> None:
    town = Town(tmp_path, pace=0.0)
    post = town.ask("createPosts", text="Soup in season.")["data"]["id"]
    town.clock.now += 100 * DAY_S
    assert set(town.metrics(post).values()) == {0}
    assert town.mentions() == []
    town.close()


def test_looking_from_beside_writes_nothing_and_sees_what_the_server_says(tmp_path: Path) -> None:
    town = Town(tmp_path, pace=3600.0)
    post = town.timeline.get(int(town.ask("createPosts", text="Soup in season.")["data"]["id"]))
    assert post is not None
    town.clock.now += 20
    beside = Audience(tmp_path, clock=town.clock)
    first = post.created_at
    assert beside.numbers(str(post.id), "ava", first, first) == town.audience.numbers(str(post.id), "ava", first, first)
    beside.close()
    town.close()


def test_followers_are_told_where_they_are_asked_for(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.ask("createPosts", text="Soup in season.")
    at_first = town.ask("getUsersMe", **ASKED)["data"]["public_metrics"]["followers_count"]
    town.clock.now += 365 * DAY_S
    later = town.ask("getUsersMe", **ASKED)["data"]["public_metrics"]
    assert later["followers_count"] > at_first > 0
    assert later["tweet_count"] == 1
    assert "public_metrics" not in town.ask("getUsersMe")["data"]
    town.close()


def test_one_voice_in_a_dozen_means_ill(tmp_path: Path) -> None:
    drawn = [answer_to("post", n) for n in range(3000)]
    assert drawn == [answer_to("post", n) for n in range(3000)]
    assert 0.5 < sum(voice.hostile for voice in drawn) * HOSTILE_ONE_IN / 3000 < 1.5


def test_nobody_of_the_audience_is_spoken_to_by_the_audience(tmp_path: Path) -> None:
    town = Town(tmp_path)
    for n in range(20):
        town.ask("createPosts", text=f"Soup number {n}.")
    town.clock.now += 10 * DAY_S
    arrive(town.timeline, town.audience, "ava")
    stranger = next(post for post in town.timeline.posts(limit=1000) if BY_ITSELF in post.extra)
    town.clock.now += 100 * DAY_S
    assert arrive(town.timeline, town.audience, stranger.account) == 0
    town.close()


def test_an_instagram_film_is_watched_and_its_account_followed(tmp_path: Path) -> None:
    clock = Clock()
    gram, audience = Gram(tmp_path, clock), Audience(tmp_path, 1.0, clock)
    vendor = instagram.vendor(gram, MediaStore(tmp_path / "media"), audience)
    post = gram.publish("ava", gram.contain("ava", "m.mp4", "video", "x"), None, 1)

    def ask(tool: str, **arguments: Any) -> Any:
        answer = asyncio.run(cast("Any", vendor.act(tool, arguments, "ava", None)))
        return orjson.loads(answer.content[0].text)["data"]

    young = ask("get_media_insights", media_id=post.id)["insights"]
    clock.now += DAY_S
    old = ask("get_media_insights", media_id=post.id)["insights"]
    assert {item["name"]: item["values"][0]["value"] for item in young} == dict.fromkeys((item["name"] for item in old), 0)
    assert {item["name"] for item in old if item["values"][0]["value"] > 0} >= {"reach", "likes", "video_views"}
    assert ask("get_profile_info")["followers_count"] > 0
    assert ask("get_account_insights", metrics=["follower_count"])["insights"][0]["values"][0]["value"] > 0
    gram.close()
    audience.close()


def test_an_account_posts_and_sends_no_more_than_the_platform_takes(tmp_path: Path) -> None:
    clock = Clock()
    timeline = Timeline(tmp_path, clock)
    for n in range(100):
        timeline.post("ava", f"post {n}", None, {})
    with pytest.raises(PlatformRefused, match="100 within 15 minutes") as refused:
        timeline.post("ava", "one more", None, {})
    assert refused.value.status == 429
    timeline.post("ben", "another account", None, {})
    clock.now += 901
    timeline.post("ava", "one more", None, {})
    timeline.know("ben")
    for n in range(15):
        timeline.message("ava", user_id_of("ben"), f"message {n}")
    with pytest.raises(PlatformRefused, match="15 within 15 minutes"):
        timeline.message("ava", user_id_of("ben"), "one more")
    timeline.close()
