"""Projectors that share the partitions: nobody writes a row twice, and who dies is succeeded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest

from chimera.commands.keys import log_topics
from chimera.eventlog.cluster import apply
from chimera.projections.engine import Projector, connect
from chimera.projections.leases import Leases
from chimera.projections.schema import migrate
from chimera.projections.verify import verify
from tests.integration.projection_data import PARTITIONS, History, attempt, day, enrol, start

PROJECT = """
import sys, threading
from chimera.projections.engine import Projector
bootstrap, dsn, root, topic = sys.argv[1:]
projector = Projector(bootstrap, dsn, root, topic=topic, share=True)
print("up", flush=True)
projector.run()
"""


def await_until(holds: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if holds():
            return
        pause.wait(0.05)
    raise AssertionError(f"did not come about in time: {what}")


Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def processes() -> Iterator[Begin]:
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        started.append(subprocess.Popen([sys.executable, "-c", PROJECT, *arguments], stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_when_one_of_two_projector_processes_is_killed_the_other_takes_over(
    kafka_bootstrap: str,
    make_database: Callable[[], str],
    processes: Begin,
) -> None:
    dsn, topic = make_database(), f"share-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(kafka_bootstrap, log_topics(topic))
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("CREATE TABLE moves (partition smallint, old bigint, new bigint, pid integer)")
        db.execute(
            "CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.moves VALUES"
            " (new.partition, old.next_offset, new.next_offset, pg_backend_pid()); RETURN new; END $$"
        )
        db.execute("CREATE TRIGGER moved AFTER UPDATE OF next_offset ON core.checkpoints FOR EACH ROW EXECUTE FUNCTION moved()")

        def holders() -> dict[int, int]:
            query = (
                "SELECT l.pid, count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
                " AND objid < 1000 AND a.application_name = 'chimera projector' AND a.datname = current_database() GROUP BY 1"
            )
            return dict(db.execute(query).fetchall())

        ends: dict[int, int] = {}

        def projected() -> bool:
            done: dict[int, int] = dict(db.execute("SELECT partition, next_offset FROM core.checkpoints").fetchall())
            return all(done.get(p, 0) >= end for p, end in ends.items())

        h = History(topic)
        keys = [day(h, name) for name in ("ava", "ben", "cleo", "dan")]
        ends = h.send(kafka_bootstrap)
        arguments = (kafka_bootstrap, dsn, h.root.public, topic)
        first, second = processes(*arguments), processes(*arguments)
        await_until(lambda: sorted(holders().values()) == [PARTITIONS // 2] * 2, "both hold half of the partitions")
        for law in range(PARTITIONS):
            h.again(law)  # something for every partition, void as it is
        ends = h.send(kafka_bootstrap)
        await_until(projected, "both projected what is there")
        writers = (
            "SELECT count(DISTINCT pid) FROM moves WHERE (partition, new) IN (SELECT partition, next_offset FROM core.checkpoints)"
        )
        assert db.execute(writers).fetchone() == (2,)
        for key in keys:
            start(h, key, 2)
        ends = h.send(kafka_bootstrap)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        for key in keys:
            attempt(h, key, 2, 2, "one more text of some words")
        ends = h.send(kafka_bootstrap)
        await_until(lambda: list(holders().values()) == [PARTITIONS], "the other holds all partitions")
        await_until(projected, "the other projected the rest")
        assert second.poll() is None
        assert db.execute("SELECT count(*) FROM moves WHERE new <= old").fetchone() == (0,)
        twice = "SELECT count(*) - count(DISTINCT (partition, old)) FROM moves"
        assert db.execute(twice).fetchone() == (0,)
    report = verify(kafka_bootstrap, dsn, h.root.public, topic=topic)
    assert report.equal, report.difference
    assert report.records == len(h.entries)


def test_a_projector_that_comes_gets_its_share_and_goes_on_where_the_other_stopped(
    kafka_bootstrap: str, make_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chimera.projections.engine.RENEW_S", 0.0)
    dsn, topic = make_database(), f"share-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(kafka_bootstrap, log_topics(topic))
    migrate(dsn)
    h = History(topic)
    keys = [enrol(h, name) for name in ("ava", "ben", "cleo", "dan")]
    ends = h.send(kafka_bootstrap)
    one, other = (Projector(kafka_bootstrap, dsn, h.root.public, topic=topic, share=True) for _ in range(2))

    def both() -> bool:
        for projector in (one, other):
            projector.step(timeout_s=0.05)
            projector.flush()
        found = dict(one.positions) | dict(other.positions)
        return all(found.get(p, 0) >= end for p, end in ends.items())

    try:
        one.step(timeout_s=0.05)
        assert set(one.positions) == set(range(PARTITIONS))
        await_until(lambda: both() and len(one.positions) == len(other.positions) == PARTITIONS // 2, "a fair share each")
        assert set(one.positions) | set(other.positions) == set(range(PARTITIONS))
        for key in keys:
            start(h, key, 2)
        ends = h.send(kafka_bootstrap)
        await_until(both, "both go on")
        one.close()
        for key in keys:
            attempt(h, key, 1, 2, "one more text of some words")
        ends = h.send(kafka_bootstrap)
        await_until(
            lambda: other.step(timeout_s=0.05) >= 0 and all(other.positions.get(p, 0) >= end for p, end in ends.items()),
            "the other goes on for both",
        )
        other.flush()
    finally:
        one.close()
        other.close()
    assert one.progress.written + other.progress.written == len(h.entries)
    assert verify(kafka_bootstrap, dsn, h.root.public, topic=topic).equal


def test_leases_are_shared_fairly_and_end_with_their_connection(make_database: Callable[[], str]) -> None:
    dsn = make_database()
    connections = [connect(dsn) for _ in range(3)]
    leases = [Leases("test", range(7)) for _ in connections]
    try:
        assert leases[0].renew(connections[0]) == set(range(7))
        assert leases[1].renew(connections[1]) == set()
        for _ in range(2):
            held = [lease.renew(connection) for lease, connection in zip(leases, connections, strict=True)]
        assert sorted(len(h) for h in held) == [1, 3, 3]
        assert set.union(*held) == set(range(7))
        connections[0].close()
        connections[0] = connect(dsn)
        assert leases[0].renew(connections[0]) < set(range(7))
        other = Leases("another", range(7))
        assert other.renew(connections[1]) == set(range(7))  # other tables, other leases
    finally:
        for connection in connections:
            connection.close()
