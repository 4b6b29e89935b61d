"""Mission Control in a real Chromium: a hundred cards of every kind by keyboard, two browsers at one card, an undo in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from chimera.control.accounts import Accounts
from chimera.events.records import EffectEnded, EffectWithdrawn, HumanApproved
from chimera.stack.addresses import control_url
from tests.browsing import NEEDED, PICTURES, a_chromium, heap_mb, pictures, signed_in
from tests.e2e.house import House, accounts

pytestmark = [NEEDED, pytest.mark.timeout(400)]
CARDS = 100
APPROVERS = {"publish": ["ann", "ben"], "paid": ["ann", "ben"], "financial": ["ann", "ben"]}
"""Of a tenant of their own: the other tests' cards are not theirs to see."""
KEYS = {"a": "HumanApproved", "r": "HumanRejected"}
PASSWORD = "rhubarb and ginger"
PAYEE = "0x" + "22" * 20
POST = "1840000000000000000"
BOOSTS = [("small", 1), ("small", 3), ("small", 7), ("medium", 1), ("large", 1)]
PAYMENTS = ["0.1", "0.2", "0.3", "0.4", "0.5"]


@pytest.fixture(scope="module")
def names(house: House) -> list[str]:
    """Agents with a hundred and more cards, which may be undone for long; beside them one whose posts go out at once. One of them
    asks for money: to boost posts, which costs some, and to pay somebody for the first time, which takes two people."""
    names = house.enrol("hundred", 12, approve_above=1.0, undo_s=7200, frequency={}, approvers=APPROVERS, tenant="browsed")
    house.start(house.brief("A hundred to decide", 8), names)
    swift = house.enrol("swift", 1, approve_above=1.0, undo_s=0, approvers=APPROVERS, tenant="swift")
    house.start(house.brief("At once", 1), swift)
    names += spenders(house)
    house.until(lambda: house.resting(names) and len(house.cards(names)) >= CARDS, "a hundred cards wait", 240)
    house.until(lambda: house.cards(swift), "there is something to publish")
    house.until_projected()
    accounts = Accounts(house.home)
    for person in APPROVERS["publish"]:
        accounts.put(person, {"browsed": ["finance"], "swift": ["moderator"]}, PASSWORD)
    return names


def spenders(house: House) -> list[str]:
    """An agent whose cards cost money or move it; its name."""
    house.done("tenant", "create", "browsed")
    house.done("budget", "set", "tenant", "10000", "--tenant", "browsed")
    house.done("payee", "allow", PAYEE, "--tenant", "browsed")
    tiers = [{"amount_usd": "1", "people": 1}]
    (name,) = house.enrol("spender", 1, tenant="browsed", undo_s=7200, amount_tiers=tiers, approvers=APPROVERS)
    house.done("account", "link", name, f"wallet/{name}")
    for tier, days in BOOSTS:
        house.done("post", "boost", name, POST, "--platform", "x", "--tier", tier, "--days", days, "--reason", "the best one")
    for amount in PAYMENTS:
        house.done("wallet", "transfer", "--agent", name, "--to", PAYEE, "--amount", amount, "--asset", "eth", "--reason", "rent")
    return [name]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with a_chromium() as browser:
        yield browser


def open_card(page: Any) -> str:
    return str(page.locator("#card h2").inner_text()).split()[0]


def a_post(house: House, names: list[str]) -> str:
    """A card that waits and costs nothing, as the log is now."""
    house.service.catch_up()
    return next(str(card.address) for card in house.cards(names) if card.effect.effect_class == "publish")


def kind_of_card(page: Any) -> str:
    return str(page.locator("#card .badge").first.inner_text())


def press(page: Any, key: str) -> None:
    """A key that decides; where money takes a password, it leads there, and decides when that is typed."""
    page.keyboard.press(key)
    if page.evaluate("document.activeElement.id") == "password":
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Escape")
        page.keyboard.press(key)


