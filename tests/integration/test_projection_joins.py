"""How PostgreSQL is told to find rows: a live projector changes a few of many, a load thousands at once."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from chimera.commands.keys import log_topics
from chimera.eventlog.cluster import apply
from chimera.projections import engine
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.projections.write import Connection, write
from chimera.replay import builds, survey
from chimera.replay.builds_load import Pace, load_log
from chimera.replay.builds_run import prepare
from chimera.replay.plan import make_plan
from chimera.replay.survey import Where
from tests.integration.projection_data import History, day

SETTINGS = "SELECT current_setting('enable_hashjoin'), current_setting('enable_mergejoin'), current_setting('plan_cache_mode')"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings of the connection behind each transaction."""
    found = list[Any]()

    def looked_at(connection: Connection, *given: Any, **how: Any) -> object:
        found.append(connection.execute(SETTINGS).fetchone())
        return write(connection, *given, **how)

    monkeypatch.setattr(engine, "write", looked_at)
    return found


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pace]:
    """Of a load whose starter says nothing and does not go."""
    gone = Event()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=iter(lambda: gone.wait(), True)))
    yield Pace(0.0)
    gone.set()


def test_a_live_projector_looks_rows_up_by_their_keys_and_a_load_lets_postgres_join(
    kafka_bootstrap: str, make_database: Callable[[], str], seen: list[Any], pace: Pace
) -> None:
    dsn, topic = make_database(), f"joins-{uuid.uuid4().hex[:8]}-chimera.log"
    migrate(dsn)
    apply(kafka_bootstrap, log_topics(topic))
    h = History(topic)
    day(h, "ava")
    ends = h.send(kafka_bootstrap)
    with closing(Projector(kafka_bootstrap, dsn, h.root.public, topic=topic)) as live:
        catch_up(live, ends)
    assert set(seen) == {("off", "off", "force_generic_plan")}
    seen.clear()

    where = Where(kafka_bootstrap, dsn, h.root.public, topic, None, None, None)
    with engine.connect(dsn) as connection:
        build = builds.add(connection, make_plan(survey.facts(connection, where), survey.models()), survey.models())
        prepare(connection, where, build)
    job = {"bootstrap": kafka_bootstrap, "dsn": dsn, "root_public": h.root.public, "build": build.id, "schema": build.schema}
    load_log(job | {"topic": topic, "ends": {str(p): end for p, end in ends.items()}}, pace)
    assert set(seen) == {("on", "on", "auto")}
