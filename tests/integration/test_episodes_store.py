"""Every store of episodes keeps the same contract: bounded lists, one tenant, rows and checkpoint together, forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chimera.events.sealed import seal
from chimera.memory.contract import MemoryAway
from chimera.memory.episodes.contract import Episodes, Limits, Moved, Row, Store, packed
from chimera.memory.episodes.inprocess import InProcess
from chimera.memory.episodes.rows import Counted, row_of, rows_of
from chimera.memory.episodes.valkey import Server, Valkey
from chimera.memory.store import subject_key
from tests.episodehouse import NOW_MS, Running, valkey_server
from tests.memoryhouse import AVA, BEN, Keys, note

DAY_MS = 86_400_000
LIMITS = Limits(last=5, ttl_ms=7 * DAY_MS)
LOG, NOTES = ("chimera.log", 0), ("chimera.notes", 0)


class House:
    """One store, its clock, and what is read of it."""

    def __init__(self, kind: str, server: Server | None) -> None:
        self.now = NOW_MS
        self.keys = Keys()
        self._server = server
        self.store = self.open()
        self.store.begin({LOG: 0, NOTES: 0})
        self.read = Episodes(self.store, self.keys)

    def open(self, limits: Limits = LIMITS) -> Store:
        """The store as another process has it; in one process there is one."""
        if self._server is None:
            return InProcess(limits, lambda: self.now)
        return Valkey(self._server, limits, lambda: self.now)

    def put(self, *rows: Row) -> None:
        """As the follower does it, on from the checkpoint."""
        at = self.store.checkpoints()[LOG]
        self.store.write({LOG: (at, at + len(rows))}, rows)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Running]:
    with valkey_server() as running:
        yield running


@pytest.fixture(params=["process", "valkey"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    server = request.getfixturevalue("valkey").server if request.param == "valkey" else None
    made = House(request.param, server)
    with closing(made.store):
        yield made


def event(n: int, **more: Any) -> Row:
    """The event of a record that counted."""
    told = Counted(0, n, f"r{n}", "WorkFailed", "acme", AVA, 1, n, "applied", "", NOW_MS + n, "no_source", None, None, None)
    return rows_of([told._replace(**more)])[0]


def heard(n: int, words: str, *, thread: str = "x:1", subject: str = "person/mia", **more: Any) -> Row:
    """What somebody said in a thread."""
    item = {"thread": thread, "text": seal(Keys(), subject, words).model_dump(), "taint": "open"}
    told = Counted(0, n, f"r{n}", "SignalObserved", "acme", AVA, None, None, "applied", "", NOW_MS + n, "", [item], None, None)
    return rows_of([told._replace(**more)])[1]


def ours(n: int, *, thread: str = "x:1") -> Row:
    """What the agent made to be said in a thread."""
    told = Counted(0, n, f"r{n}", "ArtifactProduced", "acme", AVA, 1, 4, "applied", "", NOW_MS + n, "reply", None, thread, "open")
    return rows_of([told])[1]


def went_out(made: int, words: str, *, subject: str = "person/mia") -> Row:
    """The note of what went out, made of the record at that offset."""
    noted = note(words, kind="post_result", subject=subject, ts=NOW_MS)
    return row_of(noted.model_copy(update={"provenance": noted.provenance.model_copy(update={"partition": 0, "offset": made})}),
                  (0, made), NOW_MS + made)  # fmt: skip


def test_an_agents_last_events_are_told_newest_first_and_no_more_than_are_kept(house: House) -> None:
    house.put(*(event(n) for n in range(40)))
    found = house.read.events("acme", AVA, 3)
    assert [(e.at, e.record, e.type, e.ordinal, e.words) for e in found] == [
        ((0, n), f"r{n}", "WorkFailed", n, "no_source") for n in (39, 38, 37)
    ]
    assert len(house.read.events("acme", AVA, 1_000)) == LIMITS.rows, "the oldest gave way"
    house.put(event(40, outcome="rejected", reason="stale"))
    assert house.read.events("acme", AVA, 1)[0][4:6] == ("rejected", "stale")


def test_rows_and_checkpoint_move_together_or_not_at_all(house: House) -> None:
    house.put(event(0))
    with pytest.raises(Moved):
        house.store.write({LOG: (0, 1)}, [event(0)])
    with pytest.raises(Moved):
        house.store.write({LOG: (1, 2), NOTES: (9, 10)}, [event(1)])
    assert [e.at for e in house.read.events("acme", AVA, 9)] == [(0, 0)]
    assert house.store.checkpoints() == {LOG: 1, NOTES: 0}


def test_a_store_that_is_begun_anew_holds_nothing_of_before(house: House) -> None:
    house.put(event(0), heard(1, "hello"))
    house.store.forget({subject_key("person/otto")})
    house.store.begin({LOG: 7})
    assert house.store.checkpoints() == {LOG: 7}
    assert house.store.contents() == {}
    assert house.store.swept() == set()


def test_a_tenant_is_never_told_anothers_whatever_it_is_called(house: House) -> None:
    names = ["acme", "acme:of", "*", "acme%3Aof", "acme:agent", "[a]cme", "ACME", "acme\n", "of:acme"]
    house.put(*(event(n, tenant=name) for n, name in enumerate(names)))
    house.put(*(heard(n, f"for {name!r}", tenant=name) for n, name in enumerate(names)))
    for n, name in enumerate(names):
        assert [e.record for e in house.read.events(name, AVA, 9)] == [f"r{n}"]
        assert [told.text for told in house.read.thread(name, AVA, "x:1", 9)] == [f"for {name!r}"]
        assert house.read.threads(name, AVA) == ["x:1"]
    assert house.read.events("acm?", AVA, 9) == []
    assert house.read.events("acme", BEN, 9) == [], "nor one agent another's"
    assert {where[0] for where in house.store.contents()} == set(names)


def test_what_is_too_old_is_not_told_and_a_list_is_let_go_with_its_newest_row(house: House) -> None:
    house.put(event(0, ts=NOW_MS - 6 * DAY_MS), event(1))
    assert len(house.read.events("acme", AVA, 9)) == 2
    house.now += 2 * DAY_MS
    assert [e.record for e in house.read.events("acme", AVA, 9)] == ["r1"]
    house.now += 6 * DAY_MS
    assert house.read.events("acme", AVA, 9) == []
    assert house.store.contents() == {}
    if isinstance(house.store, Valkey):
        with house.store._asking() as client:
            [key] = client.keys("*:of:*")
            assert client.pexpiretime(key) == NOW_MS + 1 + LIMITS.ttl_ms, "by the server's own clock, for its memory's sake"


def test_of_notes_with_one_id_the_latest_is_told(house: House) -> None:
    house.put(
        row_of(note("Soup.", kind="post_result", identity="p", numbers={"likes": 1}, ts=NOW_MS), (0, 0), NOW_MS),
        row_of(note("A fact.", ts=NOW_MS), (0, 1), NOW_MS + 1),
        row_of(note("Soup.", kind="post_result", identity="p", numbers={"likes": 9}, ts=NOW_MS + 5), (0, 2), NOW_MS + 2),
    )
    assert [(n.text, n.kind, n.numbers) for n in house.read.notes("acme", AVA, 9)] == [
        ("Soup.", "post_result", {"likes": 9}), ("A fact.", "fact_with_source", {})
    ]  # fmt: skip
    assert len(house.read.notes("acme", AVA, 1)) == 1


def test_a_thread_is_told_in_order_with_what_the_agent_said_once_that_went_out(house: House) -> None:
    house.put(heard(1, "Is fennel in season?"), ours(2), heard(3, "Thanks!"), heard(4, "Elsewhere.", thread="x:2"))
    assert [told.text for told in house.read.thread("acme", AVA, "x:1", 9)] == ["Is fennel in season?", "Thanks!"]
    house.put(went_out(2, "It is, until March."))
    assert [(told.by, told.text) for told in house.read.thread("acme", AVA, "x:1", 9)] == [
        ("them", "Is fennel in season?"), ("us", "It is, until March."), ("them", "Thanks!")
    ]  # fmt: skip
    assert [told.text for told in house.read.thread("acme", AVA, "x:1", 1)] == ["Thanks!"]
    assert house.read.threads("acme", AVA) == ["x:1", "x:2"]


def test_somebody_forgotten_is_gone_at_once_and_their_rows_when_it_is_swept(house: House) -> None:
    rows = [heard(1, "I am Mia."), ours(2), went_out(2, "Hello Mia."), heard(3, "I am Otto.", subject="person/otto")]
    house.put(*rows)
    house.keys.forget("person/mia")
    assert [told.text for told in house.read.thread("acme", AVA, "x:1", 9)] == ["I am Otto."], "before anybody swept"
    assert house.read.notes("acme", AVA, 9) == []
    assert house.store.forget(house.keys.gone()) == 2
    assert house.store.swept() == house.keys.gone()
    bodies = b"".join(body for found in house.store.contents().values() for body in found)
    assert b"person/mia" not in bodies
    assert b"person/otto" in bodies


def test_odd_words_and_names_are_kept_as_they_are(house: House) -> None:
    thread, words = "x:dm/ä %3A\n*", "Tabs\tand\nlines\0 \\ 🍲 \u202e"
    house.put(heard(1, words, thread=thread))
    assert [told.text for told in house.read.thread("acme", AVA, thread, 9)] == [words]
    assert house.read.threads("acme", AVA) == [thread]


def test_what_was_filled_with_other_limits_counts_as_empty(valkey: Running) -> None:
    with closing(Valkey(valkey.server, LIMITS, lambda: NOW_MS)) as store:
        store.begin({LOG: 5})
        assert store.checkpoints() == {LOG: 5}
        with closing(Valkey(valkey.server, LIMITS._replace(last=6), lambda: NOW_MS)) as other:
            assert other.checkpoints() == {}
            with pytest.raises(Moved):
                other.write({LOG: (5, 6)}, [])


def test_installations_that_share_a_server_see_nothing_of_each_other(valkey: Running) -> None:
    with (
        closing(Valkey(valkey.server._replace(space="one"), LIMITS, lambda: NOW_MS)) as one,
        closing(Valkey(valkey.server._replace(space="one:episodes:of"), LIMITS, lambda: NOW_MS)) as two,
    ):
        for store in (one, two):
            store.begin({LOG: 0})
        one.write({LOG: (0, 1)}, [event(0)])
        assert two.contents() == {}
        two.begin({LOG: 0})
        assert len(one.contents()) == 1


def test_a_server_that_is_away_or_lets_nobody_in_is_named_without_its_password(valkey: Running, tmp_path: Path) -> None:
    wrong = tmp_path / "key"
    wrong.write_text("not it")
    cases = [
        (Server("redis://:secret@127.0.0.1:1/0"), r"127\.0\.0\.1:1/0 does not answer"),
        (valkey.server._replace(key_file=wrong), "invalid username-password|WRONGPASS"),
        (valkey.server._replace(key_file=None), "authenticated"),
        (valkey.server._replace(key_file=tmp_path / "nowhere"), "CHIMERA_CACHE_KEY_FILE"),
        (Server("http://127.0.0.1"), "redis://host:port/0"),
    ]
    for server, said in cases:
        with closing(Valkey(server)) as store, pytest.raises(MemoryAway, match=said) as away:
            store.checkpoints()
        assert "secret" not in str(away.value)


def test_sealed_words_stand_in_a_row_as_the_log_has_them() -> None:
    sealed = seal(Keys(), "person/mia", "Hello.")
    assert packed(sealed) == [sealed.subject, sealed.nonce, sealed.ciphertext, sealed.key_commitment]
    assert sealed.ciphertext.encode() in went_out_body(sealed)


def went_out_body(sealed: Any) -> bytes:
    return row_of(note("x").model_copy(update={"text": sealed}), (0, 0), NOW_MS).body
