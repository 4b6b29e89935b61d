"""The review desk on cards put on the log by hand: votes, batches, media, races, and calls whose end nobody knows."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from html import unescape
from pathlib import Path
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from chimera.commands import wiring
from chimera.commands.keys import ensure_installation, load_installation, log_topics
from chimera.commands.server import serve
from chimera.commands.wiring import open_service
from chimera.control import media
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.read import end_offsets
from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.state import Ruling
from chimera.media.store import Asset, MediaStore
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.settings import Settings
from chimera.stack.addresses import media_url
from tests.conftest import _with_database
from tests.desk import Person, desk_of, flash, people
from tests.integration.stage import Stage

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
APPROVERS = {kind: ["kim", "lee"] for kind in ("publish", "paid", "financial")}


class Desk:
    """A stage with a command service on its socket, read models that are brought up when asked, and the desk before them."""

    def __init__(self, stage: Stage, dsn: str, projector: Projector, served: TestClient) -> None:
        self.stage, self.dsn, self.projector, self.served = stage, dsn, projector, served
        self._named = 0

    def agent(self, tasks: int = 1, **policy: Any) -> str:
        """An agent everything of whom is shown to people, with so many tasks; its stream key."""
        self._named += 1
        key = self.stage.enrol(f"a{self._named}", **{"shadow": True, "approvers": APPROVERS, "undo_ms": 30_000, **policy})
        self.stage.plan(key, tasks)
        return key

    def card(self, key: str, ordinal: int = 1, text: str = "Soup is ready", **effect: Any) -> str:
        """A card that waits; its address."""
        costs = effect.get("effect_class") == "paid"
        self.stage.approve(key, ordinal, f"{text} {uuid.uuid4().hex}", becomes="proposed" if costs else "people", **effect)
        if costs:  # the CFO judge is asked besides
            (*_, (_, vote)) = self.said(key, rec.JudgeVerdict)
            self.stage.say(key, vote.model_copy(update={"judge": "cfo"}), "judge")
        return f"{self.stage.agent(key).name}/1.{ordinal}.1"

    def person(self, name: str, *, fresh: bool = True) -> Person:
        self.projected()
        return Person(self.stage.home, self.served, name, fresh=fresh)

    def projected(self) -> None:
        """The read models stand at the log's end."""
        self.stage.service.catch_up()
        catch_up(self.projector, end_offsets(str(self.stage.settings.kafka), self.stage.topic))

    def said(self, key: str, kind: type[rec.Data]) -> list[tuple[str, Any]]:
        """(actor, data) of the applied records of a type."""
        self.stage.service.catch_up()
        return [
            (record.actor, record.data)
            for record, ruling in self.stage.seen
            if record.key == key and ruling.outcome == "applied" and isinstance(record.data, kind)
        ]


@pytest.fixture(scope="module")
def desk(kafka_bootstrap: str, postgres_dsn: str) -> Iterator[Desk]:
    topic, database = f"desk-{uuid.uuid4().hex[:8]}-chimera.log", f"desk_{uuid.uuid4().hex[:12]}"
    home = Path(tempfile.mkdtemp(prefix="chimera-test-desk-"))
    with ExitStack() as over:
        over.callback(shutil.rmtree, home, ignore_errors=True)
        over.enter_context(pytest.MonkeyPatch.context()).setattr(wiring, "LOG_TOPIC", topic)
        apply(kafka_bootstrap, log_topics(topic))
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"'.encode())
        dsn = _with_database(postgres_dsn, database)
        migrate(dsn)
        settings = Settings(home=home, kafka=kafka_bootstrap, postgres=dsn)
        with Appender(kafka_bootstrap, log_topics(topic), "installer") as appender:
            ensure_installation(settings, appender, kafka_bootstrap, topic)
        stop, ready = threading.Event(), threading.Event()
        pool = over.enter_context(ThreadPoolExecutor(1))
        ended = pool.submit(serve, settings, stop, ready=ready)
        over.callback(stop.set)
        assert ready.wait(60), ended.exception(0)
        seen: list[tuple[Record, Ruling]] = []
        service = over.enter_context(open_service(settings, observe=lambda record, ruling: seen.append((record, ruling))))
        stage = over.enter_context(closing(Stage(home, settings, service, seen, topic)))
        projector = over.enter_context(closing(Projector(kafka_bootstrap, dsn, load_installation(home).root_public, topic=topic)))
        people(home, "acme", {"kim": ["moderator"], "lee": ["moderator"], "fin": ["finance"], "eye": ["viewer"]})
        yield Desk(stage, dsn, projector, over.enter_context(desk_of(home, dsn)))


