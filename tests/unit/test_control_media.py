"""Media beside a card: who gets which bytes, for how long, and that nothing of it can run."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from chimera.control.access import Principal
from chimera.control.accounts import Accounts, Login
from chimera.control.media import HEADERS, LIVES_S, Links, allowing, application, in_call
from chimera.control.preview import Preview, pieces, preview
from chimera.media.store import Asset, MediaStore, path_of

ORIGIN = "http://localhost:4711"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


class House:
    """A home with one picture and somebody signed in."""

    def __init__(self, home: Path) -> None:
        self.home, self.at = home, 1_000_000.0
        self.accounts = Accounts(home)
        self.accounts.put("kim", {"*": ["moderator"]})
        self.cookie = self.signed_in()
        self.links = Links(home, ORIGIN, lambda: self.at)
        self.client = TestClient(application(MediaStore(home / "media"), self.accounts, self.links), base_url=ORIGIN)

    def signed_in(self) -> str:
        """One more login of the same person."""
        return self.accounts.enter(self.accounts.link("kim")) or ""

    @property
    def login(self) -> Login:
        found = self.accounts.known(self.cookie)
        assert found is not None
        return found


async def kept(home: Path, body: bytes = PICTURE) -> Asset:
    async def whole() -> AsyncIterator[bytes]:
        yield body

    return await MediaStore(home / "media").put(whole())


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def asset(house: House) -> Asset:
    return asyncio.run(kept(house.home))


def test_a_signed_address_gives_the_very_bytes_and_nothing_of_them_can_run(house: House, asset: Asset) -> None:
    answer = house.client.get(house.links.address(house.login, asset.name))
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == asset.sha256
    assert answer.headers["content-type"] == "image/png"
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert "set-cookie" not in answer.headers


def test_a_film_is_sent_in_the_pieces_that_a_player_asks_for(house: House, asset: Asset) -> None:
    answer = house.client.get(house.links.address(house.login, asset.name), headers={"Range": "bytes=100-299"})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes 100-299/{len(PICTURE)}"
    assert answer.content == PICTURE[100:300]


def other_asset(url: str) -> str:
    return url.replace("/media/", "/media/0")


def other_time(url: str) -> str:
    return url.replace("until=1", "until=2")


def unsigned(url: str) -> str:
    return url.partition("&signed")[0]


@pytest.mark.parametrize("change", [other_asset, other_time, unsigned, lambda url: url.partition("?")[0]])
def test_an_address_that_was_never_given_opens_nothing(house: House, asset: Asset, change: Callable[[str], str]) -> None:
    answer = house.client.get(change(house.links.address(house.login, asset.name)))
    assert answer.status_code == 403
    assert answer.headers["cache-control"] == "no-store"


def test_an_address_is_over_after_some_minutes(house: House, asset: Asset) -> None:
    given = house.links.address(house.login, asset.name)
    house.at += LIVES_S - 1
    assert house.client.get(given).status_code == 200
    house.at += LIVES_S + 1
    assert house.client.get(given).status_code == 403


def test_an_address_ends_with_the_login_that_it_was_given_to(house: House, asset: Asset) -> None:
    given = house.links.address(house.login, asset.name)
    other = house.signed_in()
    house.accounts.sign_out(house.cookie)
    assert house.client.get(given).status_code == 403
    house.cookie = other
    assert house.client.get(house.links.address(house.login, asset.name)).status_code == 200


def test_another_process_of_this_home_reads_what_one_has_signed(house: House, asset: Asset) -> None:
    again = Links(house.home, ORIGIN, lambda: house.at)
    assert again.opens(house.links.address(house.login, asset.name), house.accounts.tokens()) == asset.name
    assert (house.home / "control" / "media-key").stat().st_mode & 0o077 == 0


def test_a_damaged_or_missing_file_is_not_given_out(house: House, asset: Asset) -> None:
    given = house.links.address(house.login, asset.name)
    (house.home / "media" / path_of(asset.name)).write_bytes(PICTURE[:-1] + b"!")
    assert house.client.get(given).status_code == 404
    gone = house.links.address(house.login, f"{'0' * 64}.png")
    assert house.client.get(gone).status_code == 404


def test_the_page_s_policy_lets_in_pictures_and_films_of_that_origin_alone() -> None:
    policy = allowing("default-src 'none'; img-src 'self'; script-src 'self'", ORIGIN)
    assert policy == f"default-src 'none'; img-src 'self' {ORIGIN}; script-src 'self'; media-src {ORIGIN}"
    assert allowing(policy, ORIGIN).count("media-src") == 1


def card(asset: Asset, **changed: Any) -> dict[str, Any]:
    url = f"https://media.sandbox.invalid/{asset.name}"
    return {
        "platform": "x",
        "effect_class": "publish",
        "text": "Tea <b>now</b> https://tea.example/a?b=1. #tea @kim",
        "arguments": {"text": "Tea", "media": {"media_ids": [url]}},
        "asset_hashes": [asset.sha256],
        **changed,
    }


def drawn(*given: Any) -> Preview:
    return asyncio.run(preview(*given))


def test_media_are_found_by_the_hashes_that_the_call_itself_names(house: House, asset: Asset) -> None:
    shown = drawn(card(asset), house.login, house.links, MediaStore(house.home / "media"))
    (file,) = shown.media
    assert (shown.look, file.sha256, file.kind, file.named, shown.strange) == ("x", asset.sha256, "image", True, [])
    assert hashlib.sha256(house.client.get(file.address).content).hexdigest() in card(asset)["arguments"]["media"]["media_ids"][0]


def test_media_that_the_effect_does_not_name_are_called_out_and_not_shown(house: House, asset: Asset) -> None:
    shown = drawn(card(asset, asset_hashes=[]), house.login, house.links, MediaStore(house.home / "media"))
    assert (shown.media, shown.strange) == ([], [asset.name])


def test_a_file_that_is_not_here_is_told_and_has_no_address(house: House) -> None:
    lost = Asset("a" * 64, "mp4", 0)
    shown = drawn(card(lost), house.login, house.links, MediaStore(house.home / "media"))
    assert [(file.kind, file.address) for file in shown.media] == [("video", "")]


def test_links_tags_and_names_are_marked_and_the_words_stay_whole() -> None:
    text = str(card(Asset("a" * 64, "png", 0))["text"])
    found = pieces(text)
    assert "".join(piece.words for piece in found) == text
    assert [(piece.words, piece.mark) for piece in found if piece.mark] == [
        ("https://tea.example/a?b=1", "link"),
        ("#tea", "tag"),
        ("@kim", "person"),
    ]
    assert pieces("mail me@home a#b") == [("mail me@home a#b", "")]


def test_addresses_of_media_are_found_wherever_they_stand_in_a_call() -> None:
    name = f"{'b' * 64}.mp4"
    assert in_call({"a": [{"b": f"https://m/{name}"}], "c": f"https://m/{name}", "d": 7, "e": "https://m/x.mp4"}) == [name]


def test_a_principal_alone_is_no_login(house: House, asset: Asset) -> None:
    made_up = Login(Principal("kim", {"*": ["admin"]}), "made up")
    assert house.client.get(house.links.address(made_up, asset.name)).status_code == 403
