"""API tokens: what they reach, when they end, and that what is kept of them lets nobody in. And how often somebody may ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera.control.access import Role, authorize
from chimera.control.accounts import Accounts
from chimera.control.api.openapi import FILE as OPENAPI
from chimera.control.api.openapi import document
from chimera.control.api.operations import BASE, OPERATIONS
from chimera.control.book import FILE, AccountTrouble
from chimera.control.limits import Limit, TooOften
from chimera.control.tokens import Tokens
from tests.clock import Clock

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    made = Accounts(tmp_path)
    made.put("kim", {"acme": ["moderator", "operator"]})
    made.put("ada", {"*": ["admin"]})
    return made


@pytest.fixture
def tokens(tmp_path: Path, accounts: Accounts, clock: Clock) -> Tokens:
    return Tokens(tmp_path, clock)


def test_a_token_reaches_as_far_as_it_was_made_for_and_is_never_fresh(tokens: Tokens) -> None:
    _, secret = tokens.add("kim", ["moderator"], "acme", 1)
    known = tokens.known(secret)
    assert known is not None
    assert authorize(known.principal, "decide", "acme")
    assert not authorize(known.principal, "operate", "acme")
    assert not authorize(known.principal, "read", "canary")
    assert not known.principal.fresh
    assert tokens.known(secret + "x") is None


def test_a_token_may_no_more_than_its_account_when_made_and_when_used(tokens: Tokens, accounts: Accounts) -> None:
    too_much: list[tuple[list[Role], str]] = [(["admin"], "acme"), (["moderator"], "canary"), (["moderator"], "*"), ([], "acme")]
    for roles, tenant in too_much:
        with pytest.raises(AccountTrouble, match="no more than that"):
            tokens.add("kim", roles, tenant, 1)
    with pytest.raises(AccountTrouble, match="no account 'nobody'"):
        tokens.add("nobody", ["viewer"], "*", 1)
    _, secret = tokens.add("kim", ["moderator", "operator"], "acme", 1)
    accounts.put("kim", {"acme": ["operator"]})
    known = tokens.known(secret)
    assert known is not None
    assert known.principal.grants == {"acme": ["operator"]}
    accounts.put("kim", {"canary": ["operator"]})
    known = tokens.known(secret)
    assert known is not None
    assert known.principal.grants == {}
    accounts.remove("kim")
    assert tokens.known(secret) is None


def test_who_may_in_every_tenant_can_give_a_token_for_one(tokens: Tokens) -> None:
    _, secret = tokens.add("ada", ["admin"], "acme", 1)
    known = tokens.known(secret)
    assert known is not None
    assert authorize(known.principal, "operate", "acme")
    assert not authorize(known.principal, "read", "canary")


def test_a_token_ends_at_its_day_or_when_it_is_revoked(tokens: Tokens, clock: Clock) -> None:
    _, short = tokens.add("kim", ["moderator"], "acme", 1, "board")
    clock.now += 1
    _, long = tokens.add("kim", ["moderator"], "acme", 366)
    clock.now += 86_400 + 1
    assert tokens.known(short) is None
    assert tokens.known(long) is not None
    listed = tokens.listed("kim")
    assert [(token.label, bool(token.seen)) for token in listed] == [("board", False), ("", True)]
    with pytest.raises(AccountTrouble, match="no token"):
        tokens.revoke(listed[1].id, "ada")
    tokens.revoke(listed[1].id)
    assert tokens.known(long) is None
    for days in (0, 367):
        with pytest.raises(AccountTrouble, match="1 to 366 days"):
            tokens.add("kim", ["moderator"], "acme", days)


def test_what_is_kept_of_a_token_is_its_digest(tokens: Tokens, tmp_path: Path) -> None:
    _, secret = tokens.add("kim", ["moderator"], "acme", 1)
    kept = (tmp_path / FILE).read_bytes()
    assert secret.encode() not in kept
    assert secret.removeprefix("chimera_").encode() not in kept


def test_a_limit_lets_a_burst_through_then_says_how_long_to_wait_and_stays_small(clock: Clock) -> None:
    limit = Limit(per_s=0.5, burst=3, most=100, now=clock)
    for _ in range(3):
        limit.take("a")
    with pytest.raises(TooOften, match="try again in 2 s") as told:
        limit.take("a")
    assert told.value.wait_s == 2
    limit.take("b")
    clock.now += 2
    limit.take("a")
    for n in range(1000):
        limit.take(f"address {n}")
    assert len(limit) == 100


def test_the_openapi_document_in_the_docs_is_the_one_that_is_served() -> None:
    told = "write it again: python -m chimera.control.api.openapi docs"
    assert (DOCS / OPENAPI).read_bytes() == document(BASE, OPERATIONS), told
