"""The projector on a real log and a real database."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import psycopg
import pytest
from projection_data import History, day, enrol, mischief

from chimera.commands.keys import log_topics
from chimera.eventlog.topics import apply
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    name = f"projection-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(kafka_bootstrap, log_topics(name))
    return name


@pytest.fixture
def database(make_database: Callable[[], str]) -> str:
    dsn = make_database()
    migrate(dsn)
    return dsn


def one(dsn: str, query: str) -> tuple[object, ...]:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return tuple(row)


def test_a_day_of_a_fleet_becomes_rows(kafka_bootstrap: str, topic: str, database: str) -> None:
    h = History(topic)
    for name in ("ava", "ben"):
        day(h, name)
    mischief(h, enrol(h, "cy"))
    ends = h.send(kafka_bootstrap)
    projector = Projector(kafka_bootstrap, database, h.root.public, topic=topic)
    catch_up(projector, ends)
    projector.close()
    assert projector.progress.stopped == {}
    assert one(database, "SELECT count(*) FROM core.events") == (len(h.entries),)
    print(
        one(
            database,
            "SELECT json_object_agg(r, n) FROM (SELECT outcome || ' ' || reason r, count(*) n FROM core.events GROUP BY 1) s",
        )
    )
    assert one(database, "SELECT count(*) FROM core.posts") == (12,)
