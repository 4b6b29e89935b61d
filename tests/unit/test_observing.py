"""Looks at posts: what is due is asked for, within the platform's limits, and what the platform says goes to the log."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from typing import Any

import pytest

from chimera.events.metrics import EngagementObserved
from chimera.mcp.profiles import load_profiles
from chimera.mcp.records import Outcome
from chimera.processors.observing import EVERY_S, GONE_S, METRICS, Observer, Post

PROFILES = load_profiles()
LIKED = {"data": {"id": "1", "public_metrics": {"like_count": 7, "reply_count": 2, "retweet_count": 1, "impression_count": 120}}}
SHOWN = [{"name": "likes", "values": [{"value": 9}]}, {"name": "video_views", "values": [{"value": 50}]}]
SERVED = frozenset({0})


class World:
    """Posts that are always due, a platform that answers as told, and a clock that only sleeping moves."""

    def __init__(self, *posts: Post) -> None:
        self.posts = posts
        self.time = 1_000.0
        self.asked: list[tuple[float, Post]] = []
        self.told: list[EngagementObserved] = []
        self.says: dict[str, Outcome] = {}
        self.away = False
        self.observer = Observer(
            PROFILES, self.owed, self.ask, self.tell, clock=lambda: self.time, now=lambda: 1_795_000_000.0, sleep=self.sleep
        )

    def owed(self, partitions: Collection[int], platforms: Collection[str], most: int) -> list[Post]:
        if self.away:
            raise OSError("the database is away")
        return [post for post in self.posts if post.platform in platforms][:most]

    async def ask(self, post: Post) -> Outcome:
        self.asked.append((self.time, post))
        usual: dict[str, Any] = {"x": LIKED, "instagram": {"data": {"media_id": post.platform_id, "insights": SHOWN}}}
        return self.says.get(post.platform_id, Outcome("ok", data=usual[post.platform]))

    async def tell(self, seen: EngagementObserved, post: Post) -> None:
        self.told.append(seen)

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    def round(self) -> int:
        return asyncio.run(self.observer.round(SERVED))

    def rounds(self, count: int) -> None:
        for _ in range(count):
            begun = self.time
            self.round()
            self.time = max(self.time, begun + EVERY_S)


def post(number: int, platform: str = "x", account: str = "ava_x") -> Post:
    return Post("agent/1", "acme", platform, account, str(number), "sandbox")


def test_what_the_platform_says_of_a_post_is_told_with_its_names_and_its_time() -> None:
    world = World(post(1))
    assert world.round() == 1
    numbers = {"likes": 7, "replies": 2, "reposts": 1, "impressions": 120, "views": 120}
    assert world.told == [EngagementObserved("agent/1", "x", "1", 1_795_000_000_000, numbers, f"x/{METRICS}")]


def test_numbers_that_a_platform_lists_by_name_are_found_and_those_it_does_not_tell_are_left_out() -> None:
    world = World(post(1, "instagram"))
    world.round()
    assert world.told[0].values == {"likes": 9, "views": 50}


def test_a_post_is_not_asked_for_again_until_its_numbers_can_have_become_rows() -> None:
    world = World(post(1))
    world.rounds(2)
    assert len(world.asked) == 1
    world.rounds(4)
    assert len(world.asked) == 2


@pytest.mark.parametrize("platform", ["x", "instagram"])
def test_an_account_is_asked_at_half_its_rate_limit_and_others_do_not_wait_for_it(platform: str) -> None:
    world = World(*[post(n, platform) for n in range(30)], post(99, platform, "ben_x"))
    world.rounds(60)
    times = [when for when, asked in world.asked if asked.account == "ava_x"]
    gap = 2 * PROFILES.quota_ms(METRICS, platform) / 1000
    assert len(times) > 5
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= gap
    assert next(when for when, asked in world.asked if asked.account == "ben_x") < 1_000.0 + EVERY_S


def test_an_account_that_gets_no_answer_is_left_alone_for_twice_as_long_each_time() -> None:
    world = World(*[post(n) for n in range(20)])
    world.says = {str(n): Outcome("unknown", "timeout") for n in range(20)}
    world.rounds(40)
    times = [when for when, _ in world.asked]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[2] >= 2 * gaps[0]
    assert len({asked.platform_id for _, asked in world.asked}) == len(times), "each time another post has its turn"
    assert world.told == []


def test_a_post_that_is_gone_does_not_hold_up_the_others_and_is_left_alone_for_a_day() -> None:
    world = World(post(1), post(2))
    world.says = {"1": Outcome("refused", "not_found")}
    world.rounds(1)
    assert [seen.platform_id for seen in world.told] == ["2"]
    world.rounds(6)
    assert [asked.platform_id for _, asked in world.asked].count("1") == 1
    world.time += GONE_S
    world.rounds(1)
    assert [asked.platform_id for _, asked in world.asked].count("1") == 2


@pytest.mark.parametrize("said", [{"data": {}}, {"data": {"public_metrics": {"like_count": "many", "reply_count": True}}}, None])
def test_an_answer_without_a_number_is_no_observation(said: Any) -> None:
    world = World(post(1))
    world.says = {"1": Outcome("ok", data=said)}
    assert world.round() == 0
    assert world.told == []


def test_while_the_database_is_away_nothing_is_asked_and_nothing_ends() -> None:
    world = World(post(1))
    world.away = True
    assert world.round() == 0
    world.away = False
    assert world.round() == 1
