"""Who may do what at Mission Control, as a table; and how accounts are let in and out."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.datastructures import Headers

from chimera.control import accounts as acc
from chimera.control.access import ACTIONS, ROLES, Action, Principal, Role, action_for, authorize, tenants_of
from chimera.control.accounts import Accounts, TooManyTries
from chimera.control.book import FILE, AccountTrouble
from chimera.control.web import came_from_us
from tests.clock import Clock

TABLE: dict[Role, set[Action]] = {
    "viewer": {"read"},
    "moderator": {"read", "decide"},
    "finance": {"read", "decide", "decide_money"},
    "operator": {"read", "operate"},
    "admin": {"read", "decide", "decide_money", "operate", "administer"},
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_role_may_do_just_what_the_table_says_and_in_its_tenant_alone(role: Role, action: Action) -> None:
    here = Principal("kim", {"acme": [role]}, fresh=True)
    assert authorize(here, action, "acme") == (action in TABLE[role])
    assert not authorize(here, action, "canary")
    assert authorize(Principal("kim", {"*": [role]}, fresh=True), action, "canary") == (action in TABLE[role])


def test_money_is_decided_only_after_a_fresh_login() -> None:
    stale = Principal("fin", {"acme": ["finance"]}, fresh=False)
    assert authorize(stale, "decide", "acme")
    assert not authorize(stale, "decide_money", "acme")
    assert authorize(stale._replace(fresh=True), "decide_money", "acme")
    assert [action_for(kind) for kind in ("publish", "paid", "financial")] == ["decide", "decide_money", "decide_money"]


def test_the_tenants_that_one_sees_are_those_of_the_grants() -> None:
    assert tenants_of(Principal("kim", {"acme": ["viewer"], "zeta": ["moderator"]})) == ["acme", "zeta"]
    assert tenants_of(Principal("kim", {"acme": ["viewer"], "zeta": ["moderator"]}), "decide") == ["zeta"]
    assert tenants_of(Principal("kim", {"*": ["viewer"]})) is None
    assert tenants_of(Principal("kim", {})) == []


@pytest.mark.parametrize(
    ("method", "headers", "ours"),
    [
        ("GET", {"sec-fetch-site": "cross-site"}, True),
        ("POST", {"sec-fetch-site": "same-origin"}, True),
        ("POST", {"sec-fetch-site": "same-site"}, False),
        ("POST", {"sec-fetch-site": "cross-site", "origin": "http://desk", "host": "desk"}, False),
        ("POST", {"sec-fetch-site": "none"}, False),
        ("POST", {"origin": "http://desk:1", "host": "desk:1"}, True),
        ("POST", {"origin": "http://evil", "host": "desk:1"}, False),
        ("POST", {"origin": "null", "host": "desk:1"}, False),
        ("POST", {"host": "desk:1"}, False),
    ],
)
def test_what_changes_something_must_come_from_our_own_pages(method: str, headers: dict[str, str], ours: bool) -> None:
    assert came_from_us(method, Headers(headers)) == ours


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Accounts:
    made = Accounts(tmp_path, clock)
    made.put("kim", {"acme": ["moderator"]}, "a long enough one")
    return made


def test_a_password_opens_a_fresh_login_that_ends_by_idleness_and_by_age(desk: Accounts, clock: Clock) -> None:
    begun = desk.sign_in("kim", "a long enough one")
    assert begun is not None
    login = desk.known(begun)
    assert login is not None
    assert (login.principal.name, login.principal.fresh) == ("kim", True)
    clock.now += acc.FRESH_S + 1
    stale = desk.known(begun)
    assert stale is not None
    assert not stale.principal.fresh
    clock.now += acc.IDLE_S + 1
    assert desk.known(begun) is None
    kept = desk.sign_in("kim", "a long enough one")
    assert kept is not None
    for _ in range(int(acc.ABSOLUTE_S // acc.IDLE_S) * 2 + 1):
        clock.now += acc.IDLE_S / 2
        last = desk.known(kept)
    assert last is None


def test_a_link_signs_in_once_in_time_and_is_not_fresh(desk: Accounts, clock: Clock) -> None:
    token = desk.link("kim")
    begun = desk.enter(token)
    assert begun is not None
    login = desk.known(begun)
    assert login is not None
    assert not login.principal.fresh
    assert desk.enter(token) is None
    late = desk.link("kim")
    clock.now += acc.LINK_S + 1
    assert desk.enter(late) is None
    assert desk.enter("made up") is None


def test_wrong_passwords_are_counted_and_then_not_even_looked_at(desk: Accounts, clock: Clock) -> None:
    for _ in range(acc.TRIES):
        assert desk.sign_in("kim", "not it at all") is None
    with pytest.raises(TooManyTries):
        desk.sign_in("kim", "a long enough one")
    clock.now += acc.TRIES_S + 1
    assert desk.sign_in("kim", "a long enough one") is not None


def test_an_account_without_a_password_is_not_entered_by_the_empty_one(desk: Accounts) -> None:
    desk.put("lee", {"*": ["viewer"]})
    assert desk.sign_in("lee", "") is None
    assert desk.sign_in("nobody", "") is None


def test_a_removed_account_is_out_at_once_and_a_new_password_ends_old_logins(desk: Accounts) -> None:
    begun = desk.sign_in("kim", "a long enough one")
    assert begun is not None
    desk.put("kim", {"acme": ["moderator"]}, "another long enough")
    assert desk.known(begun) is None
    again = desk.sign_in("kim", "another long enough")
    assert again is not None
    desk.remove("kim")
    assert desk.known(again) is None
    with pytest.raises(AccountTrouble, match="no account 'kim'"):
        desk.remove("kim")


def test_what_is_kept_tells_no_secret_and_others_may_not_read_it(desk: Accounts, tmp_path: Path) -> None:
    begun, token = desk.sign_in("kim", "a long enough one"), desk.link("kim")
    kept = (tmp_path / FILE).read_bytes()
    for secret in ("a long enough one", begun or "", token):
        assert secret.encode() not in kept
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(AccountTrouble, match="chmod 600"):
        Accounts(tmp_path)


@pytest.mark.parametrize(
    ("grants", "password"), [({"acme": ["boss"]}, None), ({"acme": []}, None), ({"acme": ["viewer"]}, "short")]
)
def test_an_account_that_makes_no_sense_is_refused(desk: Accounts, grants: dict[str, list[Role]], password: str | None) -> None:
    with pytest.raises(AccountTrouble, match="account 'lee'"):
        desk.put("lee", grants, password)
