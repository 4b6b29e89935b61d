"""Follow-ups: what a brief asks for after a post went out is planned, waits, is written in its thread, or is not wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from chimera.events import records as rec
from chimera.events.records import Taint
from chimera.mcp.sandbox.timeline import Post, Timeline
from chimera.mcp.sandbox.x import XSandbox
from chimera.policy.boardkit import load_text
from chimera.policy.brief import FOLLOW_UP, Brief, FollowUp, load_brief
from chimera.policy.writing import DraftRequest
from chimera.processors import follow_ups
from chimera.processors.planner import Standing, place_of, rows_for
from tests.swarmhouse import PROFILES, SwarmHouse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOUL = load_text(sorted((EXAMPLES / "souls").glob("*.md"))[0])
POLICY = load_text(EXAMPLES / "AGENTS.md")
UNTROUBLED = POLICY.replace("sensitive: {health: health, finance: finance, politics: politics}", "sensitive: {}")
TRUSTING = UNTROUBLED.replace("approve_above: 0.90", "approve_above: 0.60").replace("people_from: 0.70", "people_from: 0.50")
BRIEF = load_brief(EXAMPLES / "briefs/autumn.yaml")
AGENT, ACCOUNT = "agent/one", "one"
HOUR = 3_600_000


def brief_with(wish: FollowUp | None, formats: int = 1) -> Brief:
    """The example's brief; its first text is followed up as wished."""
    first, *others = BRIEF.formats[:formats]
    return BRIEF.model_copy(update={"formats": [first.model_copy(update={"follow_up": wish}), *others]})


@pytest.fixture
def x(tmp_path: Path) -> Iterator[Timeline]:
    timeline = Timeline(tmp_path / "x")
    yield timeline
    timeline.close()


def house_on(x: Timeline, wish: FollowUp, taint: Taint | None = None, policy: str = TRUSTING) -> SwarmHouse:
    """An agent whose post has gone out."""
    house = SwarmHouse(EXAMPLES, policy, x=XSandbox(x), taint=taint)
    house.enrol(AGENT, SOUL, brief_with(wish), ACCOUNT)
    act(house)
    return house


def act(house: SwarmHouse, after_ms: int = 0) -> None:
    """So much later everybody does what they owe, and what is approved goes out."""
    house.later += after_ms
    asyncio.run(house.run())
    asyncio.run(house.go_out())
    asyncio.run(house.run())


def posts(x: Timeline) -> list[Post]:
    """Oldest first."""
    return x.posts()[::-1]


def asked(house: SwarmHouse) -> list[DraftRequest]:
    return [request for _, request in house.asked if isinstance(request, DraftRequest)]


def open_campaigns(house: SwarmHouse) -> list[int]:
    return list(house.agents[AGENT].campaigns)


# --- the plan --------------------------------------------------------------------------------------------------------


def test_a_follow_up_is_planned_with_the_post_it_follows_and_waits_for_it() -> None:
    rows = rows_for(brief_with(FollowUp(after_hours=2)), 1, 1)
    assert [(r.ordinal, r.kind, r.depends_on, r.wait_ms) for r in rows] == [
        (1, "research", [], 0),
        (2, "angles", [1], 0),
        (3, "draft", [2], 0),
        (4, "publish", [3], 0),
        (5, "draft", [2, 4], 2 * HOUR),
        (6, "publish", [5, 4], 0),
    ]
    assert [r.title for r in rows[4:]] == ["Write a follow-up of the post for x", "Publish the follow-up of the post on x"]
    assert len({r.inputs["index"] for r in rows if r.kind == "draft"}) == 2, "it starts with an angle of its own"


def test_a_brief_without_follow_ups_is_planned_as_ever() -> None:
    rows = rows_for(brief_with(None, 3), 1, 1)
    texts = [(kind, [o]) for after in (3, 5, 7) for kind, o in (("draft", 2), ("publish", after))]
    assert [(r.kind, r.depends_on) for r in rows[2:]] == texts


