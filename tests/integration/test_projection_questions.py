"""Every sample question answers on real data."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import orjson
import psycopg
import pytest
from typer.testing import CliRunner

from chimera.cli.main import build
from chimera.commands.keys import log_topics
from chimera.eventlog.cluster import apply
from chimera.events import records as rec
from chimera.events.raw import RawRecord
from chimera.events.sealed import Sealed
from chimera.projections import calls, read
from chimera.projections.engine import Projector, catch_up, connect, open_checkpoints
from chimera.projections.questions import NoSuchQuestion, NotAnswered, ask, question, questions
from chimera.projections.schema import migrate
from tests.integration.projection_data import History, day, enrol, mischief


@pytest.fixture(scope="module")
def projected(kafka_bootstrap: str, postgres_dsn: str) -> str:
    dsn = fresh_database(postgres_dsn)
    topic = f"questions-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(kafka_bootstrap, log_topics(topic))
    h = History(topic)
    for name in ("ava", "ben"):
        hear(h, day(h, name))
    mischief(h, enrol(h, "cy"))
    migrate(dsn)
    projector = Projector(kafka_bootstrap, dsn, h.root.public, topic=topic)
    catch_up(projector, h.send(kafka_bootstrap))
    projector.close()
    project_calls(dsn)
    return dsn


def hear(h: History, key: str) -> None:
    """Somebody mentions the agent."""
    sealed = Sealed(subject="person/1", nonce="AA==", ciphertext="AA==", key_commitment="c")
    item = rec.Signal(thread="x:7", external_id="9", author=sealed, text=sealed, observed_at=h.now)
    heard = rec.SignalObserved(source="x/social.mentions", number=1, cursor="9", items=[item])
    assert h.add(key, heard, actor="worker").outcome == "applied"


def fresh_database(dsn: str) -> str:
    name = f"questions_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    head, _, tail = dsn.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{tail}" if tail else "")


def project_calls(dsn: str) -> None:
    call = {
        "agent": "agent/1", "tenant": "acme", "profile": "x", "mode": "sandbox", "tool": "createPosts",
        "capability": "social.publish", "account": "ava_x", "argument_shape": {"text": "string[9]"}, "arguments_sha256": "a",
        "result_class": "ok", "reason": "", "latency_ms": 12, "cost_usd": "0.0125", "schema_sha256": "s", "correlation": None,
    }  # fmt: skip
    values = [orjson.dumps(call), orjson.dumps(call | {"latency_ms": 48}), b"\xff nonsense", b'["a list"]']
    raws = [RawRecord(calls.CALLS, 0, i, 1_700_000_000_000, b"agent/1", value, []) for i, value in enumerate(values)]
    with connect(dsn) as connection:
        open_checkpoints(connection, "core", calls.MODEL_SET, calls.CALLS, [0])
        calls.write_calls(connection, "core", raws)


NOT_LIVED = {
    "best_hours", "budgets_left", "engagement_growth", "late_observations", "media_activity",
    "spend_by_day", "spend_tie_out", "video_cost",
    "transactions", "winning_lineage",
}  # fmt: skip
"""Questions about what this history does not hold: media, money, numbers of platforms."""


@pytest.mark.parametrize("name", [q.name for q in questions()])
def test_every_question_has_an_answer_and_explains_its_columns(projected: str, name: str) -> None:
    asked = question(name)
    answer = ask(projected, asked)
    assert answer.columns == asked.returns
    assert answer.rows or name in NOT_LIVED, "a sample question without a row shows nothing"


def test_a_decision_record_is_whole(projected: str) -> None:
    answer = ask(projected, question("decision_records"))
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    assert {row["decision"] for row in rows} == {"approved", "rejected", "edited"}
    for row in rows:
        assert row["reviewer"]
        assert row["created_at"]
        assert row["policy_digest"]
        assert row["effect_hash"]
        assert row["artifact_hash"]
        assert row["judged"]["content"]["decision"] in ("pass", "people"), row


def test_posts_say_why_they_were_published(projected: str) -> None:
    answer = ask(projected, question("posts"))
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    ava = {row["text"].split("number ")[1].split(" ")[0]: row for row in rows if row["agent"] == "ava"}
    assert (ava["2"]["why"], ava["2"]["approved_by"]) == ("automatic", None)
    assert (ava["3"]["why"], ava["3"]["approved_by"]) == ("sensitive", "kim")
    assert (ava["4"]["why"], ava["4"]["approved_by"]) == ("confidence", "kim")
    assert ava["6"]["text"].endswith("(edited)")
    assert ava["6"]["approved_by"] == "lee"
    assert ava["7"]["text"].endswith("better")


def test_cards_retries_and_records_that_did_not_count(projected: str) -> None:
    assert {row["card"] for row in read.cards(projected)} == {"ava/1.8.1", "ben/1.8.1"}
    assert [row["risk_tags"] for row in read.cards(projected)] == [["money"], ["money"]]
    retries = {(row["agent"], row["ordinal"], row["attempt"]): row["reason"] for row in read.retries(projected)}
    assert retries[("ava", 7, 1)] == "rules"
    assert retries[("ava", 7, 2)] == "low_confidence"
    assert retries[("ava", 9, 1)] == "stale"
    assert {row["reason"] for row in read.rejections(projected)} == {"stale"}
    assert {"forged", "unreadable", "unknown_type", "closed", "unknown"} <= {row["reason"] for row in read.voids(projected)}
    counted = read.counts(projected)
    assert (counted["agents"], counted["posts"], counted["cards"]) == (3, 12, 2)
    assert len(read.posts(projected)) == 12


def test_a_broken_call_is_counted_and_not_lost(projected: str) -> None:
    answer = ask(projected, question("tool_calls"))
    found = {(row[0], row[2]): (row[3], str(row[4])) for row in answer.rows}
    assert found[("x", "ok")] == (2, "0.02500000")
    assert found[("", "unreadable")][0] == 2


def test_asking_on_the_command_line(projected: str, monkeypatch: pytest.MonkeyPatch, kafka_bootstrap: str) -> None:
    monkeypatch.setenv("CHIMERA_POSTGRES", projected)
    monkeypatch.setenv("CHIMERA_KAFKA", kafka_bootstrap)
    runner = CliRunner()
    listed = runner.invoke(build(["ask"]), ["ask", "--json"])
    assert {"posts", "cards", "retries"} <= {q["name"] for q in orjson.loads(listed.stdout)}
    rows = orjson.loads(runner.invoke(build(["ask"]), ["ask", "cards", "--json"]).stdout)
    assert sorted(row["card"] for row in rows) == ["ava/1.8.1", "ben/1.8.1"]
    assert runner.invoke(build(["ask"]), ["ask", "cards", "--csv"]).stdout.startswith("card,agent,why")
    costs = runner.invoke(build(["ask"]), ["ask", "tool_calls", "--csv"]).stdout
    assert "x,createPosts,ok,2,0.025,30,46.2" in costs
    assert "ava/1.8.1" in runner.invoke(build(["ask"]), ["ask", "cards"]).stdout
    assert runner.invoke(build(["ask"]), ["ask", "cards", "--csv", "--json"]).exit_code == 2


def test_an_unknown_question_names_the_known_ones_and_no_tables_say_so(make_database: Callable[[], str]) -> None:
    with pytest.raises(NoSuchQuestion, match="posts"):
        question("../secrets")
    with pytest.raises(NotAnswered, match="no read models yet"):
        ask(make_database(), question("posts"))