def test_a_hundred_cards_are_cleared_by_keyboard_and_each_decision_is_in_the_log(
    house: House, chromium: Any, names: list[str]
) -> None:
    # given a moderator at the desk
    page = signed_in(house.home, chromium, "ann")
    page.goto(f"{control_url(house.home)}/review?tenant=browsed")
    pictures(page, "review")
    decided: dict[str, str] = {}
    kinds: Counter[str] = Counter()
    asked = 0
    heap: list[float] = []
    loaded: list[str] = []
    page.on("framenavigated", lambda frame: loaded.append(frame.url))

    # when the hands stay on the keyboard
    for n in range(CARDS):
        at = open_card(page)
        assert at not in decided
        kinds[kind_of_card(page)] += 1
        asked += page.locator("#password").count()
        press(page, "a" if n % 3 else "r")
        if n % 3 == 0:
            page.locator("#rejecting:not([hidden])").wait_for()  # a handle of it would keep the whole card in the heap
            page.keyboard.press(str(1 + n % 6))
            page.keyboard.press("Enter")
        page.wait_for_function("at => document.querySelector('.flash.done')?.innerText.startsWith(at)", arg=at)
        decided[at] = KEYS["a" if n % 3 else "r"]
        if n in (19, CARDS - 1):
            heap.append(heap_mb(page))

    # then each decision is in the log once, by this person, of what was shown to them
    house.service.catch_up()
    mine = [seen.record for kind in KEYS.values() for seen in house.records(kind, names) if seen.record.actor == "ann"]
    assert Counter(record.type for record in mine) == Counter(decided.values())
    for record in mine:
        said = cast(HumanApproved, record.data)
        assert all((said.effect_hash, said.shown_hash, said.policy_edition)), said
    assert len({cast(HumanApproved, record.data).shown_hash for record in mine}) == CARDS
    assert page.wrong == []
    # and money was among it, for which the password was asked once
    assert (kinds["paid"], kinds["financial"], asked) == (len(BOOSTS), len(PAYMENTS), 1), (kinds, asked)
    # and however soon a key followed, the page stayed: the card was alive as soon as it was there
    assert loaded == []
    # and what eighty cards left behind in the browser is nothing
    assert heap[1] < 1.5 * heap[0] + 1, heap


def test_what_was_fetched_ahead_is_decided_by_the_login_that_a_password_begins(
    house: House, chromium: Any, names: list[str]
) -> None:
    # given a card that moves money, and the next one fetched ahead of the password
    page = signed_in(house.home, chromium, "ben")
    with page.expect_response(lambda answer: "/review?" in answer.url and answer.request.resource_type == "fetch"):
        page.goto(f"{control_url(house.home)}/review?tenant=browsed&kind=financial")
    first = open_card(page)

    # when the password is shown to hold the first, and the second is decided
    press(page, "h")
    page.wait_for_selector(".flash.done")
    page.locator("#queue a[data-card]").first.click()  # what is held stands behind the others
    page.wait_for_function("at => !document.querySelector('#card h2').innerText.startsWith(at)", arg=first)
    second = open_card(page)
    press(page, "a")

    # then it counts
    page.wait_for_function("at => document.querySelector('.flash.done')?.innerText.startsWith(at)", arg=second)


def test_of_two_browsers_at_one_card_one_decides_and_the_other_is_told_without_asking(
    house: House, chromium: Any, names: list[str]
) -> None:
    ann, ben = signed_in(house.home, chromium, "ann"), signed_in(house.home, chromium, "ben")
    at = a_post(house, names)
    ann.goto(f"{control_url(house.home)}/review?tenant=browsed&card={at}")
    ben.goto(f"{control_url(house.home)}/review?tenant=browsed&card={at}")
    before = int(ben.locator(".filters b").first.inner_text())
    ann.keyboard.press("a")
    ann.wait_for_selector(".flash.done")

    # the queue of the other moves by itself
    ben.wait_for_function("before => Number(document.querySelector('.filters b').innerText) < before", arg=before)
    # and what they still see before them cannot be decided any more
    ben.keyboard.press("a")
    ben.wait_for_selector(".flash.refused")
    assert at in ben.locator(".flash.refused").first.inner_text()


def test_what_is_approved_is_on_the_platform_and_what_is_undone_in_time_never_is(
    house: House, chromium: Any, names: list[str]
) -> None:
    # given a card of an agent whose policy gives time to undo, which is approved and taken back
    page = signed_in(house.home, chromium, "ben")
    taken = a_post(house, names)
    page.goto(f"{control_url(house.home)}/review?tenant=browsed&card={taken}")
    page.keyboard.press("a")
    page.wait_for_selector("#tray form.undo")
    page.keyboard.press("u")
    page.wait_for_function("at => document.querySelector('.flash').innerText.includes(at + ' undone')", arg=taken)

    # when one of an agent is approved whose policy gives none
    page.goto(f"{control_url(house.home)}/review?tenant=swift")
    page.keyboard.press("a")
    page.wait_for_selector(".flash.done")
    house.until(lambda: house.records("EffectEnded", ["swift0"]), "what was approved is published", 240)

    # then that one is on the timeline, and the other was never sent
    (end,) = [cast(EffectEnded, seen.record.data) for seen in house.records("EffectEnded", ["swift0"])]
    assert [str(id_) for (id_,) in house.platform("SELECT id FROM posts WHERE account = 'swift0_x'")] == [end.platform_id]
    (gone,) = [seen.record for seen in house.records("EffectWithdrawn", names) if seen.record.actor == "ben"]
    assert not house.calls(accounts(names))[cast(EffectWithdrawn, gone.data).effect_hash]


@pytest.mark.parametrize("path", ["/review", "/fleet", "/agent/{name}"])
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_is_wider_than_its_screen(house: House, chromium: Any, names: list[str], path: str, width: int) -> None:
    page = signed_in(house.home, chromium, "ben")
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(control_url(house.home) + path.format(name=names[0]))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if PICTURES and width == 1280 and path != "/review":
        page.screenshot(path=Path(PICTURES) / f"{path.split('/')[1]}.png")
