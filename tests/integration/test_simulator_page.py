"""The page of a rehearsal as a browser shows it: light, dark, narrow, on paper; it asks nobody for anything.

`CHIMERA_PICTURES=docs/pictures` keeps the picture that docs/simulator.md shows.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from chimera.replay import report
from chimera.replay.outcome import Example, Outcome
from chimera.replay.simulate import candidate

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -r requirements.txt")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
PICTURES = os.environ.get("CHIMERA_PICTURES")


def three_weeks() -> Outcome:
    """A stricter policy over three weeks of a fleet."""
    found = Outcome(records=48_211, votes=5_730)
    found.routes = Counter({("auto", "auto"): 3_902, ("people", "people"): 901, ("auto", "people"): 412, ("auto", "retry"): 233})
    found.routes["people", "retry"] = 41
    found.drafts = Counter({("auto", "auto"): 241})
    found.causes = Counter(
        {
            ("auto", "people", "confidence"): 377,
            ("auto", "retry", "banned_phrases"): 233,
            ("people", "retry", "hashtags"): 41,
            ("auto", "people", "sensitive"): 35,
        }
    )
    for n in range(21):
        found.cards[(date(2026, 11, 2) + timedelta(n)).isoformat()] = [38 + n % 7 * 3, 55 + n % 5 * 6]
    found.posts = Counter({"gone out": 3_650, "waited for people": 377, "not gone out": 198})
    found.spend = {"gone out": Decimal("61.20"), "waited for people": Decimal("4.85"), "not gone out": Decimal("3.10")}
    found.rework = Decimal("5.48")
    said = "This autumn our game-changer of a jacket keeps the rain out and the warmth in; wear it to the market. <b>Now!</b>"
    for kind, why in (("auto -> people", "confidence"), ("auto -> retry", "banned_phrases")):
        before, _, after = kind.partition(" -> ")
        for n in range(3):
            found.examples.setdefault(kind, []).append(
                Example(
                    f"ava{n:02}/3.{n + 2}.1", 1_795_000_000_000 + n, f"4:{n}", said, before, "", after, why, ("0.93 is below 0.96",)
                )
            )
    found.differs = Counter({"approve_above": 5_730, "posting_hours": 5_730})
    return found


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rehearsal") / "rehearsal.html"
    file.write_text(report.html(three_weeks(), candidate(Path("policies")), "all votes"), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


def shown(chromium: Any, file: Path, *, scheme: str = "light", width: int = 1000) -> Any:
    """The page in a browser of its own; what it asked for besides itself is in `asked`."""
    page = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    page.set_default_timeout(60_000)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto(file.as_uri())
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_in_light_and_dark_and_asks_nobody(chromium: Any, page_file: Path, scheme: str) -> None:
    page = shown(chromium, page_file, scheme=scheme)
    if PICTURES and scheme == "light":
        page.screenshot(path=Path(PICTURES) / "simulator.png", full_page=True, clip={"x": 0, "y": 0, "width": 1000, "height": 1400})
    assert page.asked == [page_file.as_uri()]
    assert page.wrong == []
    # ink and paper of every text differ enough to be read (WCAG's contrast of 4.5)
    poor = page.evaluate(
        """() => {
        const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b }
        const paper = light(getComputedStyle(document.body).backgroundColor)
        return [...document.querySelectorAll('h1, h2, p, td, th, b, text')].filter(e => {
            const ink = light(e.tagName === 'text' ? getComputedStyle(e).fill : getComputedStyle(e).color)
            return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) < 4.5 }).map(e => e.textContent)
        }"""
    )
    assert poor == []


@pytest.mark.parametrize("width", [360, 1000])
def test_no_text_of_a_chart_leaves_it_or_lies_on_another(chromium: Any, page_file: Path, width: int) -> None:
    page = shown(chromium, page_file, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    crossing = page.evaluate(
        """() => [...document.querySelectorAll('svg')].flatMap(svg => {
        const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll('text')]
        const box = e => e.getBoundingClientRect()
        const out = texts.filter(t => box(t).left < frame.left - 1 || box(t).right > frame.right + 1)
        const on = texts.filter((t, i) => texts.some((o, j) => j > i && box(t).left < box(o).right && box(o).left < box(t).right
            && box(t).top + 2 < box(o).bottom && box(o).top + 2 < box(t).bottom))
        const under = texts.filter(t => [...svg.querySelectorAll('rect')].some(r => box(t).left < box(r).right - 1
            && box(r).left < box(t).right - 1 && box(t).top + 3 < box(r).bottom && box(r).top + 3 < box(t).bottom))
        return [...out, ...on, ...under].map(t => t.textContent) })"""
    )
    assert crossing == []


def test_it_prints_on_a_few_sheets_and_no_chart_is_cut(chromium: Any, page_file: Path) -> None:
    page = shown(chromium, page_file)
    sheets = re.findall(rb"/Type\s*/Page\b(?!s)", page.pdf(format="A4", print_background=True))
    assert 2 <= len(sheets) <= 6
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("[...document.querySelectorAll('section')].every(s => getComputedStyle(s).breakInside === 'avoid')")
