"""The page of the sandboxes, fetched as browsers do and, where Chromium is on the machine, shown by it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from chimera.mcp.sandbox.art import film, picture
from chimera.mcp.sandbox.gram import Gram
from chimera.mcp.sandbox.timeline import Timeline
from chimera.media.store import Asset, MediaStore
from tests.integration.test_vendors_served import Vendors

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> & \u202eevil"


class Tags(HTMLParser):
    """What stands in a page: its elements, and all of its words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body


def keep(store: Path, body: bytes) -> Asset:
    return asyncio.run(MediaStore(store).put(_one(body)))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Asset, Asset]]:
    """Posts on both platforms, hostile words, a picture and a film; the page's address and the files."""
    home = tmp_path_factory.mktemp("home")
    photo, movie = keep(home / "media", picture("a boat", "1:1", 3, 96)), keep(home / "media", film("a boat", 1))
    with closing(Timeline(home / "mcp" / "x")) as timeline, closing(Gram(home / "mcp" / "instagram")) as gram:
        timeline.post("ava", "Soup in season.", None, {"made_with_ai": True})
        timeline.post("mallory", HOSTILE, None, {})
        timeline.know("ava")
        for asset in (photo, movie):
            gram.publish("ben", gram.contain("ben", asset.name, asset.kind, f"A {asset.kind}. {HOSTILE}"), None, 1)
    made = Vendors(home)
    made.start()
    yield f"http://127.0.0.1:{made.port}/", photo, movie
    assert made.process is not None
    made.process.kill()
    made.gone()


def get(url: str, **headers: str) -> tuple[int, Any, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_all_timelines_and_media_stand_on_one_page(town: tuple[str, Asset, Asset]) -> None:
    address, photo, movie = town
    status, _, body = get(address)
    page = Tags(body.decode())
    assert status == 200
    assert all(word in page.words for word in ("Soup in season.", "@ava", "@ben", "made with AI"))
    assert [image["src"] for image in page.all("img")] == [f"/media/{photo.name}"]
    assert [video["src"] for video in page.all("video")] == [f"/media/{movie.name}"]


def test_hostile_words_are_words_and_nothing_else(town: tuple[str, Asset, Asset]) -> None:
    page = Tags(get(town[0])[2].decode())
    assert page.words.count(HOSTILE) == 3
    assert not page.all("script")
    assert all(not any(name.startswith("on") for name in attributes) for _, attributes in page.found)


def test_nothing_may_run_and_nothing_may_be_fetched_from_elsewhere(town: tuple[str, Asset, Asset]) -> None:
    for path in ("", "?account=ava", "instagram/", "media/nothing", "?before=soon"):
        headers = get(town[0] + path)[1]
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-"), path
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_it_is_read_only(town: tuple[str, Asset, Asset]) -> None:
    request = urllib.request.Request(town[0], data=b"text=hello", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(request, timeout=60)


def test_a_film_is_given_out_in_parts_as_players_ask_for_it(town: tuple[str, Asset, Asset]) -> None:
    address, _, movie = town
    status, headers, body = get(f"{address}media/{movie.name}", Range="bytes=4-7")
    assert (status, body, headers["Content-Type"]) == (206, b"ftyp", "video/mp4")
    assert len(get(f"{address}media/{movie.name}")[2]) == movie.size


@pytest.mark.parametrize("name", ["..%2Fx%2Ftimeline.sqlite3", "a" * 64 + ".png", "timeline.sqlite3", "%00.png"])
def test_only_files_of_the_media_store_are_given_out(town: tuple[str, Asset, Asset], name: str) -> None:
    assert get(f"{town[0]}media/{name}")[0] == 404


def test_one_account_is_shown_alone_and_a_wrong_time_is_told(town: tuple[str, Asset, Asset]) -> None:
    assert "@mallory" not in Tags(get(f"{town[0]}?account=ava")[2].decode()).words
    assert get(f"{town[0]}?before=soon")[0] == 400
    assert "No posts yet" in get(f"{town[0]}?before=1")[2].decode()


def test_chromium_shows_it_without_running_anything(town: tuple[str, Asset, Asset], tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    shot = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--virtual-time-budget=5000", "--window-size=900,2400"]
    done = subprocess.run([browser, *flags, "--dump-dom", town[0]], capture_output=True, text=True, timeout=120, check=True)
    page = Tags(done.stdout)
    assert page.words.count(HOSTILE) == 3
    assert "<title>X and Instagram (sandbox)</title>" in done.stdout
    assert "Content Security Policy" not in done.stderr, done.stderr
    subprocess.run([browser, *flags, f"--screenshot={shot}", town[0]], capture_output=True, timeout=120, check=True)
    assert shot.stat().st_size > 10_000
