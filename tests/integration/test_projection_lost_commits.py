"""A database that is killed forgets its last commits, since no projector waits for its disk; what was forgotten is written again.

The server is one of this test's own, which puts its log on disk so seldom that a kill surely takes commits with it.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psycopg
import pytest

from chimera.commands.keys import log_topics
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.topics import TopicSet, load_topics
from chimera.events.metrics import TOPIC as METRICS
from chimera.events.metrics import EngagementObserved, encode
from chimera.projections import calls, metrics
from chimera.projections.engine import Projector
from chimera.projections.schema import migrate
from chimera.projections.verify import verify
from chimera.stack.postgres import prepare_postgres
from chimera.stack.supervisor import Supervisor
from tests.integration.projection_data import History, day, enrol

DEADLINE_S = 90.0


class Database(NamedTuple):
    """A PostgreSQL and whoever starts it again."""

    dsn: str
    supervisor: Supervisor

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def keep(self) -> None:
        """Have everything so far on disk."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    def kill(self) -> None:
        [state] = self.supervisor.states()
        assert state.pid is not None
        os.kill(state.pid, signal.SIGKILL)


@pytest.fixture
def database() -> Iterator[Database]:
    with ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="chimera-test-lost-", ignore_cleanup_errors=True)))
        postgres = prepare_postgres(home / "postgres")
        supervisor = Supervisor(home / "logs")
        supervisor.start()
        closing.callback(supervisor.stop)
        supervisor.add([postgres.child])
        made = Database(postgres.dsn, supervisor)
        migrate(made.dsn)
        with psycopg.connect(made.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET wal_writer_delay TO '10s'")
            connection.execute("SELECT pg_reload_conf()")
        yield made


def until(holds: Callable[[], bool], what: str) -> None:
    """Await a condition; a database that is away does not meet it."""
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except psycopg.OperationalError:
            pass
        pause.wait(0.05)
    raise AssertionError(f"did not come about in time: {what}")


@contextmanager
def at_work(bootstrap: str, database: Database, h: History, prefix: str) -> Iterator[None]:
    """All that the projector process does: the log, the calls, the numbers."""
    stop = threading.Event()
    projector = Projector(bootstrap, database.dsn, h.root.public, topic=h.topic, share=True, stop=stop)
    threads = [threading.Thread(target=projector.run)]
    for follow, topic in ((calls.follow, calls.CALLS), (metrics.follow, METRICS)):
        threads.append(threading.Thread(target=follow, args=(bootstrap, database.dsn, stop), kwargs={"topic": prefix + topic}))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        projector.close()


def topics_of(bootstrap: str, prefix: str) -> TopicSet:
    made = load_topics().only(calls.CALLS, METRICS).with_prefix(prefix)
    apply(bootstrap, made)
    apply(bootstrap, log_topics(f"{prefix}chimera.log"))
    return made


def say(appender: Appender, prefix: str, n: int) -> None:
    """One call and one number."""
    call = {"tenant": "acme", "result_class": "ok", "cost_usd": "0.5"}
    appender.append_blocking(prefix + calls.CALLS, "agent/1", orjson.dumps(call), [])
    told = EngagementObserved("agent/1", "x", "p1", 1_795_000_000_000 + n, {"views": n}, "x/social.metrics")
    appender.append_blocking(prefix + METRICS, "agent/1", encode(told), [])


def test_commits_that_a_killed_database_forgot_are_made_again_though_no_record_follows(
    kafka_bootstrap: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = f"lost-{uuid.uuid4().hex[:8]}-"
    topics, h = topics_of(kafka_bootstrap, prefix), History(f"{prefix}chimera.log")
    tables = ("events", "tool_calls", "engagement_metrics")
    counted = f"SELECT {', '.join(f'(SELECT count(*) FROM core.{table})' for table in tables)}"
    for name in ("ava", "ben"):
        day(h, name)
    h.send(kafka_bootstrap)
    caplog.set_level(logging.WARNING)
    with Appender(kafka_bootstrap, topics, "test") as appender, at_work(kafka_bootstrap, database, h, prefix):
        say(appender, prefix, 1)
        until(lambda: database.ask(counted) == [(len(h.entries), 1, 1)], "the first records are rows")
        database.keep()
        enrol(h, "cleo")
        h.send(kafka_bootstrap)
        say(appender, prefix, 2)
        whole = [(len(h.entries), 2, 2)]
        until(lambda: database.ask(counted) == whole, "the last records are rows")
        database.kill()
        until(lambda: "came back without" in caplog.text, "the projector sees that its last commits are gone")
        until(lambda: database.ask(counted) == whole, "what was forgotten is written again")
    elsewhere: dict[str, Any] = {"topic": h.topic, "calls_topic": prefix + calls.CALLS, "metrics_topic": prefix + METRICS}
    assert verify(kafka_bootstrap, database.dsn, h.root.public, **elsewhere).equal
