"""Logins as their owner sees them, the password's change, the growing wait after wrong ones, and how a desk is reached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from chimera.control.accounts import LONGEST_LOCK_S, SHORTEST_PASSWORD, TRIES, Accounts, TooManyTries
from chimera.control.book import AccountTrouble
from chimera.control.process import BadServing, Serving, options
from chimera.control.web import Door
from tests.clock import Clock

OLD, NEW = "a long old password", "a longer new password"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(tmp_path: Path, clock: Clock) -> Accounts:
    made = Accounts(tmp_path, clock)
    made.put("kim", {"acme": ["moderator"]}, OLD)
    return made


def signed_in(accounts: Accounts, device: str = "", origin: str = "") -> str:
    begun = accounts.sign_in("kim", OLD, device, origin)
    assert begun is not None
    return begun


def test_the_owner_sees_every_living_login_and_ends_one_or_all_others(accounts: Accounts, clock: Clock) -> None:
    at_home = signed_in(accounts, "Firefox", "10.0.0.1")
    clock.now += 60
    at_work = signed_in(accounts, "Chromium", "10.0.0.2")
    clock.now += 1
    third = signed_in(accounts)
    assert [(one.device, one.origin, one.this) for one in accounts.logins_of("kim", at_work)][1:] == [
        ("Chromium", "10.0.0.2", True),
        ("Firefox", "10.0.0.1", False),
    ]
    (home,) = [one for one in accounts.logins_of("kim", at_work) if one.device == "Firefox"]
    assert not accounts.end_login("lee", home.id)
    assert accounts.end_login("kim", home.id)
    assert accounts.known(at_home) is None
    assert accounts.end_logins("kim", but=at_work) == 1
    assert accounts.known(third) is None
    assert accounts.known(at_work) is not None
    clock.now += 31 * 60
    assert accounts.logins_of("kim", at_work) == []


def test_a_password_is_changed_by_who_knows_the_old_one_and_ends_all_other_logins_and_links(accounts: Accounts) -> None:
    mine, other, link = signed_in(accounts), signed_in(accounts), accounts.link("kim")
    assert not accounts.change_password("kim", "not the password", NEW, mine)
    assert accounts.known(other) is not None
    with pytest.raises(AccountTrouble, match=f"at least {SHORTEST_PASSWORD}"):
        accounts.change_password("kim", OLD, "short", mine)
    assert accounts.change_password("kim", OLD, NEW, mine)
    assert accounts.known(mine) is not None
    assert accounts.known(other) is None
    assert accounts.enter(link) is None
    assert accounts.sign_in("kim", OLD) is None
    assert accounts.sign_in("kim", NEW) is not None


def test_each_further_wrong_password_doubles_the_wait_up_to_a_limit_and_the_right_one_ends_it(
    accounts: Accounts, clock: Clock
) -> None:
    for _ in range(TRIES):
        assert accounts.sign_in("kim", "wrong") is None
    waits = []
    for _ in range(6):
        with pytest.raises(TooManyTries) as told:
            accounts.sign_in("kim", OLD)  # not even the right one is looked at
        waits.append(told.value.wait_s)
        clock.now += told.value.wait_s
        assert accounts.sign_in("kim", "wrong") is None
    assert waits == [60, 120, 240, 480, LONGEST_LOCK_S, LONGEST_LOCK_S]
    clock.now += LONGEST_LOCK_S
    assert accounts.sign_in("kim", OLD) is not None
    assert accounts.sign_in("kim", "wrong") is None  # from the beginning
    assert accounts.sign_in("kim", OLD) is not None


def test_nobody_learns_by_the_wait_whether_a_name_is_known(accounts: Accounts) -> None:
    for name in ("kim", "nobody"):
        for _ in range(TRIES):
            assert accounts.sign_in(name, "wrong") is None
        with pytest.raises(TooManyTries, match="wait 60 s"):
            accounts.sign_in(name, "wrong")
    assert (accounts.named("kim"), accounts.named("hunter2 typed as a name")) == ("kim", "unknown")


URL = "http://127.0.0.1:7000"


def test_the_desk_listens_at_home_where_nothing_else_is_said_and_believes_no_proxy() -> None:
    assert options(Serving(), URL) == {"host": "127.0.0.1", "port": 7000, "proxy_headers": False, "forwarded_allow_ips": []}


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        (Serving(listen="0.0.0.0:8443", hosts=("desk.example",)), "give --tls-cert and --tls-key, or --proxy"),
        (Serving(listen="0.0.0.0:8443", proxies=("10.0.0.2",)), "--host by which name"),
        (Serving(listen="0.0.0.0"), "write host:port"),
        (Serving(listen="0.0.0.0:many"), "write host:port"),
        (Serving(tls_cert=Path("cert.pem")), "go together"),
        (Serving(tls_cert=Path("/no/cert.pem"), tls_key=Path("/no/key.pem")), "is no file"),
        (Serving(proxies=("somewhere",)), "write an address or a network"),
    ],
)
def test_a_desk_that_would_be_reached_unsafely_does_not_start(serving: Serving, words: str) -> None:
    with pytest.raises(BadServing, match=words):
        options(serving, URL)


def test_a_key_that_others_may_read_is_not_served_with(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.touch()
    key.touch(mode=0o600)
    serving = Serving("0.0.0.0:8443", cert, key, ("desk.example",))
    assert options(serving, URL)["ssl_keyfile"] == str(key)
    os.chmod(key, 0o644)
    with pytest.raises(BadServing, match="chmod 600"):
        options(serving, URL)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("desk.example", 200),
        ("DESK.example:8443", 200),
        ("127.0.0.1:7000", 200),
        ("[::1]:7000", 200),
        ("evil.example", 421),
        ("[", 421),
    ],
)
def test_a_name_that_is_not_ours_is_turned_away_and_tls_alone_is_told_to_last(host: str, code: int) -> None:
    async def here(request: Request) -> Response:
        return PlainTextResponse("here")

    door = Door(("127.0.0.1", "::1", "desk.example"), Starlette(routes=[Route("/", here)]))
    for scheme in ("http", "https"):
        answer = TestClient(door, base_url=f"{scheme}://x").get("/", headers={"Host": host})
        assert answer.status_code == code
        assert ("strict-transport-security" in answer.headers) == (scheme == "https")
        assert "payment=()" in answer.headers["permissions-policy"]
