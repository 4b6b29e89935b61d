"""The review desk on cards put on the log by hand: votes, batches, media, races, and calls whose end nobody knows."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from chimera.control import media
from chimera.control.accounts import Accounts
from chimera.events import records as rec
from chimera.media.place import open_media
from chimera.media.store import Asset
from chimera.stack.addresses import media_url
from tests.desk import Person, desk_of, flash
from tests.integration.deskstage import APPROVERS, Desk, open_desk

Comes = Callable[..., Person]
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


@pytest.fixture(scope="module")
def desk(kafka_bootstrap: str, postgres_dsn: str) -> Iterator[Desk]:
    with open_desk(kafka_bootstrap, postgres_dsn) as opened:
        yield opened


@pytest.fixture(scope="module")
def served(desk: Desk) -> Iterator[TestClient]:
    with desk_of(desk.stage.home, desk.dsn) as client:
        yield client


@pytest.fixture
def person(desk: Desk, served: TestClient) -> Comes:
    """Somebody signed in, once the read models know all that was done before."""

    def comes(name: str, **how: bool) -> Person:
        desk.projected()
        return Person(desk.stage.home, served, name, **how)

    return comes


# --- several people, money ---------------------------------------------------------------------------------------------


def test_where_two_people_are_asked_the_card_tells_who_has_voted_and_whom_it_waits_for(desk: Desk, person: Comes) -> None:
    key = desk.agent(people={"publish": 2})
    at = desk.card(key)
    kim, lee = person("kim"), person("lee")
    # when the first votes
    first = kim.decides(at, "approve")
    # then it stays, and both see what is still needed
    assert flash(first.text) == f"done: {at} approved by kim; it waits for 1 more"
    assert "✓ kim (you)" in kim.page(at)
    assert "You have approved it already" in kim.page(at)
    assert "✓ kim</span>" in lee.page(at)
    assert "1 more of lee" in lee.page(at)
    # and with the second vote it is decided, and can be undone for as long as the policy says
    second = lee.decides(at, "approve")
    assert 'data-left="30000"' in second.text
    assert [actor for actor, _ in desk.said(key, rec.HumanApproved)] == ["kim", "lee"]


def test_money_asks_for_the_password_on_the_card_and_keeps_what_was_typed(desk: Desk, person: Comes) -> None:
    key = desk.agent(approvers={**APPROVERS, "paid": ["fin"]})
    at = desk.card(key, effect_class="paid")
    fin = person("fin", fresh=False)
    page = fin.page(at)
    assert 'name="password"' in page
    # without one, or with a wrong one, nothing is decided and the comment stays
    for typed in ({}, {"password": "not the word"}):
        tried = fin.decides(at, "approve", page, comment="within budget", **typed)
        assert tried.status_code == 401
        assert 'value="within budget"' in tried.text
        assert desk.said(key, rec.HumanApproved) == []
    # with it, the decision counts at once, and the login is another one that needs none for five minutes
    before = fin.client.cookies.get("__Host-chimera")
    done = fin.decides(at, "approve", page, comment="within budget", password="fin's long password")
    assert done.status_code == 200, done.text
    assert fin.client.cookies.get("__Host-chimera") != before
    ((actor, vote),) = desk.said(key, rec.HumanApproved)
    assert (actor, vote.comment) == ("fin", "within budget")


# --- several cards at once ---------------------------------------------------------------------------------------------


def test_like_cards_that_were_each_opened_are_decided_at_once_each_by_its_own_digest(desk: Desk, person: Comes) -> None:
    key = desk.agent(3)
    cards = [desk.card(key, n) for n in (1, 2, 3)]
    kim = person("kim")
    shown = {re.search(r'name="shown_hash" value="([^"]+)"', kim.page(at))[1] for at in cards}  # type: ignore[index]
    answer = kim.decides_all(cards, "approve")
    assert flash(answer.text) == "done: 3 of 3 cards approved by kim"
    assert all(f">{at}</a> approved" in answer.text for at in cards)
    assert {vote.shown_hash for _, vote in desk.said(key, rec.HumanApproved)} == shown


@pytest.mark.parametrize(
    ("policy", "effect", "opened", "because"),
    [
        ({}, {}, 1, "was not opened in this login"),
        ({}, {"effect_class": "paid"}, 2, "may not decide on money"),
        ({"shadow": False, "approve_above": 0.99}, {}, 2, "they are not alike"),
    ],
    ids=["not-opened", "money", "unlike"],
)
def test_what_is_not_alike_low_in_risk_and_opened_is_decided_one_by_one(
    desk: Desk, person: Comes, policy: dict[str, Any], effect: dict[str, Any], opened: int, because: str
) -> None:
    key, other = desk.agent(), desk.agent(**policy)
    cards = [desk.card(key), desk.card(other, **effect)]
    kim = person("kim")
    for at in cards[:opened]:
        kim.page(at)
    answer = kim.decides_all(cards, "reject", reason_code="off_brand")
    assert answer.status_code in (403, 409)
    assert because in unescape(answer.text)
    assert desk.said(key, rec.HumanRejected) == desk.said(other, rec.HumanRejected) == []


def test_of_several_cards_one_that_somebody_else_decided_meanwhile_is_told_and_the_others_count(desk: Desk, person: Comes) -> None:
    key = desk.agent(2)
    cards = [desk.card(key, n) for n in (1, 2)]
    kim, lee = person("kim"), person("lee")
    for at in cards:
        kim.page(at)
    lee.decides(cards[0], "approve")
    desk.projected()
    answer = kim.decides_all(cards, "approve")
    assert "1 of 2 cards approved by kim" in flash(answer.text)
    assert f"{cards[0]} was approved by lee at" in answer.text


# --- races -------------------------------------------------------------------------------------------------------------


def test_a_lost_race_says_who_decided_and_when_and_keeps_what_was_typed(desk: Desk, person: Comes) -> None:
    key = desk.agent()
    at = desk.card(key)
    kim, lee = person("kim"), person("lee")
    mine = kim.page(at)
    lee.decides(at, "reject", reason_code="unsafe")
    desk.projected()
    late = kim.decides(at, "edit", mine, text="Better words that took me long", comment="kept")
    assert late.status_code == 409
    assert f"{at} was rejected by lee at" in flash(late.text)
    for kept in ("Better words that took me long", ">kept</textarea>"):
        assert kept in late.text
    assert 'id="desk"' in late.text


def test_people_at_the_same_card_see_each_other_and_learn_that_it_is_decided(desk: Desk, person: Comes) -> None:
    key = desk.agent()
    at = desk.card(key)
    kim, lee = person("kim"), person("lee")

    def looks(who: Person) -> str:
        shown = re.search(r"looking\?shown=(\w+)", pages[who])
        assert shown is not None
        return str(who.client.get(f"/review/{at}/looking", params={"shown": shown[1]}).text)

    pages = {who: who.page(at) for who in (kim, lee)}
    assert "looks at this card too" not in looks(kim)
    assert "kim looks at this card too" in looks(lee)
    assert "lee looks at this card too" in looks(kim)
    kim.decides(at, "reject", reason_code="timing")
    desk.projected()
    assert "its task was closed (rejected)" in looks(lee)


# --- media -------------------------------------------------------------------------------------------------------------


def test_words_and_media_on_the_page_are_those_of_the_rendered_arguments_byte_by_byte(desk: Desk, person: Comes) -> None:
    # given a card that shows a picture
    asset = asyncio.run(kept(desk.stage.home))
    key = desk.agent()
    url = f"https://media.sandbox.invalid/{asset.name}"
    words = "Soup with <b>thyme</b> & #salt"
    inputs = {"text": words, "disclosure_level": "automated", "image_url": url}
    proposal = desk.stage.approve(key, 1, words, inputs=inputs, becomes="people", asset_hashes=[asset.sha256])
    at = f"{desk.stage.agent(key).name}/1.1.1"
    # when it is shown
    page = person("kim").page(at)
    # then the words are those that would leave
    drawn = re.search(r'id="words">(.*?)</p>', page, re.DOTALL)
    assert drawn is not None
    assert unescape(re.sub(r"<[^>]+>", "", drawn[1])) == proposal.arguments["text"] == words
    # and the bytes behind the picture have the hash that the arguments name
    shown = re.search(r'<img src="([^"]+)"', page)
    assert shown is not None
    address = unescape(shown[1])
    assert address.startswith(media_url(desk.stage.home))
    home = desk.stage.home
    listener = TestClient(media.application(open_media(home), Accounts(home), media.Links(home, media_url(home))))
    body = listener.get(address).content
    assert proposal.arguments["media"]["media_ids"] == [f"https://media.sandbox.invalid/{hashlib.sha256(body).hexdigest()}.png"]


async def kept(home: Path) -> Asset:
    async def whole() -> AsyncIterator[bytes]:
        yield PICTURE

    return await open_media(home).put(whole())


# --- calls whose end nobody knows --------------------------------------------------------------------------------------


def lost(desk: Desk, person: Comes, key: str) -> str:
    """A card whose call was sent and never answered."""
    at = desk.card(key)
    person("kim").decides(at, "approve")
    desk.lose(key)
    return at


def test_an_unknown_call_is_settled_by_a_person_who_says_what_they_saw_and_where(desk: Desk, person: Comes) -> None:
    key = desk.agent(undo_ms=0)
    at = lost(desk, person, key)
    kim = person("kim")
    assert at in kim.page(kind="unknown")
    page = kim.page(at)
    assert "Nobody knows how this call ended" in page
    # when something is left out, it is said, and the rest stays typed
    tried = kim.decides(at, "resolve", page, outcome="executed", evidence="Seen at https://x.example/77.")
    assert "has an id on the platform" in flash(tried.text)
    assert "Seen at https://x.example/77." in tried.text
    assert kim.decides(at, "resolve", page, outcome="executed", platform_id="77").status_code == 409
    # when it is complete, the log holds the proof, who brought it, and the link
    done = kim.decides(at, "resolve", page, outcome="executed", platform_id="77", evidence="Seen at https://x.example/77.")
    assert flash(done.text) == f"done: {at} settled by kim"
    ((actor, end),) = desk.said(key, rec.EffectEnded)
    assert (actor, end.outcome, end.platform_id, end.url) == ("kim", "executed", "77", "https://x.example/77")
    assert end.proof == {"kind": "person", "by": "kim", "finding": "Seen at https://x.example/77."}


def test_what_is_not_on_the_platform_goes_back_and_is_sent_again(desk: Desk, person: Comes) -> None:
    key = desk.agent(undo_ms=0, grace_ms=0)
    at = lost(desk, person, key)
    kim = person("kim")
    assert (
        flash(kim.decides(at, "resolve", outcome="not_executed", evidence="Not on the page").text) == f"done: {at} settled by kim"
    )
    ((_, end),) = desk.said(key, rec.EffectEnded)
    assert (end.outcome, desk.stage.effect(key, 1).status) == ("not_executed", "approved")


def test_who_only_looks_settles_nothing(desk: Desk, person: Comes) -> None:
    key = desk.agent(undo_ms=0)
    at = lost(desk, person, key)
    eye = person("eye")
    assert 'id="resolve"' not in eye.page(at)
    assert eye.decides(at, "resolve", outcome="refused", evidence="no").status_code == 403
    assert desk.said(key, rec.EffectEnded) == []


# --- what cannot be asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["all", "unknown"])
def test_an_empty_queue_says_so(desk: Desk, person: Comes, kind: str) -> None:
    page = person("kim").page(kind=kind, agent="nobody")
    assert "Nothing of this waits" in page
