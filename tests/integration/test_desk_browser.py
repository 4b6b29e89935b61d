"""The review desk in a real Chromium, before cards put on the log by hand: media, several cards, who else looks, a restart."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image, ImageDraw

from chimera.events import records as rec
from chimera.media.film import Take, cut
from chimera.media.place import open_media
from chimera.media.store import Asset, MediaError
from chimera.stack.addresses import control_url, media_url
from tests.browsing import NEEDED, a_chromium, pictures, signed_in
from tests.integration.commanding import until
from tests.integration.deskstage import Desk, open_desk

pytestmark = [NEEDED, pytest.mark.timeout(300)]


class Process:
    """Mission Control as the stack runs it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._started: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        stage = self._desk.stage
        told = {"CHIMERA_HOME": str(stage.home), "CHIMERA_KAFKA": str(stage.settings.kafka), "CHIMERA_POSTGRES": self._desk.dsn}
        argv = [sys.executable, "-m", "chimera.cli.main", "run", "control"]
        self._started = subprocess.Popen(argv, env={**os.environ, **told}, stderr=subprocess.DEVNULL)
        until(self._well, 120)

    def stop(self) -> None:
        if self._started is not None:
            self._started.kill()
            self._started.wait(30)

    def _well(self) -> bool:
        try:
            with urllib.request.urlopen(f"{control_url(self._desk.stage.home)}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def desk(kafka_bootstrap: str, postgres_dsn: str) -> Iterator[Desk]:
    with open_desk(kafka_bootstrap, postgres_dsn) as opened:
        yield opened


@pytest.fixture(scope="module")
def process(desk: Desk) -> Iterator[Process]:
    started = Process(desk)
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with a_chromium() as browser:
        yield browser


def at_card(desk: Desk, chromium: Any, person: str, card: str) -> Any:
    """That person's browser with that card open."""
    desk.projected()
    page = signed_in(desk.stage.home, chromium, person)
    page.goto(f"{control_url(desk.stage.home)}/review?card={card}")
    page.wait_for_selector("#decide")
    return page


def flashed(page: Any, words: str) -> None:
    page.wait_for_function("words => document.querySelector('.flash')?.innerText.includes(words)", arg=words)


# --- media -------------------------------------------------------------------------------------------------------------


def picture() -> bytes:
    """Something that looks like a photograph of soup, from far away."""
    image = Image.new("RGB", (960, 640), "#d9b382")
    draw = ImageDraw.Draw(image)
    for n in range(60):
        draw.ellipse((140 + n * 3, 60 + n * 3, 820 - n * 3, 580 - n * 3), fill=(200 - n, 90 + n, 30 + n // 2))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def film() -> bytes:
    """Two seconds of the same, stirred, and cut as the swarm cuts: with the words on it."""
    with tempfile.TemporaryDirectory() as folder:
        take, out = Path(folder) / "take.mp4", Path(folder) / "cut.mp4"
        whole = Image.open(io.BytesIO(picture())).resize((640, 426)).crop((0, 33, 640, 393))
        with av.open(str(take), "w") as container:
            stream = container.add_stream("libx264", rate=12, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
            for n in range(12):
                image = whole.copy()
                ImageDraw.Draw(image).ellipse((60 + 30 * n, 120, 150 + 30 * n, 210), fill="#f0c060")
                container.mux(stream.encode(av.VideoFrame.from_image(image)))
            container.mux(stream.encode(None))
        cut([Take(take, "Soup weather at the harbour.", 1.5), Take(take, "It keeps for three days.", 1.0)], "16:9", out)
        return out.read_bytes()


def kept(home: Path, body: bytes) -> Asset:
    async def put() -> Asset:
        async def whole() -> AsyncIterator[bytes]:
            yield body

        return await open_media(home).put(whole())

    with ThreadPoolExecutor(1) as aside:  # playwright's own loop runs in this thread
        return aside.submit(asyncio.run, put()).result()


@pytest.mark.parametrize(("kind", "made"), [("image", picture), ("video", film)])
def test_a_card_shows_its_picture_and_plays_its_film_from_an_origin_that_gets_no_cookie(
    desk: Desk, process: Process, chromium: Any, kind: str, made: Any
) -> None:
    # given a card with media
    asset = kept(desk.stage.home, made())
    key, words = desk.agent(), f"Soup weather at the harbour, https://harbour.example/soup #{kind}"
    inputs = {"text": words, "disclosure_level": "automated", f"{kind}_url": f"https://media.sandbox.invalid/{asset.name}"}
    desk.stage.approve(key, 1, words, inputs=inputs, becomes="people", asset_hashes=[asset.sha256])
    # when it is opened
    page = signed_in(desk.stage.home, chromium, "kim")
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request))
    desk.projected()
    page.goto(f"{control_url(desk.stage.home)}/review?card={desk.stage.agent(key).name}/1.1.1")
    # then it is there to be seen
    if kind == "image":
        page.wait_for_function("() => document.querySelector('.media img')?.naturalWidth === 960")
    else:
        shown = page.locator(".media video")
        if not shown.evaluate("film => film.canPlayType('video/mp4; codecs=\"avc1.64001f\"')"):
            pytest.skip("this browser plays no H.264")
        shown.evaluate("film => { film.muted = true; return film.play(); }")
        page.wait_for_function("() => document.querySelector('.media video').currentTime > 0.2")
        shown.evaluate("film => { film.pause(); film.controls = false; }")  # as while it plays: they hide then
        assert shown.evaluate("film => [film.videoWidth, film.videoHeight]") == [640, 352]
    pictures(page, "review-image" if kind == "image" else "review-film")
    # and what brought it had no cookie with it, and came from elsewhere
    (brought, *_) = [request for request in asked if request.url.startswith(media_url(desk.stage.home))]
    assert "cookie" not in brought.all_headers()
    assert page.wrong == []


def test_a_drawing_that_can_run_is_refused_and_dressed_up_as_a_picture_it_is_shown_to_nobody_and_does_not_run(
    desk: Desk, process: Process, chromium: Any
) -> None:
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" onload="top.ran=1"><script>top.ran=1</script></svg>'
    with pytest.raises(MediaError, match="neither PNG"):
        kept(desk.stage.home, drawing)
    asset = kept(desk.stage.home, b"\x89PNG\r\n\x1a\n" + drawing)
    key = desk.agent()
    inputs = {"text": "See", "disclosure_level": "automated", "image_url": f"https://media.sandbox.invalid/{asset.name}"}
    desk.stage.approve(key, 1, "See", inputs=inputs, becomes="people", asset_hashes=[asset.sha256])
    page = at_card(desk, chromium, "kim", f"{desk.stage.agent(key).name}/1.1.1")
    page.wait_for_function("() => document.querySelector('.media img')?.complete")
    assert page.evaluate("() => [document.querySelector('.media img').naturalWidth, typeof window.ran]") == [0, "undefined"]
    # not even opened by itself
    answer = page.goto(page.locator(".media img").get_attribute("src"))
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert page.evaluate("() => typeof window.ran") == "undefined"


# --- several cards -----------------------------------------------------------------------------------------------------


def test_like_cards_are_chosen_and_decided_at_once_without_the_mouse(desk: Desk, process: Process, chromium: Any) -> None:
    key = desk.agent(3)
    cards = [desk.card(key, n) for n in (1, 2, 3)]
    desk.projected()
    page = signed_in(desk.stage.home, chromium, "kim")
    page.goto(f"{control_url(desk.stage.home)}/review?agent={desk.stage.agent(key).name}")
    for n in range(3):
        page.wait_for_function("() => document.querySelector('#queue li.open input[name=card]:not(:disabled)')")
        page.keyboard.press("x")
        page.wait_for_function("n => document.querySelector('#batch .count').textContent === String(n)", arg=n + 1)
        if n < 2:
            before = page.locator("#open-card").input_value()
            page.keyboard.press("j")
            page.wait_for_function("before => document.getElementById('open-card').value !== before", arg=before)
    pictures(page, "review-batch")
    page.locator("#batch-approve").focus()
    page.keyboard.press("Enter")
    flashed(page, "3 of 3 cards approved by kim")
    assert {vote.effect_hash for _, vote in desk.said(key, rec.HumanApproved)} == {
        desk.stage.effect(key, n).hash for n in (1, 2, 3)
    }
    assert sorted(page.locator(".each a").all_inner_texts()) == sorted(cards)
    assert page.wrong == []


# --- others ------------------------------------------------------------------------------------------------------------


def test_who_else_looks_at_a_card_is_seen_as_they_come_and_go(desk: Desk, process: Process, chromium: Any) -> None:
    key = desk.agent(2, people={"publish": 2})
    first, second = desk.card(key, 1), desk.card(key, 2)
    kim, lee = at_card(desk, chromium, "kim", first), at_card(desk, chromium, "lee", first)
    kim.wait_for_function("() => document.getElementById('others').innerText.includes('lee looks at this card too')")
    # a first vote is seen by who decides next
    kim.keyboard.press("a")
    flashed(kim, "it waits for 1 more")
    lee.goto(f"{control_url(desk.stage.home)}/review?card={first}")
    lee.wait_for_selector(".vote")
    kim.goto(f"{control_url(desk.stage.home)}/review?card={first}")
    kim.wait_for_function("() => document.getElementById('others').innerText.includes('lee')")
    lee.goto(f"{control_url(desk.stage.home)}/review?card={second}")
    kim.wait_for_function("() => !document.getElementById('others').innerText.includes('lee')")


def test_an_approval_is_undone_while_its_time_runs_down_also_from_another_card(desk: Desk, process: Process, chromium: Any) -> None:
    key = desk.agent(2, undo_ms=120_000)
    at, other = desk.card(key, 1), desk.card(key, 2)
    page = at_card(desk, chromium, "kim", at)
    page.keyboard.press("a")
    flashed(page, f"{at} approved by kim")
    page.wait_for_function("() => /^\\d+ s$/.test(document.querySelector('#tray .left')?.textContent ?? '')")
    page.locator(f"#queue a[data-card='{other}']").click()
    page.wait_for_function("at => document.getElementById('open-card').value === at", arg=other)
    page.keyboard.press("u")
    flashed(page, f"{at} undone by kim")
    assert page.locator("#open-card").input_value() == other
    assert page.locator("#tray form").count() == 0
    assert [actor for actor, _ in desk.said(key, rec.EffectWithdrawn)] == ["kim"]


def test_a_call_whose_end_nobody_knows_is_settled_on_its_card(desk: Desk, process: Process, chromium: Any) -> None:
    key = desk.agent(undo_ms=0)
    at = desk.card(key)
    page = at_card(desk, chromium, "kim", at)
    page.keyboard.press("a")
    flashed(page, f"{at} approved by kim")
    desk.lose(key)
    desk.projected()
    page.goto(f"{control_url(desk.stage.home)}/review?kind=unknown&card={at}")
    pictures(page, "review-unknown")
    page.keyboard.press("1")
    page.get_by_label("Its id on the platform").fill("77")
    page.get_by_label("What you saw").fill("Seen on the timeline: https://x.example/77")
    page.locator("#resolve").click()
    flashed(page, f"{at} settled by kim")
    assert [end.platform_id for _, end in desk.said(key, rec.EffectEnded)] == ["77"]


# --- a restart ---------------------------------------------------------------------------------------------------------


def test_a_restart_of_the_server_loses_neither_the_login_nor_what_was_typed(desk: Desk, process: Process, chromium: Any) -> None:
    key = desk.agent()
    at = desk.card(key)
    page = at_card(desk, chromium, "kim", at)
    page.keyboard.press("e")
    page.locator("#text").fill("Soup, and nothing but soup, is ready")
    page.wait_for_selector("#reread .diff")
    # when the server dies and comes back
    process.stop()
    page.locator("[name=comment]").fill("typed while it was away")
    process.start()
    # then what was typed is there, and counts
    page.locator("#edit").click()
    flashed(page, f"{at} edited by kim")
    ((actor, edit),) = desk.said(key, rec.HumanEdited)
    assert (actor, edit.content["text"], edit.comment) == ("kim", "Soup, and nothing but soup, is ready", "typed while it was away")
