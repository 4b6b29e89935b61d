"""An analyst who reads for long holds up nobody who writes: neither rows of any topic nor the parts that they need."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest

from chimera.events.metrics import TOPIC as METRICS
from chimera.events.metrics import EngagementObserved, encode
from chimera.events.raw import RawRecord
from chimera.projections import analysts, calls, metrics, parts
from chimera.projections.checkpoints import LOG, MODEL_SET, connect, open_checkpoints
from chimera.projections.engine import new_fold, project
from chimera.projections.schema import migrate
from chimera.projections.write import Connection, write
from tests.integration.projection_data import PARTITIONS, History, day

ROUNDS = 5
EACH = 300
"""Calls and observations of a round: more than travel without a COPY."""
FIRST = PARTITIONS + 10
"""Records of the log that come first: the law of each partition, and an agent that is enrolled."""
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LONG = (
    "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM effects), (SELECT count(*) FROM tool_calls),"
    " (SELECT count(*) FROM engagement_metrics), (SELECT count(*) FROM engagement_daily), (SELECT count(*) FROM freshness),"
    " pg_sleep(6)::text, clock_timestamp()"
)


class Writer:
    """A projector of all three topics, whose rounds are told apart by their days."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.history = History(LOG)
        self.agent = day(self.history, "ava", 16)
        self.log = self.history.raws()
        self.folds = {p: new_fold(p, PARTITIONS, self.history.root.public) for p in range(PARTITIONS)}
        self.committed: list[datetime] = []
        for model_set, topic, count in ((MODEL_SET, LOG, PARTITIONS), (calls.MODEL_SET, calls.CALLS, 1), ("metrics", METRICS, 1)):
            open_checkpoints(connection, "core", model_set, topic, range(count))

    def round(self, number: int) -> None:
        """A share of the log, calls, and the observations of a day that has no part yet: a commit each."""
        share = (len(self.log) - FIRST) // (ROUNDS + 1)
        for raw in self.log[FIRST + (number - 1) * share : FIRST + number * share] if number else self.log[:FIRST]:
            stretch = project(self.folds[raw.partition], [raw], raw.offset)
            assert stretch is not None
            write(self.connection, "core", MODEL_SET, [stretch])
        self._done()
        key, numbers = self.agent.encode(), range(number * EACH, (number + 1) * EACH)
        at = int((NOON + timedelta(days=number)).timestamp() * 1000)
        call = orjson.dumps({"tenant": "acme", "result_class": "ok", "cost_usd": "0.5"})
        calls.write_calls(self.connection, "core", [RawRecord(calls.CALLS, 0, n, at, key, call, []) for n in numbers])
        self._done()
        told = [encode(EngagementObserved(self.agent, "x", f"p{n}", at, {"views": n}, "t")) for n in numbers]
        raws = [RawRecord(METRICS, 0, n, at, key, value, []) for n, value in zip(numbers, told, strict=True)]
        metrics.write_raws(self.connection, "core", raws)
        self._done()

    def _done(self) -> None:
        self.committed.append(self.connection.execute("SELECT clock_timestamp()").fetchall()[0][0])


@pytest.fixture
def connection(make_database: Callable[[], str]) -> Iterator[Connection]:
    dsn = make_database()
    migrate(dsn)
    with connect(dsn) as made:
        made.execute("SET lock_timeout TO '30s'")  # whoever waits for a reader fails here, and says for what
        yield made


@pytest.fixture
def writer(connection: Connection) -> Writer:
    made = Writer(connection)
    made.round(0)
    return made


@pytest.fixture
def reading(connection: Connection, writer: Writer) -> Iterator[psycopg.Connection[Any]]:
    """An analyst's session."""
    name = f"ida_{uuid.uuid4().hex[:8]}"
    analysts.add(connection, name, ["acme"], by="test")
    with psycopg.connect(connection.info.dsn, user=name) as made:
        yield made
    analysts.remove(connection, name)


def test_rows_and_parts_are_committed_while_an_analyst_reads_for_six_seconds(
    connection: Connection, writer: Writer, reading: psycopg.Connection[Any]
) -> None:
    before = parts.parts(connection)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(lambda: reading.execute(LONG.encode()).fetchall()[0])
        deadline, pause = time.monotonic() + 60, threading.Event()
        while not asleep(connection, reading):
            assert time.monotonic() < deadline, "the analyst's statement did not get as far as its sleep"
            pause.wait(0.02)
        writer.committed.clear()
        for number in range(1, ROUNDS + 1):
            writer.round(number)
        events, effects, called, told, daily, _, _, end = answer.result()
    late = [at for at in writer.committed if at > end]
    assert (len(writer.committed), late) == (3 * ROUNDS, []), "commits came after the long statement: did they wait for it?"
    assert (events, effects) == (FIRST - PARTITIONS, 0)
    assert (called, told, daily) == (EACH, EACH, EACH), "the statement saw rows that came after it had begun"
    writer.round(ROUNDS + 1)  # and while the transaction stays open
    after = reading.execute("SELECT (SELECT count(*) FROM effects), (SELECT count(*) FROM tool_calls)").fetchall()[0]
    assert after[0] > effects
    assert after[1] == (ROUNDS + 2) * EACH
    assert len(parts.parts(connection)) == len(before) + ROUNDS + 1, "new days got no parts"


def asleep(connection: Connection, reading: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", (reading.info.backend_pid,)).fetchone()
    return row == ("PgSleep",)