# --- several people, money ---------------------------------------------------------------------------------------------


def test_where_two_people_are_asked_the_card_tells_who_has_voted_and_whom_it_waits_for(desk: Desk) -> None:
    key = desk.agent(people={"publish": 2})
    at = desk.card(key)
    kim, lee = desk.person("kim"), desk.person("lee")
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


def test_money_asks_for_the_password_on_the_card_and_keeps_what_was_typed(desk: Desk) -> None:
    key = desk.agent(approvers={**APPROVERS, "paid": ["fin"]})
    at = desk.card(key, effect_class="paid")
    fin = desk.person("fin", fresh=False)
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


def test_like_cards_that_were_each_opened_are_decided_at_once_each_by_its_own_digest(desk: Desk) -> None:
    key = desk.agent(3)
    cards = [desk.card(key, n) for n in (1, 2, 3)]
    kim = desk.person("kim")
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
    desk: Desk, policy: dict[str, Any], effect: dict[str, Any], opened: int, because: str
) -> None:
    key, other = desk.agent(), desk.agent(**policy)
    cards = [desk.card(key), desk.card(other, **effect)]
    kim = desk.person("kim")
    for at in cards[:opened]:
        kim.page(at)
    answer = kim.decides_all(cards, "reject", reason_code="off_brand")
    assert answer.status_code in (403, 409)
    assert because in unescape(answer.text)
    assert desk.said(key, rec.HumanRejected) == desk.said(other, rec.HumanRejected) == []


def test_of_several_cards_one_that_somebody_else_decided_meanwhile_is_told_and_the_others_count(desk: Desk) -> None:
    key = desk.agent(2)
    cards = [desk.card(key, n) for n in (1, 2)]
    kim, lee = desk.person("kim"), desk.person("lee")
    for at in cards:
        kim.page(at)
    lee.decides(cards[0], "approve")
    desk.projected()
    answer = kim.decides_all(cards, "approve")
    assert "1 of 2 cards approved by kim" in flash(answer.text)
    assert f"{cards[0]} was approved by lee at" in answer.text


# --- races -------------------------------------------------------------------------------------------------------------


def test_a_lost_race_says_who_decided_and_when_and_keeps_what_was_typed(desk: Desk) -> None:
    key = desk.agent()
    at = desk.card(key)
    kim, lee = desk.person("kim"), desk.person("lee")
    mine = kim.page(at)
    lee.decides(at, "reject", reason_code="unsafe")
    desk.projected()
    late = kim.decides(at, "edit", mine, text="Better words that took me long", comment="kept")
    assert late.status_code == 409
    assert f"{at} was rejected by lee at" in flash(late.text)
    for kept in ("Better words that took me long", ">kept</textarea>"):
        assert kept in late.text
    assert 'id="desk"' in late.text


def test_people_at_the_same_card_see_each_other_and_learn_that_it_is_decided(desk: Desk) -> None:
    key = desk.agent()
    at = desk.card(key)
    kim, lee = desk.person("kim"), desk.person("lee")

    def looks(person: Person) -> str:
        shown = re.search(r"looking\?shown=(\w+)", pages[person])
        assert shown is not None
        return str(person.client.get(f"/review/{at}/looking", params={"shown": shown[1]}).text)

    pages = {person: person.page(at) for person in (kim, lee)}
    assert "looks at this card too" not in looks(kim)
    assert "kim looks at this card too" in looks(lee)
    assert "lee looks at this card too" in looks(kim)
    kim.decides(at, "reject", reason_code="timing")
    desk.projected()
    assert "its task was closed (rejected)" in looks(lee)


