"""One load process from its job to its end, on a real log and a real database."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from chimera.commands.keys import log_topics
from chimera.errors import ChimeraError
from chimera.eventlog.cluster import apply
from chimera.projections import engine
from chimera.projections.engine import checkpoints, connect
from chimera.projections.refusals import Disagreement
from chimera.projections.schema import migrate
from chimera.replay import builds, builds_hands, builds_run, survey
from chimera.replay.builds_load import Pace, load_log
from chimera.replay.builds_run import Pacing, carry_out, prepare
from chimera.replay.plan import make_plan
from chimera.replay.survey import Where
from tests.integration.projection_data import History, day


@pytest.fixture
def where(kafka_bootstrap: str, make_database: Callable[[], str]) -> Where:
    dsn, topic = make_database(), f"load-{uuid.uuid4().hex[:8]}-chimera.log"
    migrate(dsn)
    apply(kafka_bootstrap, log_topics(topic))
    h = History(topic)
    day(h, "ava")
    h.send(kafka_bootstrap)
    return Where(kafka_bootstrap, dsn, h.root.public, topic, None, None, None)


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pace]:
    """Of a load whose starter says nothing and does not go."""
    gone = Event()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=iter(lambda: gone.wait(), True)))
    yield Pace(0.0)
    gone.set()


def planned(where: Where) -> builds.Build:
    with connect(where.dsn) as connection:
        return builds.add(connection, make_plan(survey.facts(connection, where), survey.models()), survey.models())


def test_a_load_whose_last_transaction_cannot_be_written_says_so(where: Where, pace: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    build = planned(where)
    with connect(where.dsn) as connection:
        prepare(connection, where, build)

    def refuse(connection: Any, schema: str, model_set: str, stretches: list[Any], **how: Any) -> Any:
        raise Disagreement(stretches[0].partition, "tasks of ava", "the row to update is not there")

    monkeypatch.setattr(engine, "write", refuse)
    job = {"bootstrap": where.bootstrap, "dsn": where.dsn, "root_public": where.root_public, "build": build.id}
    ends = {str(p): end for p, end in build.planned().ends[where.log].items()}
    with pytest.raises(ChimeraError, match="tasks of ava"):
        load_log(job | {"schema": build.schema, "topic": where.log, "ends": ends}, pace)
    with connect(where.dsn) as connection:
        assert set(checkpoints(connection, build.schema, "core", where.log).values()) == {0}


def test_the_processes_of_a_load_start_before_its_tables_are_made_and_load_them(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    start, make = builds_hands._start, prepare
    monkeypatch.setattr(builds_hands, "_start", lambda: (said.append("process"), start())[1])
    monkeypatch.setattr(builds_run, "prepare", lambda *given: (said.append("tables"), make(*given))[1])
    build = planned(where)
    carry_out(where, build.id, Pacing(processes=2))
    expected = min(2, sum(end > 0 for end in build.planned().ends[where.log].values()))
    assert said == ["process"] * expected + ["tables"]
    with connect(where.dsn) as connection:
        assert builds.get(connection, build.id).state == "ready"
