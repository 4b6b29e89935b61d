"""Kill switches as records: what counts, what is ignored, what a scope covers, and that an unseen topic permits nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from chimera.eventlog.switches import (
    NOT_FRESH,
    TOPIC,
    BadScope,
    Board,
    SwitchFollower,
    SwitchKeys,
    SwitchSet,
    keys_of,
    parse_scope,
    scopes_of,
)
from chimera.events.envelope import NewRecord, SigningKey, encode
from chimera.events.raw import RawRecord
from chimera.events.state import Law

KEY, RETIRED, STRANGER = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
KEYS = SwitchKeys(2, frozenset([KEY.id]), {KEY.id: KEY.public, RETIRED.id: RETIRED.public})
AVA = "agent/11111111-1111-4111-8111-111111111111"
POST: dict[str, Any] = {"agent": AVA, "tenant": "acme", "platform": "x", "account": "Ava_X", "tool": "x.createPosts"}


def said(
    scope: str, closed: bool, number: int, *, by: SigningKey | None = KEY, key: str | None = None, offset: int = 0
) -> RawRecord:
    record = NewRecord(
        key=key or scope,
        data=SwitchSet(scope=scope, closed=closed, reason="because", number=number),
        tenant="installation",
        actor="kim",
        time="2026-01-01T00:00:00Z",
        id=f"id-{number}",
    )
    wire = encode(record, by)
    return RawRecord(TOPIC, 0, offset, 1_000 + offset, wire.key.encode(), wire.value, wire.headers)


def board(*records: RawRecord) -> Board:
    made = Board(KEYS)
    for each in records:
        made.apply(each)
    return made


def test_the_last_record_of_a_scope_wins_and_says_who_and_why() -> None:
    found = board(said("fleet", True, 1), said("fleet", False, 2), said("tenant:acme", True, 1, offset=7))
    assert found.closed_by(scopes_of(**POST)) == "tenant:acme"
    switch = found.switches["tenant:acme"]
    assert (switch.by, switch.reason, switch.number, switch.at, switch.offset) == ("kim", "because", 1, 1_007, 7)
    assert not found.switches["fleet"].closed
    assert found.ignored == {}


@pytest.mark.parametrize("scope", ["fleet", "tenant:acme", "platform:x", "account:x/ava_x", f"agent:{AVA}", "tool:x.createPosts"])
def test_every_kind_of_scope_stops_a_call_that_it_covers_and_no_other(scope: str) -> None:
    found = board(said(scope, True, 1))
    other = {"agent": AVA[:-1] + "2", "tenant": "other", "platform": "y", "account": "bob", "tool": "y.post"}
    assert found.closed_by(scopes_of(**POST)) == scope
    assert (found.closed_by(scopes_of(**other)) is None) == (scope != "fleet")


def test_an_account_of_the_same_name_elsewhere_and_a_call_without_account_are_not_stopped() -> None:
    found = board(said("account:x/ava_x", True, 1))
    assert found.closed_by(scopes_of(**{**POST, "platform": "y"})) is None
    assert found.closed_by(scopes_of(**{**POST, "account": None})) is None
    assert found.closed_by(scopes_of(**{**POST, "account": "@AVA_x"})) == "account:x/ava_x"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (said("fleet", False, 2, by=None), "unsigned"),
        (said("fleet", False, 2, by=STRANGER), "forged"),
        (said("fleet", False, 2, key="tenant:acme"), "unreadable"),
        (said("platform:X", True, 2), "unreadable"),
        (said("fleet", False, 1), "duplicate"),
        (said("fleet", False, 2, by=RETIRED), "retired_key"),
        (said("fleet", False, 2)._replace(value=b'{"scope":"fleet","closed":false,"reason":"","number":2}'), "forged"),
        (said("fleet", False, 2)._replace(value=b"nonsense"), "unreadable"),
        (said("fleet", False, 2)._replace(headers=[]), "unreadable"),
    ],
)
def test_what_nobody_entitled_said_opens_nothing_and_is_counted(record: RawRecord, why: str) -> None:
    found = board(said("fleet", True, 1), record)
    assert found.closed_by(["fleet"]) == "fleet"
    assert found.ignored == {why: 1}


def test_an_old_record_that_is_appended_again_counts_no_more() -> None:
    first, second = said("fleet", False, 1), said("fleet", True, 2)
    found = board(first, second, first, second)
    assert found.closed_by(["fleet"]) == "fleet"
    assert found.ignored == {"duplicate": 2}


def test_what_a_retired_key_closed_stays_closed_and_it_may_open_only_that() -> None:
    assert board(said("fleet", True, 1, by=RETIRED)).closed_by(["fleet"]) == "fleet"
    assert board(said("fleet", True, 1, by=RETIRED), said("fleet", False, 2, by=RETIRED)).closed_by(["fleet"]) is None
    assert board(said("fleet", True, 1), said("fleet", False, 2, by=RETIRED)).closed_by(["fleet"]) == "fleet"


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("fleet", "fleet"),
        ("platform:X", "platform:x"),
        ("account:X/@Ava_X", "account:x/ava_x"),
        ("tenant:Acme", "tenant:Acme"),
        ("tool:x.createPosts", "tool:x.createPosts"),
        (f"agent:{AVA}", f"agent:{AVA}"),
    ],
)
def test_a_scope_is_written_in_one_way_only(text: str, scope: str) -> None:
    assert parse_scope(text) == scope == parse_scope(scope)


@pytest.mark.parametrize(
    "text", ["", "all", "fleet:", "fleet:x", "tenant", "tenant:", "tenant:a b", "account:x", "agent:ava", "tool:x", "platform:x/y"]
)
def test_what_is_no_scope_is_refused_with_the_ones_there_are(text: str) -> None:
    with pytest.raises(BadScope, match="tool:PROFILE"):
        parse_scope(text)


def test_a_law_without_a_command_key_lets_nobody_set_switches() -> None:
    assert keys_of(Law()) is None
    old, judge, root = (SigningKey.generate() for _ in range(3))
    law = Law(
        edition=4,
        keys={"command": frozenset([KEY.id]), "judge": frozenset([judge.id])},
        public={key.id: key.public for key in (KEY, old, judge, root)},
        ever={"command": frozenset([KEY.id, old.id]), "judge": frozenset([judge.id])},
        root=root.id,
    )
    found = keys_of(law)
    assert found is not None
    assert set(found.public) == {KEY.id, old.id}, "a judge's key, or root's, sets no switch"
    known = keys_of(Law(edition=3, keys={"command": frozenset([KEY.id])}, public={KEY.id: KEY.public}))
    assert known == SwitchKeys(3, frozenset([KEY.id]), {KEY.id: KEY.public})


def test_a_follower_that_has_not_seen_the_end_within_a_second_permits_nothing() -> None:
    now = [100.0]
    follower = SwitchFollower("127.0.0.1:1", lambda: None, clock=lambda: now[0])

    def stops() -> str | None:
        async def ask() -> str | None:
            return await follower.stops(scopes_of(**POST))

        return asyncio.run(ask())

    def seen(at: float) -> None:  # what the thread does when it has reached the end that it asked for at that time
        follower._board, follower._seen_at = board(), at

    follower._look_now = nothing(follower._look_now)  # type: ignore[assignment, method-assign]
    assert (stops(), follower.age_s, follower.holds(NOT_FRESH)) == (NOT_FRESH, None, True)
    seen(100.0)
    assert (stops(), follower.holds(NOT_FRESH)) == (None, False)
    now[0] = 101.0
    assert stops() is None
    now[0] = 101.01
    assert (stops(), follower.holds("switch:fleet"), follower.holds("rate_limit")) == (NOT_FRESH, True, False)


def nothing(_: object) -> Callable[[], object]:
    async def done() -> None:
        return None

    return done
