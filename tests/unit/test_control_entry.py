"""The door of Mission Control and the page of one's own account, served without any server behind.

Who comes in is told to those who guard the installation, and nothing that was typed is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from chimera.control.accounts import TRIES, Accounts
from chimera.control.app import application
from chimera.control.limits import Limit, rates
from chimera.control.tokens import Tokens

PASSWORD, NEW = "kim's long password", "kim's other password"
OURS = {"Sec-Fetch-Site": "same-origin", "User-Agent": "Firefox <b>"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Accounts(tmp_path).put("kim", {"acme": ["moderator", "viewer"]}, PASSWORD)
    return tmp_path


@pytest.fixture
def desk(home: Path) -> TestClient:
    return client(home)


def client(home: Path) -> TestClient:
    app = application(home, "postgresql://nowhere", rates(1000))
    return TestClient(app, base_url="https://desk.test", follow_redirects=False, headers=OURS)


def signed_in(desk: TestClient) -> str:
    """The token that goes with changes, once kim is in."""
    assert desk.post("/login", data={"name": "kim", "password": PASSWORD}).status_code == 303
    return csrf(desk.get("/account").text)


def csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def noted(home: Path) -> list[dict[str, str]]:
    return [orjson.loads(line)["said"] for line in (home / "security" / "waiting.jsonl").read_bytes().splitlines()]


def test_who_comes_in_by_which_way_and_who_is_turned_away_is_noted_and_nothing_of_what_they_typed(
    home: Path, desk: TestClient
) -> None:
    desk.post("/login", data={"name": "kim", "password": "a guess of kim's password"})
    desk.post("/login", data={"name": "hunter2-typed-as-a-name", "password": "x"})
    signed_in(desk)
    desk.post("/logout", data={"csrf": csrf(desk.get("/account").text)})
    link = Accounts(home).link("kim")
    desk.post(f"/enter/{link}")
    desk.post(f"/enter/{link}")
    desk.get("/api/v1/me", headers={"Authorization": "Bearer chimera_guess"})
    told = [(each["what"], each["outcome"], each["who"], each["reason"]) for each in noted(home)]
    assert told == [
        ("login_refused", "refused", "kim", "wrong_password"),
        ("login_refused", "refused", "unknown", "wrong_password"),
        ("login_accepted", "done", "kim", ""),
        ("signed_off", "done", "kim", ""),
        ("login_link_used", "done", "kim", ""),
        ("login_refused", "refused", "unknown", "link_is_over"),
        ("token_refused", "refused", "unknown", "unknown_or_over"),
    ]
    kept = (home / "security" / "waiting.jsonl").read_text()
    for secret in ("a guess", "hunter2", link, "chimera_guess", PASSWORD):
        assert secret not in kept
    assert {each["origin"] for each in noted(home)} == {"testclient"}


def test_a_name_is_locked_after_wrong_passwords_and_an_address_that_tries_too_often_waits(home: Path, desk: TestClient) -> None:
    codes = [desk.post("/login", data={"name": "kim", "password": "wrong"}).status_code for _ in range(TRIES)]
    assert codes == [401] * TRIES
    locked = desk.post("/login", data={"name": "kim", "password": PASSWORD})
    assert locked.status_code == 429
    assert 0 < int(locked.headers["retry-after"]) <= 60
    assert Counter(each["what"] for each in noted(home)) == {"login_refused": TRIES, "locked_out": 1}
    few = application(home, "postgresql://nowhere", rates()._replace(entries=Limit(0.1, 2)))
    asked = TestClient(few, base_url="https://desk.test", headers=OURS)
    assert [asked.post("/login", data={"name": str(n), "password": "x"}).status_code for n in range(3)] == [401, 401, 429]
    assert int(asked.post("/enter/any").headers["retry-after"]) > 0


def test_what_one_changes_too_often_is_not_done(home: Path) -> None:
    few = application(home, "postgresql://nowhere", rates()._replace(posts=Limit(0.1, 1)))
    desk = TestClient(few, base_url="https://desk.test", follow_redirects=False, headers=OURS)
    token = signed_in(desk)
    assert desk.post("/account/logins/end", data={"csrf": token}).status_code == 200
    again = desk.post("/account/logins/end", data={"csrf": token})
    assert (again.status_code, int(again.headers["retry-after"]) > 0) == (429, True)


def test_one_sees_one_s_logins_with_what_they_came_by_and_ends_one_or_all_others(home: Path, desk: TestClient) -> None:
    other, third = client(home), client(home)
    signed_in(other)
    signed_in(third)
    token = signed_in(desk)
    page = desk.get("/account").text
    assert page.count("Firefox &lt;b&gt;") == 3
    assert page.count("(this one)") == 1
    mine = next(one for one in Accounts(home).logins_of("kim", other.cookies["__Host-chimera"]) if one.this)
    assert desk.post(f"/account/logins/{mine.id}/end", data={"csrf": token}).headers["location"] == "/account"
    assert other.get("/account").status_code == 303
    assert "1 other logins ended" in desk.post("/account/logins/end", data={"csrf": token}).text
    assert third.get("/account").status_code == 303
    (this,) = Accounts(home).logins_of("kim")
    assert desk.post(f"/account/logins/{this.id}/end", data={"csrf": token}).headers["location"] == "/login"
    assert desk.get("/account").headers["location"] == "/login"


def test_a_password_is_changed_by_who_knows_it_and_all_other_browsers_are_out(home: Path, desk: TestClient) -> None:
    other = client(home)
    signed_in(other)
    form = {"csrf": signed_in(desk), "old": PASSWORD, "new": NEW, "again": NEW}
    for change, code, words in (
        ({"again": "something else"}, 422, "in two ways"),
        ({"new": "short", "again": "short"}, 422, "at least 12"),
        ({"old": "not my password"}, 403, "not your password"),
    ):
        answer = desk.post("/account/password", data=form | change)
        assert (answer.status_code, words in answer.text) == (code, True)
    assert other.get("/account").status_code == 200
    assert "is changed" in desk.post("/account/password", data=form).text
    assert other.get("/account").status_code == 303
    assert desk.get("/account").status_code == 200
    assert noted(home)[-1] | {"at": 0, "until": 0} == noted(home)[-1] | {
        "what": "account_changed",
        "who": "kim",
        "at": 0,
        "until": 0,
    }


def test_a_token_is_made_and_shown_once_and_revoked_on_the_page(home: Path, desk: TestClient) -> None:
    form = {"csrf": signed_in(desk), "tenant": "acme", "role": ["viewer"], "days": "30", "label": "<i>wall"}
    page = desk.post("/account/tokens", data=form).text
    secret = re.search(r"chimera_[\w-]+", page)
    assert secret is not None
    assert desk.get("/api/v1/me", headers={"Authorization": f"Bearer {secret[0]}"}).json()["roles"] == ["viewer"]
    again = desk.get("/account").text
    assert secret[0] not in again
    assert "&lt;i&gt;wall" in again
    changes: list[dict[str, Any]] = [
        {"role": ["admin"]},
        {"tenant": "canary"},
        {"tenant": "*"},
        {"days": "0"},
        {"days": "nine"},
        {"role": []},
    ]
    for change in changes:
        assert desk.post("/account/tokens", data=form | change).status_code == 422, change
    (made,) = Tokens(home).listed("kim")
    assert desk.post(f"/account/tokens/{made.id}/revoke", data={"csrf": form["csrf"]}).status_code == 200
    assert desk.post(f"/account/tokens/{made.id}/revoke", data={"csrf": form["csrf"]}).status_code == 404
    assert desk.get("/api/v1/me", headers={"Authorization": f"Bearer {secret[0]}"}).status_code == 401
    assert [each["what"] for each in noted(home)][-3:] == ["token_made", "token_revoked", "token_refused"]


def test_another_s_login_and_token_are_not_one_s_own_to_end(home: Path, desk: TestClient) -> None:
    accounts = Accounts(home)
    accounts.put("lee", {"acme": ["viewer"]})
    theirs = accounts.enter(accounts.link("lee"))
    assert theirs is not None
    (login,) = accounts.logins_of("lee")
    token, _ = Tokens(home).add("lee", ["viewer"], "acme", 1)
    mine = signed_in(desk)
    assert desk.post(f"/account/logins/{login.id}/end", data={"csrf": mine}).status_code == 404
    assert desk.post(f"/account/tokens/{token.id}/revoke", data={"csrf": mine}).status_code == 404
    assert accounts.known(theirs) is not None
    assert len(Tokens(home).listed("lee")) == 1


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
def test_nobody_sends_more_than_a_form_is_large_before_they_are_known(desk: TestClient, kind: str) -> None:
    part = b"&a=" + b"x" * 1000 if kind.endswith("d") else b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield part
        for _ in range(900):
            yield b"&a=" + b"x" * 9_997 if kind.endswith("d") else b"x" * 10_000

    told = desk.post("/login", content=body(), headers={"Content-Type": kind})
    assert (told.status_code, "more than 1,048,576 bytes" in told.text) == (413, True)
    assert told.headers["Content-Security-Policy"]
