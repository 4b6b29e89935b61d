"""A projector that starts from its cut on a real log and a real database: the same rows, without folding the whole log again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from chimera.commands.keys import log_topics
from chimera.eventlog.cluster import apply
from chimera.eventlog.partitioner import partition_for
from chimera.projections.cuts import Cuts, cuts_in
from chimera.projections.engine import MODEL_SET, Projector, catch_up, checkpoints, connect, new_fold
from chimera.projections.heal import heal
from chimera.projections.parking import listed
from chimera.projections.schema import migrate
from chimera.projections.verify import verify
from tests.integration.projection_data import History, attempt, day, mischief, start

NAMES = ("ava", "ben", "cleo", "dan")
PROJECT = """
import sys
from chimera.projections import cuts
from chimera.projections.engine import Projector
bootstrap, dsn, root, root_id, topic = sys.argv[1:]
own = cuts.cuts_in(dsn, bootstrap, topic, root_id)
own._every_s = 0.0
print("up", flush=True)
Projector(bootstrap, dsn, root, topic=topic, share=True, cuts=own).run()
"""


class House:
    """A log, a database, and projectors over them."""

    def __init__(self, bootstrap: str, dsn: str) -> None:
        self.bootstrap, self.dsn = bootstrap, dsn
        self.h = self.log()
        migrate(dsn)

    def log(self, *like: History) -> History:
        topic = f"cuts-{uuid.uuid4().hex[:8]}-chimera.log"
        apply(self.bootstrap, log_topics(topic))
        return History(topic, root=like[0].root, command=like[0].command) if like else History(topic)

    @contextmanager
    def cuts(self, h: History | None = None, dsn: str | None = None) -> Iterator[Cuts]:
        h = h or self.h
        cuts = cuts_in(dsn or self.dsn, self.bootstrap, h.topic, h.root.id)
        cuts._every_s = 0.0
        yield cuts
        cuts.close()

    def project(self, cuts: Cuts | None, h: History | None = None, *, saved: bool = False) -> int:
        """Catch up with the log; with `saved`, until all of it is in cuts as well. How many records were folded."""
        h = h or self.h
        projector = Projector(self.bootstrap, self.dsn, h.root.public, topic=h.topic, cuts=cuts)
        try:
            catch_up(projector, h.send(self.bootstrap))
            projector.flush()
            if saved:
                assert cuts is not None
                await_until(lambda: projector.step(timeout_s=0.01) == 0 and cuts.status()["behind"] == 0, "all is in cuts")
        finally:
            projector.close()
        assert projector.progress.stopped == {}
        return projector.progress.folded

    def verified(self) -> bool:
        report = verify(self.bootstrap, self.dsn, self.h.root.public, topic=self.h.topic)
        assert report.difference is None, report.difference
        return report.equal and report.records == len(self.h.entries)

    def one(self, query: str) -> object:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
            return None if row is None else row[0]

    def change(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


def await_until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError(f"did not come about in time: {what}")


@pytest.fixture
def house(kafka_bootstrap: str, make_database: Callable[[], str]) -> House:
    return House(kafka_bootstrap, make_database())


def test_a_restart_folds_what_came_after_the_cut_and_gives_the_rows_of_a_refold(house: House) -> None:
    keys = [day(house.h, name) for name in NAMES]
    mischief(house.h, keys[1])
    with house.cuts() as cuts:
        assert house.project(cuts, saved=True) == len(house.h.entries)
    before = len(house.h.entries)
    start(house.h, keys[0], 2)
    attempt(house.h, keys[0], 2, 2, "one more text of some words")
    with house.cuts() as cuts:
        assert house.project(cuts) == len(house.h.entries) - before
    assert house.verified()


def test_a_killed_projector_with_parked_rows_goes_on_from_its_cut(house: House) -> None:
    house.change("ALTER TABLE core.decisions ADD CONSTRAINT planted CHECK (agent_id LIKE '%a' OR comment <> 'fine')")
    keys = {name: day(house.h, name) for name in NAMES}
    ends = house.h.send(house.bootstrap)
    root = house.h.root
    arguments = (house.bootstrap, house.dsn, root.public, root.id, house.h.topic)
    process = subprocess.Popen([sys.executable, "-c", PROJECT, *arguments], stdout=subprocess.DEVNULL)
    try:
        await_until(
            lambda: house.one("SELECT sum(next_offset) FROM snapshots.partitions") == sum(ends.values()), "all of it is in cuts"
        )
        for key in keys.values():
            start(house.h, key, 3)
        house.h.send(house.bootstrap)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    for name, key in keys.items():
        attempt(house.h, key, 2, 2, f"{name} has more to say")
    with house.cuts() as cuts:
        assert house.project(cuts) <= len(house.h.entries) - sum(ends.values())
    with connect(house.dsn) as connection:
        parked = listed(connection)
    assert {p.model for p in parked} == {"decisions"}
    house.change("ALTER TABLE core.decisions DROP CONSTRAINT planted")
    for each in parked:
        heal(house.bootstrap, house.dsn, root.public, each, topic=house.h.topic)
    assert house.verified()


def test_read_models_built_anew_are_built_from_the_whole_log_though_a_later_cut_lies_there(house: House) -> None:
    key = day(house.h, "ava")
    with house.cuts() as cuts:
        house.project(cuts, saved=True)
    house.change("DROP SCHEMA core CASCADE")
    house.change("DROP SCHEMA analytics_v1 CASCADE")
    migrate(house.dsn)
    start(house.h, key, 2)
    with house.cuts() as cuts:
        assert house.project(cuts, saved=True) == len(house.h.entries)
    assert house.verified()
    with house.cuts() as cuts:
        assert house.project(cuts) == 0


def test_a_cut_beyond_the_checkpoint_is_not_gone_on_from(house: House) -> None:
    """Rows would be missing between the two."""
    h = house.h
    key = day(h, "ava")
    with house.cuts() as cuts:
        house.project(cuts, saved=True)
    house.change("UPDATE core.checkpoints SET next_offset = next_offset - 1 WHERE next_offset > 10")
    ends = {p: fold.next_offset for p, fold in h.folds.items()}
    place = partition_for(key, len(ends))
    with house.cuts() as cuts, connect(house.dsn) as connection:
        at = checkpoints(connection, "core", MODEL_SET, h.topic)
        folds = {p: new_fold(p, len(ends), h.root.public) for p in ends}
        found = cuts.restore(folds, at, ends, lambda p: folds[p])
    assert at[place] == ends[place] - 1
    assert {p: fold.next_offset for p, fold in found.items()} == ends | {place: 0}


def test_a_cut_of_another_log_is_noticed_and_the_fold_begins_at_0(house: House, caplog: pytest.LogCaptureFixture) -> None:
    day(house.h, "ava")
    with house.cuts() as cuts:
        house.project(cuts, saved=True)
    other = house.log(house.h)
    key = day(other, "ben", 20)
    place = next(e.partition for e in other.entries if e.key == key)
    with house.cuts(other) as cuts:
        house.change("TRUNCATE core.agents, core.checkpoints CASCADE")
        house.project(None, other)
        house.project(cuts, other)
    assert f"partition {place}" in caplog.text
    assert "this is another log" in caplog.text


def test_without_its_store_a_projector_folds_from_0_and_says_so(house: House, caplog: pytest.LogCaptureFixture) -> None:
    key = day(house.h, "ava")
    with house.cuts() as cuts:
        house.project(cuts, saved=True)
    start(house.h, key, 2)
    with house.cuts(dsn="postgresql://127.0.0.1:1/none") as cuts:
        assert house.project(cuts) == len(house.h.entries)
    assert "no cuts" in caplog.text
    assert house.verified()
