"""Analysts on a streaming standby: what a view shows and how far it is projected are of one moment there too.

Both servers are this test's own: the standby is made by pg_basebackup of the same wheel, and follows while rows arrive.
"""

from __future__ import annotations

import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psycopg
import pytest

from chimera.events.metrics import TOPIC as METRICS
from chimera.events.metrics import EngagementObserved
from chimera.events.metrics import encode as told
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.projections import analysts, calls, metrics
from chimera.projections.checkpoints import LOG, MODEL_SET, connect, open_checkpoints
from chimera.projections.engine import new_fold, project
from chimera.projections.parts import make_ahead
from chimera.projections.schema import migrate
from chimera.projections.write import Connection, write
from chimera.stack.postgres import ROOT_RUNS_AS, Postgres, prepare_postgres, server_binaries
from chimera.stack.supervisor import Supervisor
from tests.integration.projection_data import PARTITIONS, History, day

NOW = 1_795_000_000_000
DEADLINE_S = 90.0
LOOKS = 20
"""So many different watermarks are looked at while rows arrive."""


class Pair(NamedTuple):
    """A primary, its standby, and the log that an agent's day is read from."""

    primary: str
    standby: str
    log: list[RawRecord]
    folds: dict[int, PartitionFold]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="chimera-test-standby-", ignore_cleanup_errors=True)))
        supervisor = Supervisor(home / "logs")
        supervisor.start()
        closing.callback(supervisor.stop)
        primary = prepare_postgres(home / "one", durable=False)
        supervisor.add([primary.child])
        migrate(primary.dsn)
        h = History(LOG)
        day(h, "ava", 16)
        with connect(primary.dsn) as connection:
            for model_set, topic, count in (
                (MODEL_SET, LOG, PARTITIONS),
                (calls.MODEL_SET, calls.CALLS, 1),
                ("metrics", METRICS, 1),
            ):
                open_checkpoints(connection, "core", model_set, topic, range(count))
            for key, tenant in (("agent/1", "acme"), ("agent/2", "bolt")):
                connection.execute(
                    "INSERT INTO core.agents VALUES (%s, %s, %s, 'active', false, 1, 1, 1, 0, 0, now(), 0, 1)", (key, tenant, key)
                )
            analysts.add(connection, "ida", ["acme"], by="test")
            # As a running house does: a statement planned before a part is attached does not look into it, whatever its snapshot.
            make_ahead(connection, now=datetime.fromtimestamp(NOW / 1000, UTC))
            made = Pair(primary.dsn, "", h.raws(), {p: new_fold(p, PARTITIONS, h.root.public) for p in range(PARTITIONS)})
            for raw in made.log[:PARTITIONS]:  # the law: it is no tenant's, so no analyst sees its records
                log_written(connection, made, raw)
        standby = standby_of(primary, home / "two")
        supervisor.add([replace(standby.child, name="standby")])
        yield made._replace(standby=standby.dsn)


