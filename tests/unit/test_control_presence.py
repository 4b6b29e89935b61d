"""Who looks at which card, and what a login was shown of it."""

from __future__ import annotations

from pathlib import Path

from chimera.control.access import Principal
from chimera.control.accounts import ABSOLUTE_S, Login
from chimera.control.presence import GONE_S, Presence
from chimera.control.sights import Sights


def login(name: str, token: str = "") -> Login:
    return Login(Principal(name, {}), token or f"token of {name}")


def test_people_at_a_card_are_told_of_who_comes_and_who_leaves() -> None:
    presence = Presence(lambda: 0.0)
    kim, lee = login("kim"), login("lee")
    assert presence.looks(kim, "ava/1.1.1") == set()
    assert presence.looks(lee, "ava/1.1.1") == {kim.csrf}
    assert presence.looks(lee, "ava/1.1.1") == set(), "it is news once"
    assert (presence.others(kim, "ava/1.1.1"), presence.others(lee, "ava/1.1.1")) == (["lee"], ["kim"])
    assert presence.looks(lee, "ava/1.2.1") == {kim.csrf}
    assert presence.others(kim, "ava/1.1.1") == []


def test_one_person_with_two_browsers_is_nobody_else() -> None:
    presence = Presence(lambda: 0.0)
    presence.looks(login("kim", "one"), "ava/1.1.1")
    presence.looks(login("kim", "two"), "ava/1.1.1")
    assert presence.others(login("kim", "one"), "ava/1.1.1") == []


def test_who_is_not_seen_for_a_while_is_not_there() -> None:
    now = [0.0]
    presence = Presence(lambda: now[0])
    presence.looks(login("kim"), "ava/1.1.1")
    now[0] = GONE_S - 1
    assert presence.others(login("lee"), "ava/1.1.1") == ["kim"]
    now[0] = GONE_S + 1
    assert presence.others(login("lee"), "ava/1.1.1") == []


def sight(card: str, shown: str) -> dict[str, object]:
    return {"address": card, "shown_hash": shown, "effect_hash": "e", "edit": 0}


def test_what_a_login_was_shown_last_is_kept_for_it_alone_over_a_restart(tmp_path: Path) -> None:
    kim, lee = login("kim"), login("lee")
    sights = Sights(tmp_path)
    sights.opened(kim, sight("ava/1.1.1", "first"))
    sights.opened(kim, sight("ava/1.1.1", "second"))
    again = Sights(tmp_path)
    assert again.of(kim, ["ava/1.1.1", "ava/1.2.1"])["ava/1.1.1"].shown_hash == "second"
    assert again.of(lee, ["ava/1.1.1"]) == {}
    assert kim.csrf.encode() not in (tmp_path / "control" / "sights.db").read_bytes()


def test_what_was_shown_is_forgotten_when_no_login_can_last_so_long(tmp_path: Path) -> None:
    now = [1_000_000.0]
    sights = Sights(tmp_path, lambda: now[0])
    sights.opened(login("kim"), sight("ava/1.1.1", "first"))
    now[0] += ABSOLUTE_S + 1
    sights.opened(login("lee"), sight("ava/1.1.1", "other"))
    assert sights.of(login("kim"), ["ava/1.1.1"]) == {}
