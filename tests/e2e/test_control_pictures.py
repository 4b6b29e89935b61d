"""The pages beside the review desk in a real Chromium: none is wider than its screen, breaks our own policy, or hides from keys."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chimera.control.accounts import Accounts
from chimera.stack.addresses import control_url
from tests.e2e.house import House
from tests.e2e.pages import Told

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the system's package chromium"),
    pytest.mark.timeout(300),
]
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")
PICTURES = os.environ.get("CHIMERA_PICTURES")
"""Where pictures of the pages are kept, for the docs (`docs/pictures`)."""
PAGES = {
    "fleet": "/fleet", "agent": "/agent/{agent}", "story": "/task/{agent}/{task}", "record": "/records", "campaigns": "/campaigns",
    "campaign": "/campaign/{campaign}", "schedule": "/schedule", "operations": "/operations", "switches": "/switches",
    "money": "/money", "calls": "/calls", "parked": "/parked", "builds": "/builds", "policies": "/policies", "audit": "/audit",
    "analytics": "/analytics", "statement": "/statement",
}  # fmt: skip
KEPT = {"fleet", "agent", "story", "campaign", "schedule", "operations"}


@pytest.fixture(scope="module")
def browsed(house: House, told: Told) -> Iterator[Any]:
    """A page in which an admin of everything is signed in. What its console says against us is kept."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(60_000)
        page.wrong = []
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
        page.goto(f"{control_url(house.home)}/enter/{Accounts(house.home).link('ada')}")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("#queue")
        yield page
        browser.close()


def test_no_page_is_wider_than_its_screen_and_none_breaks_our_own_policy(house: House, browsed: Any, told: Told) -> None:
    for name, path in PAGES.items():
        browsed.set_viewport_size({"width": 1280, "height": 900})
        browsed.goto(control_url(house.home) + path.format(agent=told.names[0], task=told.published, campaign=told.campaign))
        browsed.wait_for_selector("h1")
        if PICTURES and name in KEPT:
            browsed.screenshot(path=Path(PICTURES) / f"{name}.png")
        for width in (1280, 360):
            browsed.set_viewport_size({"width": width, "height": 900})
            assert browsed.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
    assert browsed.wrong == []


def test_a_task_of_a_picture_is_reached_and_opened_by_keys(house: House, browsed: Any, told: Told) -> None:
    browsed.set_viewport_size({"width": 1280, "height": 900})
    browsed.goto(f"{control_url(house.home)}/campaign/{told.campaign}?agent={told.names[0]}")
    link = browsed.locator(f'svg.graph a[href="/task/{told.names[0]}/{told.published}"]')
    link.focus()
    browsed.keyboard.press("Enter")
    browsed.wait_for_selector("ol.story")
    assert browsed.url.endswith(f"/task/{told.names[0]}/{told.published}")


def test_moving_the_slider_brings_a_past_version_without_leaving_the_page(house: House, browsed: Any, told: Told) -> None:
    browsed.goto(f"{control_url(house.home)}/agent/{told.names[0]}")
    browsed.locator("#version").focus()
    browsed.keyboard.press("Home")
    browsed.wait_for_selector("#past h2")
    assert browsed.locator("#past h2").inner_text().startswith("Version 1 of")
    assert browsed.url.endswith(f"/agent/{told.names[0]}")
