"""A real Chromium for tests of pages: how it is started, somebody signed in, its heap, and pictures for the docs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chimera.control.accounts import Accounts
from chimera.stack.addresses import control_url

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
NEEDED = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the system's package chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PICTURES = os.environ.get("CHIMERA_PICTURES")
"""Where pictures of the pages are kept, for the docs (`docs/pictures`)."""


@contextmanager
def a_chromium() -> Iterator[Any]:
    """A browser, ended afterwards."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


def signed_in(home: Path, chromium: Any, person: str) -> Any:
    """A page of a browser of its own where that person has come in by a link. What its console says against us is kept."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(f"{control_url(home)}/enter/{Accounts(home).link(person)}")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#card")
    return page


def pictures(page: Any, name: str) -> None:
    """How a page looks now, where pictures are wanted: light, dark, and on a telephone. The page is left as it was."""
    if PICTURES is None:
        return
    where = Path(PICTURES)
    page.screenshot(path=where / f"{name}.png", caret="initial")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=where / f"{name}-dark.png", caret="initial")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 360, "height": 800})
    page.screenshot(path=where / f"{name}-360.png", caret="initial")
    page.set_viewport_size({"width": 1280, "height": 900})


def heap_mb(page: Any) -> float:
    """The page's script heap after a collection, in megabytes."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    found = {row["name"]: row["value"] for row in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return float(found["JSHeapUsedSize"]) / 1e6
