"""Mission Control in a real Chromium: a hundred cards by keyboard, two browsers at one card, an undo in time."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from chimera.control.accounts import Accounts
from chimera.events.records import HumanApproved
from chimera.stack.addresses import control_url
from tests.e2e.house import House

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the system's package chromium"),
    pytest.mark.timeout(400),
]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CARDS = 100
APPROVERS = {"publish": ["ann", "ben"], "paid": ["ann", "ben"], "financial": ["ann", "ben"]}
"""Of a tenant of their own: the other tests' cards are not theirs to see."""
KEYS = {"a": "HumanApproved", "r": "HumanRejected"}
PICTURES = os.environ.get("CHIMERA_PICTURES")
"""Where pictures of the pages are kept, for the docs (`docs/pictures`)."""


@pytest.fixture(scope="module")
def names(house: House) -> list[str]:
    """Agents with a hundred and more cards, an approval of which may be undone for a while."""
    names = house.enrol("hundred", 13, approve_above=1.0, undo_s=30, frequency={}, approvers=APPROVERS, tenant="browsed")
    house.start(house.brief("A hundred to decide", 8), names)
    house.until(lambda: house.resting(names) and len(house.cards(names)) >= CARDS, "a hundred cards wait", 240)
    house.until_projected()
    accounts = Accounts(house.home)
    for person in APPROVERS["publish"]:
        accounts.put(person, {"browsed": ["moderator"]})
    return names


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


def signed_in(house: House, chromium: Any, person: str) -> Any:
    """A page of a browser of its own where that person has come in by a link. What its console says against us is kept."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto(f"{control_url(house.home)}/enter/{Accounts(house.home).link(person)}")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#card")
    return page


def pictures(page: Any, name: str) -> None:
    """How a page looks now: light, dark, and on a telephone. The page is left as it was."""
    page.screenshot(path=Path(PICTURES or ".") / f"{name}.png")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=Path(PICTURES or ".") / f"{name}-dark.png")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 360, "height": 800})
    page.screenshot(path=Path(PICTURES or ".") / f"{name}-360.png")
    page.set_viewport_size({"width": 1280, "height": 900})


def heap_mb(page: Any) -> float:
    """The page's script heap after a collection, in megabytes."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    found = {row["name"]: row["value"] for row in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return float(found["JSHeapUsedSize"]) / 1e6


def open_card(page: Any) -> str:
    return str(page.locator("#card h2").inner_text()).split()[0]


def test_a_hundred_cards_are_cleared_by_keyboard_and_each_decision_is_in_the_log(
    house: House, chromium: Any, names: list[str]
) -> None:
    # given a moderator at the desk
    page = signed_in(house, chromium, "ann")
    if PICTURES:
        pictures(page, "review")
    decided: dict[str, str] = {}
    heap: list[float] = []

    # when the hands stay on the keyboard
    for n in range(CARDS):
        at = open_card(page)
        assert at not in decided
        page.keyboard.press("a" if n % 3 else "r")
        if n % 3 == 0:
            page.wait_for_selector("#rejecting:not([hidden])")
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
    assert all(cast(HumanApproved, record.data).shown_hash for record in mine)
    assert page.wrong == []
    # and what eighty cards left behind in the browser is nothing
    assert heap[1] < 1.5 * heap[0] + 1, heap


def test_of_two_browsers_at_one_card_one_decides_and_the_other_is_told_without_asking(
    house: House, chromium: Any, names: list[str]
) -> None:
    ann, ben = signed_in(house, chromium, "ann"), signed_in(house, chromium, "ben")
    at = open_card(ann)
    ben.goto(f"{control_url(house.home)}/review?card={at}")
    before = int(ben.locator(".filters b").first.inner_text())
    ann.keyboard.press("a")
    ann.wait_for_selector(".flash.done")

    # the queue of the other moves by itself
    ben.wait_for_function("before => Number(document.querySelector('.filters b').innerText) < before", arg=before)
    # and what they still see before them cannot be decided any more
    ben.keyboard.press("a")
    ben.wait_for_selector(".flash.refused")
    assert at in ben.locator(".flash.refused").inner_text()

    # when the first takes it back in time, it never goes out
    ann.keyboard.press("u")
    ann.wait_for_function("at => document.querySelector('.flash').innerText.includes(at + ' undone')", arg=at)
    house.service.catch_up()
    assert [seen for seen in house.records("EffectWithdrawn", names) if seen.record.actor == "ann"]


@pytest.mark.parametrize("path", ["/review", "/fleet", "/agent/{name}"])
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_is_wider_than_its_screen(house: House, chromium: Any, names: list[str], path: str, width: int) -> None:
    page = signed_in(house, chromium, "ben")
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(control_url(house.home) + path.format(name=names[0]))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if PICTURES and width == 1280 and path != "/review":
        page.screenshot(path=Path(PICTURES) / f"{path.split('/')[1]}.png")
