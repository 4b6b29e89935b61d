"""The projector of tool calls: no fold, its own checkpoints."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import contextmanager

import orjson
import psycopg

from chimera.eventlog.append import Appender
from chimera.eventlog.topics import apply, load_topics
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


def await_rows(dsn: str, wanted: int, seconds: float = 15.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if rows(dsn) >= wanted:
            return
        pause.wait(0.02)
    raise AssertionError(f"{rows(dsn)} of {wanted} calls after {seconds} s")