# --- media -------------------------------------------------------------------------------------------------------------


def test_words_and_media_on_the_page_are_those_of_the_rendered_arguments_byte_by_byte(desk: Desk) -> None:
    # given a card that shows a picture
    asset = asyncio.run(kept(desk.stage.home))
    key = desk.agent()
    url = f"https://media.sandbox.invalid/{asset.name}"
    words = "Soup with <b>thyme</b> & #salt"
    inputs = {"text": words, "disclosure_level": "automated", "image_url": url}
    proposal = desk.stage.approve(key, 1, words, inputs=inputs, becomes="people", asset_hashes=[asset.sha256])
    at = f"{desk.stage.agent(key).name}/1.1.1"
    # when it is shown
    page = desk.person("kim").page(at)
    # then the words are those that would leave
    drawn = re.search(r'id="words">(.*?)</p>', page, re.DOTALL)
    assert drawn is not None
    assert unescape(re.sub(r"<[^>]+>", "", drawn[1])) == proposal.arguments["text"] == words
    # and the bytes behind the picture have the hash that the arguments name
    shown = re.search(r'<img src="([^"]+)"', page)
    assert shown is not None
    address = unescape(shown[1])
    assert address.startswith(media_url(desk.stage.home))
    listener = TestClient(media.application(desk.stage.home, media.Links(desk.stage.home, media_url(desk.stage.home))))
    body = listener.get(address).content
    assert proposal.arguments["media"]["media_ids"] == [f"https://media.sandbox.invalid/{hashlib.sha256(body).hexdigest()}.png"]


async def kept(home: Path) -> Asset:
    async def whole() -> AsyncIterator[bytes]:
        yield PICTURE

    return await MediaStore(home / "media").put(whole())


# --- calls whose end nobody knows --------------------------------------------------------------------------------------


def lost(desk: Desk, key: str) -> str:
    """A card whose call was sent and never answered."""
    at = desk.card(key)
    desk.person("kim").decides(at, "approve")
    desk.stage.service.catch_up()
    claim = rec.EffectClaimed(
        campaign=1, ordinal=1, attempt=1, effect_hash=desk.stage.effect(key, 1).hash, claim=1, token="t", lease_ms=1
    )
    desk.stage.say(key, claim, "executor")
    desk.stage.say(key, rec.EffectUnknown(campaign=1, ordinal=1, attempt=1, claim=1, token="t", reason="timeout"), "executor")
    return at


def test_an_unknown_call_is_settled_by_a_person_who_says_what_they_saw_and_where(desk: Desk) -> None:
    key = desk.agent(undo_ms=0)
    at = lost(desk, key)
    kim = desk.person("kim")
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


def test_what_is_not_on_the_platform_goes_back_and_is_sent_again(desk: Desk) -> None:
    key = desk.agent(undo_ms=0, grace_ms=0)
    at = lost(desk, key)
    kim = desk.person("kim")
    assert (
        flash(kim.decides(at, "resolve", outcome="not_executed", evidence="Not on the page").text) == f"done: {at} settled by kim"
    )
    ((_, end),) = desk.said(key, rec.EffectEnded)
    assert (end.outcome, desk.stage.effect(key, 1).status) == ("not_executed", "approved")


def test_who_only_looks_settles_nothing(desk: Desk) -> None:
    key = desk.agent(undo_ms=0)
    at = lost(desk, key)
    eye = desk.person("eye")
    assert 'id="resolve"' not in eye.page(at)
    assert eye.decides(at, "resolve", outcome="refused", evidence="no").status_code == 403
    assert desk.said(key, rec.EffectEnded) == []


# --- what cannot be asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["all", "unknown"])
def test_an_empty_queue_says_so(desk: Desk, kind: str) -> None:
    page = desk.person("kim").page(kind=kind, agent="nobody")
    assert "Nothing of this waits" in page