def standby_of(primary: Postgres, home: Path) -> Postgres:
    """A copy of the running server that follows it over its socket."""
    home.mkdir()
    user = primary.child.user
    if user is not None:
        shutil.chown(home, user)
    command: list[Any] = [server_binaries() / "pg_basebackup", "--dbname", primary.dsn, "--pgdata", home / "data"]
    subprocess.run(
        [*command, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"],
        check=True,
        cwd="/",
        user=user,
        group=None if user is None else pwd.getpwnam(ROOT_RUNS_AS).pw_gid,
        extra_groups=None if user is None else [],
        timeout=120,
    )
    return prepare_postgres(home, durable=False)


def log_written(connection: Connection, pair: Pair, raw: RawRecord) -> None:
    """One record of the log in a transaction of its own."""
    stretch = project(pair.folds[raw.partition], [raw], raw.offset)
    assert stretch is not None
    write(connection, "core", MODEL_SET, [stretch])


def as_analyst(dsn: str) -> psycopg.Connection[Any]:
    return psycopg.connect(dsn, user="ida", autocommit=True)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not holds():
        assert time.monotonic() < deadline, f"did not come about in time: {what}"
        pause.wait(0.02)


class Arriving:
    """Rows of the log, of calls and of numbers, a few in each transaction, for as long as somebody looks."""

    def __init__(self, pair: Pair) -> None:
        self.pair, self.stop, self.failed = pair, threading.Event(), list[BaseException]()
        self.sent, self.logged = 0, PARTITIONS
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> Arriving:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(DEADLINE_S)
        assert self.failed == []

    def _run(self) -> None:
        try:
            with connect(self.pair.primary) as connection:
                while not self.stop.is_set():
                    self._some(connection)
        except BaseException as error:  # noqa: BLE001  # looked at when the block ends
            self.failed.append(error)

    def _some(self, connection: Connection) -> None:
        numbers, first = range(self.sent, self.sent + 5), self.sent
        seen = [EngagementObserved("agent/1", "x", "p1", NOW + n, {"views": n}, "t") for n in numbers]
        metrics.write_raws(
            connection, "core", [RawRecord(METRICS, 0, first + n, NOW, b"agent/1", told(one), []) for n, one in enumerate(seen)]
        )
        call = orjson.dumps({"tenant": "acme", "result_class": "ok"})
        calls.write_calls(connection, "core", [RawRecord(calls.CALLS, 0, n, NOW, b"agent/1", call, []) for n in numbers])
        self.sent += 5
        for raw in self.pair.log[self.logged : self.logged + 3]:
            log_written(connection, self.pair, raw)
            self.logged += 1


WATERMARK = 'SELECT sum("offset")::int FROM freshness WHERE topic = %s'
COUNTED = {
    METRICS: "SELECT count(*)::int FROM engagement_metrics",
    calls.CALLS: "SELECT count(*)::int FROM tool_calls",
    LOG: "SELECT count(*)::int FROM events",
}
"""Topic -> how many of its records are rows: here each record is one."""


def test_watermark_and_rows_of_a_standby_are_of_one_moment_while_rows_arrive(pair: Pair) -> None:
    looked: dict[str, set[int]] = {topic: set() for topic in COUNTED}
    with Arriving(pair) as arriving, as_analyst(pair.standby) as analyst:

        def look() -> bool:
            for topic, counted in COUNTED.items():
                both = analyst.execute(f"SELECT ({WATERMARK}), ({counted})".encode(), (topic,)).fetchone()
                assert both is not None
                assert both[0] - (PARTITIONS if topic == LOG else 0) == both[1], f"{topic}: {both}"
                looked[topic].add(both[0])
            with analyst.transaction():
                analyst.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                (said,) = analyst.execute(WATERMARK.encode(), (METRICS,)).fetchone() or (None,)
                (last,) = analyst.execute("SELECT max(value) FROM engagement_daily").fetchone() or (None,)
                (kept,) = analyst.execute("SELECT max(value) FROM engagement_metrics").fetchone() or (None,)
            assert (last, kept) == ((said - 1, said - 1) if said else (None, None)), "two statements saw two moments"
            return len(looked[METRICS]) >= LOOKS and arriving.logged == len(pair.log)

        until(look, "the standby shows what arrives")
    assert len(looked[LOG]) > 1, "nothing of the log arrived while it was looked at"


def test_an_analyst_sees_own_tenants_on_a_standby_and_nobody_writes_there(pair: Pair) -> None:
    with as_analyst(pair.standby) as analyst:
        assert analyst.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        assert analyst.execute("SELECT DISTINCT tenant FROM agents").fetchall() == [("acme",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute("SELECT 1 FROM core.agents")
    with psycopg.connect(pair.standby) as owner, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        owner.execute("DELETE FROM core.agents")


def test_a_tenant_that_is_taken_from_an_analyst_is_gone_on_the_standby_too(pair: Pair) -> None:
    with connect(pair.primary) as owner:
        analysts.add(owner, "ida", ["bolt"], by="test")
    with as_analyst(pair.standby) as analyst:
        until(lambda: analyst.execute("SELECT DISTINCT tenant FROM agents").fetchall() == [("bolt",)], "the change has streamed")
