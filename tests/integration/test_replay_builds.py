"""Builds of the read models on a real log and a real database: load, compare, swap, go back, repair."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from chimera.commands.keys import log_topics
from chimera.eventlog.topics import apply
from chimera.projections.checkpoints import connect
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.projections.verify import verify
from chimera.replay import builds, survey
from chimera.replay.builds_follow import following
from chimera.replay.builds_run import Pacing, carry_out
from chimera.replay.compare import compare
from chimera.replay.plan import make_plan
from chimera.replay.survey import Where
from chimera.replay.swap import swap
from tests.integration.projection_data import History, day, enrol, mischief


class House(NamedTuple):
    """A log that is projected, and where it is."""

    h: History
    where: Where
    projector: Projector

    def project(self) -> None:
        catch_up(self.projector, self.h.send(self.where.bootstrap))

    def plan(self) -> int:
        with connect(self.where.dsn) as connection:
            plan = make_plan(survey.facts(connection, self.where), survey.models())
            return builds.add(connection, plan, survey.models()).id

    def build(self, number: int) -> builds.Build:
        with connect(self.where.dsn) as connection:
            return builds.get(connection, number)

    def verified(self) -> bool:
        report = verify(self.where.bootstrap, self.where.dsn, self.h.root.public, topic=self.h.topic)
        assert report.equal, report.difference
        return True


@pytest.fixture
def house(kafka_bootstrap: str, make_database: Callable[[], str]) -> Iterator[House]:
    topic = f"builds-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(kafka_bootstrap, log_topics(topic))
    h = History(topic)
    for name in ("ava", "ben", "cleo"):
        day(h, name)
    mischief(h, enrol(h, "cy"))
    dsn = make_database()
    migrate(dsn)
    projector = Projector(kafka_bootstrap, dsn, h.root.public, topic=topic)
    made = House(h, Where(kafka_bootstrap, dsn, h.root.public, topic, None, None), projector)
    made.project()
    yield made
    projector.close()


def test_a_build_equals_the_live_read_models_takes_their_place_and_gives_it_back(house: House) -> None:
    number = house.plan()
    carry_out(house.where, number, Pacing(processes=2))
    assert house.build(number).state == "ready"
    day(house.h, "dov")  # the log goes on, and so do the live read models
    house.project()
    with following(house.where, house.build(number)) as follower:
        found = compare(follower)
        assert found.equal, [t for t in found.tables if not t.equal]
        assert found.records == len(house.h.entries)
    swapped = swap(house.where, house.build(number), actor="kim", reason="try it")
    assert (swapped.live, swapped.kept) == (number, 0)
    assert house.build(number).schema == "core"
    day(house.h, "edda")  # the projector that ran all the while goes on in the new tables
    house.project()
    assert house.verified()
    back = swap(house.where, house.build(0), actor="kim", reason="no", act="rollback")
    assert (back.live, back.kept) == (0, number)
    day(house.h, "femi")
    house.project()
    assert house.verified()
    with connect(house.where.dsn) as connection:
        assert [(a.act, a.actor) for a in builds.acts(connection)][:2] == [("rollback", "kim"), ("swap", "kim")]
        builds.drop_tables(connection, builds.get(connection, number))
        left = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'build%'").fetchall()
    assert left == []
