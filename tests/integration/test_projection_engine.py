"""The projector on a real log and a real database."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from chimera.commands.keys import log_topics
from chimera.eventlog.cluster import apply
from chimera.eventlog.read import CheckpointAhead, end_offsets
from chimera.eventlog.topics import KafkaUnavailable
from chimera.events import records as rec
from chimera.projections import engine
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.projections.verify import verify
from chimera.projections.write import Moved
from tests.integration.projection_data import History, day, enrol, mischief, start


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    name = f"projection-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(kafka_bootstrap, log_topics(name))
    return name


@pytest.fixture
def database(make_database: Callable[[], str]) -> str:
    dsn = make_database()
    migrate(dsn)
    migrate(dsn)  # a second time is harmless
    return dsn


@pytest.fixture
def projector(kafka_bootstrap: str, database: str):  # type: ignore[no-untyped-def]
    made: list[Projector] = []

    def make(h: History, **how: object) -> Projector:
        made.append(Projector(kafka_bootstrap, database, h.root.public, topic=h.topic, **how))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., Projector]


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def change(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement.encode())


def test_a_day_of_a_fleet_becomes_rows(kafka_bootstrap: str, topic: str, database: str, projector: Make) -> None:
    h = History(topic)
    for name in ("ava", "ben"):
        day(h, name)
    mischief(h, enrol(h, "cy"))
    ends = h.send(kafka_bootstrap)
    p = projector(h)
    catch_up(p, ends)
    assert p.progress.stopped == {}
    assert rows(database, "SELECT count(*) FROM core.events") == [(len(h.entries),)]
    outcomes = rows(database, "SELECT outcome, count(*)::int FROM core.events GROUP BY 1 ORDER BY 1")
    assert outcomes == sorted((o, sum(r.outcome == o for r in h.rulings)) for o in {r.outcome for r in h.rulings})
    assert rows(database, "SELECT count(*) FROM core.posts") == [(12,)]
    assert rows(database, "SELECT count(*) FROM core.events WHERE data IS NULL AND reason <> 'unreadable'") == [(0,)]
    quarantined = rows(database, "SELECT name, quarantined, state_version FROM core.agents ORDER BY name")
    assert quarantined == [(a.name, a.quarantine is not None, a.version) for a in sorted(agents(h), key=lambda a: a.name)]
    assert rows(database, "SELECT brief FROM core.campaigns WHERE name = 'huge'") == [({"n": None},)]


def agents(h: History):  # type: ignore[no-untyped-def]
    return [agent for fold in h.folds.values() for agent in fold.agents.values()]


def test_tables_do_not_depend_on_how_the_log_was_cut_into_batches(
    kafka_bootstrap: str, topic: str, database: str, projector: Make
) -> None:
    h = History(topic)
    day(h, "ava")
    ends = h.send(kafka_bootstrap)
    p = projector(h)
    while any(p.positions.get(n, 0) < end for n, end in ends.items()):
        p.step(max_records=1)
        p.flush()
    assert p.progress.transactions == len(h.entries)
    assert verify(kafka_bootstrap, database, h.root.public, topic=topic).equal  # which refolds in one batch


def test_a_projector_that_died_goes_on_where_its_rows_end(kafka_bootstrap: str, topic: str, database: str, projector: Make) -> None:
    h = History(topic)
    day(h, "ava")
    first = projector(h)
    catch_up(first, h.send(kafka_bootstrap))
    day(h, "ben")
    ends = h.send(kafka_bootstrap)
    second = projector(h)
    catch_up(second, ends)
    assert second.progress.folded == len(h.entries)
    assert second.progress.written == len(h.entries) - first.progress.written
    assert verify(kafka_bootstrap, database, h.root.public, topic=topic).equal


def test_of_two_projectors_each_record_is_written_by_one(kafka_bootstrap: str, topic: str, database: str, projector: Make) -> None:
    h = History(topic)
    key = enrol(h, "ava")
    zombie, live = projector(h), projector(h)
    ends = h.send(kafka_bootstrap)
    catch_up(zombie, ends)
    start(h, key, 3)
    catch_up(live, h.send(kafka_bootstrap))
    zombie.take(first_reads(zombie, h))  # writes nothing, sees that all of it is there, and goes on from there
    zombie.flush()
    assert zombie.positions == live.positions
    h.add(key, rec.SoulAdopted(command_no=h.agent(key).command_no + 1, digest="d", soul="s"))
    catch_up(zombie, h.send(kafka_bootstrap))
    h.add(key, rec.SoulAdopted(command_no=h.agent(key).command_no + 1, digest="d", soul="s"))
    ends = h.send(kafka_bootstrap)
    change(database, f"UPDATE core.checkpoints SET next_offset = next_offset - 1 WHERE partition = {partition_of(h, key)}")
    with pytest.raises(Moved, match="another projector moved 1 of 1 checkpoints"):
        catch_up(zombie, ends)
    change(database, f"UPDATE core.checkpoints SET next_offset = next_offset + 1 WHERE partition = {partition_of(h, key)}")
    catch_up(projector(h), ends)
    assert verify(kafka_bootstrap, database, h.root.public, topic=topic).equal


def first_reads(p: Projector, h: History):  # type: ignore[no-untyped-def]
    """What the projector would read next, in one batch."""
    assert p._reader is not None
    raws, ends = [], {n: fold.next_offset for n, fold in h.folds.items()}
    while any(p._reader.positions[n] < end for n, end in ends.items()):
        raws += p._reader.read(10_000, 1.0)
    return raws


def partition_of(h: History, key: str) -> int:
    return next(e.partition for e in h.entries if e.key == key)


def test_a_row_that_is_not_as_the_log_left_it_stops_its_partition_and_no_other(
    kafka_bootstrap: str, topic: str, database: str, projector: Make
) -> None:
    h = History(topic)
    keys = {name: enrol(h, name) for name in ("ava", "ben", "cleo", "dan")}
    p = projector(h)
    catch_up(p, h.send(kafka_bootstrap))
    change(database, "UPDATE core.agents SET state_version = 99 WHERE name = 'ben'")
    for key in keys.values():
        start(h, key, 2)
    catch_up(p, h.send(kafka_bootstrap))
    stopped = partition_of(h, keys["ben"])
    assert list(p.progress.stopped) == [stopped]
    assert "agent 'ben'" in p.progress.stopped[stopped]
    assert "is 3 in the log, version 99 in the database" in p.progress.stopped[stopped]
    [(where, why)] = rows(database, "SELECT partition, stopped FROM core.freshness WHERE stopped IS NOT NULL")
    assert (where, why) == (stopped, p.progress.stopped[stopped])
    others = {name for name, key in keys.items() if partition_of(h, key) != stopped}
    assert {row[0] for row in rows(database, "SELECT name FROM core.agents WHERE open_campaigns = 1")} == others
    change(database, "UPDATE core.agents SET state_version = 3 WHERE name = 'ben'")  # healed by hand: the next start goes on
    catch_up(projector(h), {n: fold.next_offset for n, fold in h.folds.items()})
    assert verify(kafka_bootstrap, database, h.root.public, topic=topic).equal


def test_a_missing_row_is_named(kafka_bootstrap: str, topic: str, database: str, projector: Make) -> None:
    h = History(topic)
    key = enrol(h, "ava")
    start(h, key, 1)
    p = projector(h)
    catch_up(p, h.send(kafka_bootstrap))
    change(database, "DELETE FROM core.task_dependencies")
    change(database, "DELETE FROM core.tasks WHERE ordinal = 2")
    h.add(key, rec.TaskPlanned(campaign=1, ordinal=2, attempt=1))
    catch_up(p, h.send(kafka_bootstrap))
    assert f"tasks ('{key}', 1, 2): the row to update is not there" in p.progress.stopped[partition_of(h, key)]


def test_while_postgres_is_away_the_projector_waits_and_skips_nothing(
    kafka_bootstrap: str, topic: str, database: str, projector: Make
) -> None:
    h = History(topic)
    day(h, "ava")
    ends = h.send(kafka_bootstrap)
    stop = threading.Event()
    p = projector(h, stop=stop)
    catch_up(p, {n: min(end, 1) for n, end in ends.items()})
    name = database.partition("?")[0].rsplit("/", 1)[1]
    admin = database.replace(f"/{name}", "/postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        day(h, "ben")
        ends = h.send(kafka_bootstrap)
        runner = threading.Thread(target=p.run)
        runner.start()
        await_until(lambda: p.progress.waiting_for.startswith("Postgres:"))
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    await_until(lambda: all(p.positions.get(n, 0) >= end for n, end in ends.items()))
    stop.set()
    runner.join(10)
    assert not runner.is_alive()
    assert verify(kafka_bootstrap, database, h.root.public, topic=topic).equal


def test_kafka_that_does_not_answer_when_partitions_are_taken_over_ends_no_projector(
    kafka_bootstrap: str, topic: str, database: str, projector: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the connections to both servers are cut at once: the leases are lost, and Kafka is asked where the log ends."""
    h = History(topic)
    day(h, "ava")
    ends = h.send(kafka_bootstrap)
    asked: list[object] = []
    answers = end_offsets

    def away_at_first(*words: Any) -> dict[int, int]:
        asked.append(words)
        if len(asked) < 3:
            raise KafkaUnavailable("the connection was reset")
        return dict(answers(*words))

    monkeypatch.setattr(engine, "end_offsets", away_at_first)
    stop = threading.Event()
    p = projector(h, stop=stop)
    runner = threading.Thread(target=p.run)
    runner.start()
    await_until(lambda: all(p.positions.get(n, 0) >= end for n, end in ends.items()), 60)
    stop.set()
    runner.join(10)
    assert not runner.is_alive()
    assert len(asked) == 3
    assert verify(kafka_bootstrap, database, h.root.public, topic=topic).equal


def await_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError("did not come about in time")


def test_a_checkpoint_ahead_of_the_log_is_refused(kafka_bootstrap: str, topic: str, database: str, projector: Make) -> None:
    h = History(topic)
    p = projector(h)
    catch_up(p, h.send(kafka_bootstrap))
    change(database, "UPDATE core.checkpoints SET next_offset = 500 WHERE partition = 3")
    with pytest.raises(CheckpointAhead, match="checkpoint ahead of the log"):
        projector(h).open()
