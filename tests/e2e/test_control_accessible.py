"""Every page of Mission Control in a real Chromium, looked at by axe: no violation of WCAG 2.2 A and AA, in light and in dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chimera.control.routes import WAYS
from chimera.stack.addresses import control_url
from tests.e2e.desk import HERE, Desk, open_desk, person
from tests.e2e.house import House

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the system's package chromium"),
    pytest.mark.timeout(300),
]
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
AXE = Path(axe.__file__).parent / "axe.min.js"
PAGES = sorted({way.path for way in WAYS if way.entry == "login" and way.method == "GET" and way.path != "/events"})
OUTSIDE = ("/login", "/enter/no-such-link")


@pytest.fixture(scope="module")
def desk(house: House) -> Iterator[Desk]:
    with open_desk(house) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(desk: Desk) -> Iterator[Any]:
    """A browser in which an admin of one tenant is signed in."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        # axe is put into the page by the browser's own hand; what pages may load themselves is another test's.
        page = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True).new_page()
        page.set_default_timeout(60_000)
        name = person("admin", "here")
        page.goto(f"{control_url(desk.house.home)}/enter/{desk.accounts.link(name)}")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/review")
        yield page
        browser.close()


def path_of(path: str, desk: Desk) -> str:
    """The page of something that there is."""
    agent, card = desk.agents[HERE], desk.cards[HERE]
    samples = {"name": agent, "agent": agent, "card": card, "campaign": desk.campaigns[HERE], "tenant": HERE}
    for name, value in samples.items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
    assert "{" not in path, f"{path} names something of which this test has no sample: add one"
    return path


def violations(page: Any) -> list[str]:
    """What axe finds on the open page."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("rules => axe.run(document, rules)", RULES)["violations"]
    return [f"{each['id']}: {each['help']}: {'; '.join(node['html'][:120] for node in each['nodes'][:4])}" for each in found]


@pytest.mark.parametrize("path", [*PAGES, *OUTSIDE, "/agent/nobody"])
def test_no_page_breaks_a_rule_of_accessibility(desk: Desk, page: Any, path: str) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(control_url(desk.house.home) + path_of(path, desk))
        assert violations(page) == [], scheme


def test_what_the_keys_of_the_desk_open_breaks_none_either(desk: Desk, page: Any) -> None:
    page.goto(f"{control_url(desk.house.home)}/review")
    page.wait_for_selector("#card")
    for key, opened in (("r", "#rejecting:not([hidden])"), ("e", "#editing:not([hidden])"), ("?", "dialog[open]")):
        if opened == "dialog[open]":
            page.evaluate("document.activeElement?.blur()")
        page.keyboard.press(key)
        page.wait_for_selector(opened)
        assert violations(page) == [], key
        page.keyboard.press("Escape")


def test_the_first_stop_of_the_tab_key_leads_past_the_head_of_the_page_to_its_content(desk: Desk, page: Any) -> None:
    page.goto(f"{control_url(desk.house.home)}/fleet")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["width"] > 20  # it is seen once it is reached
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    assert page.locator("main").count() == page.locator("header[role=banner], body > header").count() == 1
