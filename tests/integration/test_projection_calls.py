"""The projector of tool calls: no fold, its own checkpoints."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg

from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.topics import load_topics
from chimera.projections import calls
from chimera.projections.schema import migrate


def test_calls_are_written_once_across_restarts(kafka_bootstrap: str, make_database: Callable[[], str]) -> None:
    dsn, prefix = make_database(), f"calls-{uuid.uuid4().hex[:8]}-"
    migrate(dsn)
    topics = load_topics().only(calls.CALLS).with_prefix(prefix)
    apply(kafka_bootstrap, topics)
    topic = prefix + calls.CALLS
    with Appender(kafka_bootstrap, topics, "test") as appender:
        for n in range(3):
            appender.append_blocking(
                topic, f"agent/{n}", orjson.dumps({"tenant": "acme", "result_class": "ok", "cost_usd": "0.5"}), []
            )
            with following(kafka_bootstrap, dsn, topic):
                await_rows(dsn, n + 1)
    assert rows(dsn) == 3
    with psycopg.connect(dsn) as connection:
        assert_spend_is_what_calls_cost(connection)


def test_a_row_that_postgres_refuses_says_so_and_the_others_around_it_are_written(
    kafka_bootstrap: str, make_database: Callable[[], str]
) -> None:
    dsn, prefix = make_database(), f"calls-{uuid.uuid4().hex[:8]}-"
    migrate(dsn)
    topics = load_topics().only(calls.CALLS).with_prefix(prefix)
    apply(kafka_bootstrap, topics)
    topic = prefix + calls.CALLS
    with psycopg.connect(dsn) as connection:
        connection.execute("ALTER TABLE core.tool_calls ADD CONSTRAINT planted CHECK (tool <> 'cursed')")
    with Appender(kafka_bootstrap, topics, "test") as appender:
        for n in range(200):
            call = {"tenant": "acme", "result_class": "ok", "cost_usd": "0.5", "tool": "cursed" if n % 2 else "blessed"}
            appender.append_blocking(topic, "agent/1", orjson.dumps(call), [])
        with following(kafka_bootstrap, dsn, topic):
            await_count(dsn, "SELECT count(*) FROM core.tool_calls", 200)
            long = {"tool": "blessed", "result_class": "ok", "correlation": "c" * 9_000, "cost_usd": "0.25"}
            appender.append_blocking(topic, "agent/1", orjson.dumps(long), [])
            appender.append_blocking(topic, "x" * 9_000, orjson.dumps({"tool": "blessed", "result_class": "ok"}), [])
            await_count(dsn, "SELECT count(*) FROM core.tool_calls", 202)
    with psycopg.connect(dsn) as connection:
        counted = connection.execute("SELECT result_class, count(*) FROM core.tool_calls GROUP BY 1 ORDER BY 1").fetchall()
        reasons = connection.execute("SELECT DISTINCT reason FROM core.tool_calls WHERE result_class = 'unreadable'").fetchall()
        unreadable = connection.execute("SELECT sum(unreadable)::int FROM core.checkpoints").fetchone()
        assert connection.execute("SELECT count(*) FROM core.parked").fetchone() == (0,)
        assert_spend_is_what_calls_cost(connection)
    assert counted == [("ok", 102), ("unreadable", 100)]
    assert len(reasons) == 1
    assert "planted" in reasons[0][0]
    assert unreadable == (100,)


def assert_spend_is_what_calls_cost(connection: psycopg.Connection[Any]) -> None:
    kept = "SELECT agent_id, campaign_id, profile, capability, tool, day, calls, cost_usd FROM core.spend_daily"
    told = (
        "SELECT agent_id, correlation, profile, capability, tool, (created_at AT TIME ZONE 'UTC')::date, count(*), sum(cost_usd)"
        " FROM core.tool_calls GROUP BY 1, 2, 3, 4, 5, 6"
    )
    found, recomputed = (sorted(connection.execute(question.encode()).fetchall()) for question in (kept, told))
    assert found == recomputed
    assert found


@contextmanager
def following(bootstrap: str, dsn: str, topic: str):  # type: ignore[no-untyped-def]
    stop = threading.Event()
    thread = threading.Thread(target=calls.follow, args=(bootstrap, dsn, stop), kwargs={"topic": topic})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def rows(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT count(*), sum(cost_usd) FROM core.tool_calls").fetchone()
    assert found is not None
    assert found[0] == 0 or float(found[1]) == found[0] / 2
    return int(found[0])


def await_count(dsn: str, query: str, wanted: int) -> None:
    pause = threading.Event()
    for _ in range(1_000):
        with psycopg.connect(dsn) as connection:
            if connection.execute(query.encode()).fetchone() == (wanted,):
                return
        pause.wait(0.03)
    raise AssertionError(f"not {wanted} rows in time")


def await_rows(dsn: str, wanted: int, seconds: float = 15.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if rows(dsn) >= wanted:
            return
        pause.wait(0.02)
    raise AssertionError(f"{rows(dsn)} of {wanted} calls after {seconds} s")
