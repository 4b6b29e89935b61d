"""Security events: a closed record, a file that is the queue, and a sender that loses nothing and fills no topic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.commands import security
from chimera.commands.security import figures, note, send_by
from chimera.eventlog.append import AppendFailed
from chimera.eventlog.bulk import Entry
from chimera.events.envelope import decode
from chimera.events.raw import RawRecord
from chimera.events.security import LONGEST, TOPIC, Noted, gathered, noted, read_line, security_of


class Broker:
    """Takes records, or is away."""

    def __init__(self, *, away: int = 0) -> None:
        self.away, self.log = away, list[RawRecord]()

    def append_many(self, entries: Sequence[Entry]) -> None:
        for topic, key, value, headers, _ in entries:
            self.log.append(RawRecord(topic, 0, len(self.log), 1_000, key.encode(), value, headers))
        if self.away:
            self.away -= 1
            raise AppendFailed(TOPIC, 0, "no answer in time", maybe_written=True)


def refused(who: str = "kim", at: int = 1_000) -> Noted:
    return noted("login_refused", door="mission_control", who=who, outcome="refused", reason="wrong_password", at=at)


def test_a_noted_event_reaches_the_topic_as_a_record_that_every_reader_can_decode(tmp_path: Path) -> None:
    broker, event = (
        Broker(),
        noted("switch_closed", door="shell", who="kim", tenant="acme", resource="tenant:acme", at=1_700_000_000_000),
    )
    assert note(tmp_path, event)
    assert send_by(tmp_path, broker.append_many) == 1
    (raw,) = broker.log
    record = decode(raw)
    assert (record.defect, record.type, record.key, record.tenant, record.actor) == (None, "SecurityNoted", "acme", "acme", "kim")
    assert (record.id, security_of(raw)) == (event.id, event.said)
    assert figures(tmp_path).waiting_bytes == 0


def test_while_the_broker_is_away_events_wait_and_are_sent_later_under_the_same_ids_in_their_order(tmp_path: Path) -> None:
    broker, events = Broker(away=1), [noted("signed_off", door="mission_control", who=name) for name in ("kim", "ada")]
    for event in events:
        assert note(tmp_path, event)
    with pytest.raises(AppendFailed):
        send_by(tmp_path, broker.append_many)
    assert figures(tmp_path).waiting_bytes > 0
    late = noted("signed_off", door="mission_control", who="lea")
    note(tmp_path, late)
    assert send_by(tmp_path, broker.append_many) == 3
    ids = [decode(raw).id for raw in broker.log]
    assert ids == [event.id for event in (*events, *events, late)]  # twice, since nobody knows whether they arrived: the id tells


def test_like_refusals_that_waited_together_become_one_record_with_their_number(tmp_path: Path) -> None:
    broker = Broker()
    for n in range(500):
        note(tmp_path, refused(at=1_000 + n))
    note(tmp_path, refused("ada"))
    for _ in range(2):
        note(tmp_path, noted("login_accepted", door="mission_control", who="kim"))
    send_by(tmp_path, broker.append_many)
    told = [said for raw in broker.log if (said := security_of(raw)) is not None]
    assert [(t.what, t.who, t.count) for t in told] == [
        ("login_refused", "kim", 500),
        ("login_refused", "ada", 1),
        ("login_accepted", "kim", 1),
        ("login_accepted", "kim", 1),
    ]
    assert (told[0].at, told[0].until) == (1_000, 1_499)


def test_an_event_that_finds_no_room_is_told_in_the_log_and_counted_in_the_stream_once_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost, broker = figures(tmp_path).lost, Broker()
    monkeypatch.setattr(security, "MOST_BYTES", 10)
    with caplog.at_level(logging.ERROR):
        assert not note(tmp_path, refused())
    assert "wrong_password" in caplog.text
    assert figures(tmp_path).lost == lost + 1
    monkeypatch.undo()
    assert note(tmp_path, refused("ada"))
    send_by(tmp_path, broker.append_many)
    told = [said for raw in broker.log if (said := security_of(raw)) is not None]
    assert [(t.what, t.count) for t in told] == [("login_refused", 1), ("events_lost", lost + 1)]
    assert figures(tmp_path).lost == 0


def test_a_directory_that_cannot_be_written_never_fails_who_notes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "security").write_text("a file where the directory should be")
    with caplog.at_level(logging.ERROR):
        assert not note(tmp_path, refused())
    assert "could not be kept" in caplog.text
    (tmp_path / "security").unlink()
    assert note(tmp_path, refused())  # pays what is owed, so that no other test meets it


def test_a_line_that_was_cut_off_is_told_and_the_others_are_sent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    note(tmp_path, refused())
    path = tmp_path / "security" / "waiting.jsonl"
    path.write_bytes(path.read_bytes() + refused("ada").line()[:40] + b"\n")
    broker = Broker()
    with caplog.at_level(logging.ERROR):
        assert send_by(tmp_path, broker.append_many) == 1
    assert "left out" in caplog.text


def test_what_waits_is_read_by_its_owner_alone(tmp_path: Path) -> None:
    note(tmp_path, refused())
    assert (tmp_path / "security").stat().st_mode & 0o077 == 0
    assert (tmp_path / "security" / "waiting.jsonl").stat().st_mode & 0o077 == 0


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=400), st.text(max_size=70), st.integers())
def test_whatever_it_is_told_an_event_stays_bounded_and_clean(
    who: str, resource: str, reason: str, digest: str, count: int
) -> None:
    event = noted("right_refused", door="shell", who=who, tenant=who, resource=resource, reason=reason, digest=digest, count=count)
    said = event.said
    assert max(len(said.who), len(said.resource), len(said.reason), len(event.tenant)) <= LONGEST
    assert not any(sign in said.who + said.resource + event.tenant for sign in "\n\r\t\x00\x1b\"'<>\\{}$")
    assert said.who
    assert read_line(event.line()) == event
    wire = event.wire()
    raw = RawRecord(TOPIC, 0, 0, 0, wire.key.encode(), wire.value, wire.headers)
    assert (decode(raw).defect, security_of(raw)) == (None, said)


def test_gathering_again_changes_nothing() -> None:
    once = gathered([refused(), refused(at=7), refused("ada")])
    assert gathered(once) == once
    assert once[0].said.count == 2
