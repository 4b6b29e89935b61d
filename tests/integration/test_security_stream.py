"""Security events on a real broker: who notes never waits, one process of the home sends, and readers see each event once."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from chimera.commands.security import Sender, figures, newest, note, send
from chimera.eventlog.append import AppendFailed
from chimera.eventlog.cluster import apply
from chimera.eventlog.topics import KafkaUnavailable, load_topics
from chimera.events.security import TOPIC, noted


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    name = f"guarded-{uuid.uuid4().hex[:8]}-{TOPIC}"
    apply(kafka_bootstrap, load_topics().only(TOPIC).with_prefix(name.removesuffix(TOPIC)))
    return name


def test_what_any_process_of_the_home_notes_is_sent_by_the_one_that_is_at_it(
    kafka_bootstrap: str, topic: str, tmp_path: Path
) -> None:
    with Sender(tmp_path, lambda: kafka_bootstrap, topic=topic, every_s=0.05):
        note(tmp_path, noted("signed_off", door="mission_control", who="kim", tenant="acme"))
        deadline = time.monotonic() + 60
        while not newest(kafka_bootstrap, 10, topic=topic) and time.monotonic() < deadline:
            continue  # each look asks the broker
        note(tmp_path, noted("signed_off", door="mission_control", who="ada"))
    told = newest(kafka_bootstrap, 10, topic=topic)
    assert [(each.tenant, each.said.what, each.said.who) for each in told] == [
        ("acme", "signed_off", "kim"),
        ("*", "signed_off", "ada"),
    ]
    assert newest(kafka_bootstrap, 1, topic=topic) == told[1:]
    assert figures(tmp_path).waiting_bytes == 0


def test_a_sender_that_is_cut_off_sends_again_and_readers_see_each_event_once(
    kafka_bootstrap: str, topic: str, tmp_path: Path
) -> None:
    for who in ("kim", "ada"):
        note(tmp_path, noted("signed_off", door="mission_control", who=who))
    waiting = tmp_path / "security" / "waiting.jsonl"
    taken = waiting.read_bytes()
    assert send(tmp_path, kafka_bootstrap, topic=topic) == 2
    (tmp_path / "security" / "sending.jsonl").write_bytes(taken)  # as one that was killed before it removed it leaves it
    note(tmp_path, noted("signed_off", door="mission_control", who="lea"))
    assert send(tmp_path, kafka_bootstrap, topic=topic) == 3
    assert [each.said.who for each in newest(kafka_bootstrap, 10, topic=topic)] == ["kim", "ada", "lea"]


def test_while_no_broker_answers_a_command_line_gives_up_soon_and_the_event_stays(tmp_path: Path) -> None:
    note(tmp_path, noted("key_rotated", door="shell", who="kim"))
    with pytest.raises((AppendFailed, KafkaUnavailable)):
        send(tmp_path, "127.0.0.1:1", timeout_s=0.5)
    assert figures(tmp_path).waiting_bytes > 0