def test_where_the_post_is_out_already_a_new_brief_plans_the_follow_up_from_when_it_went_out() -> None:
    wish = FollowUp(after_hours=2)
    out = Standing({("publish", "x", "post"): 4}, {4: 1_000})
    rows = rows_for(brief_with(wish), 1, 7, out)
    assert [(r.ordinal, r.kind, r.depends_on, r.wait_ms, r.not_before) for r in rows] == [
        (7, "research", [], 0, 0),
        (8, "angles", [7], 0, 0),
        (9, "draft", [8, 4], 0, 2 * HOUR + 1_000),
        (10, "publish", [9, 4], 0, 0),
    ]


def test_a_follow_up_that_stands_is_not_planned_twice() -> None:
    wish = FollowUp(after_hours=2)
    (draft, publish) = (place_of(kind, {"platform": "x", "format": "post", FOLLOW_UP: {}}) for kind in ("draft", "publish"))
    both = {("publish", "x", "post"): 4, publish: 6}
    assert rows_for(brief_with(wish), 1, 7, Standing(both, {4: 1_000, 6: 2_000})) == []
    half = {("publish", "x", "post"): 4, draft: 5}
    assert [(r.kind, r.depends_on) for r in rows_for(brief_with(wish), 1, 7, Standing(half, {4: 1_000}))] == [("publish", [5, 4])]


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"after_hours": 0}, "greater than 0"),
        ({"after_hours": 2, "until_hours": 3}, "name them in at_least"),
        ({"after_hours": 2, "until_hours": 1, "at_least": {"likes": 1}}, "before after_hours"),
        ({"after_hours": 2, "at_least": {"hearts": 1}}, "Input should be 'likes'"),
        ({"after_hours": 2, "at_least": {"likes": 0}}, "greater than 0"),
    ],
)
def test_a_wish_that_could_never_be_met_is_refused_where_the_brief_is_read(wish: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        FollowUp.model_validate(wish)


# --- in the swarm ----------------------------------------------------------------------------------------------------


def test_so_many_hours_after_the_post_its_follow_up_stands_in_its_thread_and_says_something_else(x: Timeline) -> None:
    house = house_on(x, FollowUp(after_hours=2))
    [first] = posts(x)
    act(house, 2 * HOUR - 60_000)
    assert len(posts(x)) == 1, "not a minute before"
    assert open_campaigns(house) == [1], "the campaign waits for it"

    act(house, 60_000)
    [_, second] = posts(x)
    assert (second.account, second.reply_to, second.conversation) == (ACCOUNT, first.id, first.id)
    assert second.text != first.text
    request = asked(house)[-1]
    assert first.text in request.used_texts
    assert any(first.text in line for line in request.feedback)
    assert open_campaigns(house) == []


def test_a_follow_up_passes_as_a_post_and_not_as_an_answer_to_a_stranger(x: Timeline) -> None:
    house = house_on(x, FollowUp(after_hours=2))
    act(house, 2 * HOUR)
    effect = house.proposals()[-1]
    assert (effect.capability, effect.thread) == ("social.reply", None), "the policy's class `reply` is for answers"


def test_what_is_liked_enough_is_followed_up_and_looked_at_once_only(x: Timeline) -> None:
    house = house_on(x, FollowUp(after_hours=2, at_least={"likes": 2, "replies": 1}, until_hours=10))
    [first] = posts(x)
    for person in ("mia", "otto"):
        x.once(person, None, "like", {"by": person}, lambda person=person: {"like": x.like(person, first.id)})
    x.once("mia", None, "post", {}, lambda: {"id": x.post("mia", "lovely", first.id, {}).id})
    act(house, 2 * HOUR)
    assert [post.reply_to for post in posts(x) if post.account == ACCOUNT] == [None, first.id]
    assert not [r for r in house.records if isinstance(r.data, rec.WorkFailed)]


def test_what_nobody_likes_is_looked_at_a_few_times_and_then_let_be_as_nobodys_failure(x: Timeline) -> None:
    house = house_on(x, FollowUp(after_hours=2, at_least={"likes": 2}, until_hours=10))
    for _ in range(20):
        act(house, HOUR)
    assert len(posts(x)) == 1
    looks = [r.data for r in house.records if isinstance(r.data, rec.WorkFailed)]
    assert {look.reason for look in looks} == {"not followed up: 0 of 2 likes"}
    assert [look.needless for look in looks] == [False] * (len(looks) - 1) + [True]
    assert follow_ups.LOOKS <= len(looks) <= follow_ups.LOOKS + 1
    closed = [c for ruling in house.rulings for c in ruling.changes if (c.what, c.status) == ("task", "closed")]
    assert [(c.ordinal, c.reason) for c in closed] == [(5, "needless"), (6, "dependency")]
    assert open_campaigns(house) == []


def test_the_first_look_that_finds_enough_writes_it(x: Timeline) -> None:
    house = house_on(x, FollowUp(after_hours=2, at_least={"likes": 1}, until_hours=10))
    act(house, 3 * HOUR)
    assert len(posts(x)) == 1
    x.once("mia", None, "like", {}, lambda: {"like": x.like("mia", posts(x)[0].id)})
    act(house, 2 * HOUR)
    assert len(posts(x)) == 2


def test_nothing_follows_by_another_account_than_the_one_that_posted(x: Timeline) -> None:
    house = house_on(x, FollowUp(after_hours=2))
    number = house.agents[AGENT].command_no + 1
    house.add(AGENT, rec.AccountLinked(command_no=number, platform="x", account="other"), "dee")
    act(house, 2 * HOUR)
    assert len(posts(x)) == 1
    [why] = [r.data for r in house.records if isinstance(r.data, rec.WorkFailed)]
    assert (why.needless, "another account" in why.reason) == (True, True)


def test_a_post_that_was_taken_down_is_not_followed_up_and_nobody_failed(x: Timeline) -> None:
    house = house_on(x, FollowUp(after_hours=2, at_least={"likes": 1}, until_hours=10))
    [first] = posts(x)
    x.once(ACCOUNT, None, "delete", {}, lambda: {"gone": x.delete(ACCOUNT, first.id)})
    act(house, 3 * HOUR)
    [why] = [r.data for r in house.records if isinstance(r.data, rec.WorkFailed)]
    assert (why.needless, "not_found" in why.reason) == (True, True)
    assert open_campaigns(house) == []


def test_a_post_that_people_refused_is_not_followed_up(x: Timeline) -> None:
    shadow = POLICY.replace("boardkit: 1\n", "boardkit: 1\nshadow: true\n")
    house = house_on(x, FollowUp(after_hours=2), policy=shadow)
    [(_, effect)] = house.standing()
    place = {"campaign": 1, "ordinal": 4, "attempt": 1, "policy_edition": 1}
    house.add(AGENT, rec.HumanRejected(**place, effect_hash=effect.hash, reason_code="other"), "kim")
    act(house, 3 * HOUR)
    assert (posts(x), open_campaigns(house)) == ([], [])


# --- the parts -------------------------------------------------------------------------------------------------------


def test_looks_are_spread_over_the_time_and_the_last_is_at_its_end() -> None:
    wish = FollowUp(after_hours=2, at_least={"likes": 1}, until_hours=10)
    assert follow_ups.look_again_at(wish, 0, 2 * HOUR) == 3 * HOUR
    assert follow_ups.look_again_at(wish, 0, 10 * HOUR - 1) == 10 * HOUR
    assert follow_ups.look_again_at(wish, 0, 10 * HOUR) is None
    once = FollowUp(after_hours=2, at_least={"likes": 1})
    assert follow_ups.look_again_at(once, 0, 2 * HOUR) is None


def test_all_numbers_must_be_there_and_one_that_the_platform_does_not_tell_is_none() -> None:
    wish = FollowUp(after_hours=2, at_least={"likes": 3, "replies": 1})
    assert follow_ups.lacking(wish, {"likes": 3, "replies": 1}) == []
    assert follow_ups.lacking(wish, {"likes": 2, "replies": 1}) == ["2 of 3 likes"]
    assert follow_ups.lacking(wish, {"likes": 9}) == ["0 of 1 replies"]


def test_a_platform_that_knows_no_answers_gets_the_follow_up_as_a_post_of_its_own() -> None:
    assert follow_ups.in_thread(PROFILES, "x", "7") == ("social.reply", {"in_reply_to": "7"})
    assert follow_ups.in_thread(PROFILES, "x", None) is None
    assert follow_ups.in_thread(PROFILES, "nowhere", "7") is None
