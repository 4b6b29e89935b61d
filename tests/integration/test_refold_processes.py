"""A refold shared out among processes: the same rows as by one, and nothing left behind by who was interrupted or killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.moments import Cut
from chimera.projections import refold, shares
from chimera.projections import verify as verifying
from chimera.projections.checkpoints import connect
from chimera.projections.comparing import COMPARED, summed
from chimera.projections.schema import migrate
from chimera.projections.verify import Report, drop_leftovers, own_scratch, verify
from chimera.replay import asof
from tests.integration.projection_data import History, project_three_days

Projected = tuple[History, dict[int, int], str]


@pytest.fixture
def projected(kafka_bootstrap: str, make_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Projected:
    """Three agents' days, projected; a log so short that it would be shared out among nobody, were it not said here."""
    monkeypatch.setattr(shares, "WORTH", 0)
    dsn = make_database()
    h, ends = project_three_days(kafka_bootstrap, dsn, "refold")
    return h, ends, dsn


def verified(bootstrap: str, projected: Projected, progress: refold.Progress = lambda done, total: None) -> Report:
    h, _, dsn = projected
    none = {"calls_topic": "none", "metrics_topic": "none", "security_topic": "none"}
    return verify(bootstrap, dsn, h.root.public, topic=h.topic, processes=2, progress=progress, **none)


def scratch_schemas(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'verify%'").fetchall()]


def test_two_processes_refold_what_one_projected(kafka_bootstrap: str, projected: Projected) -> None:
    told: list[int] = []
    report = verified(kafka_bootstrap, projected, lambda done, total: told.append(done))
    assert report.equal, report.difference
    assert told[-1] == report.records == len(projected[0].entries)
    assert scratch_schemas(projected[2]) == []


def test_a_past_made_by_two_is_the_past_made_by_one(kafka_bootstrap: str, projected: Projected) -> None:
    h, ends, dsn = projected
    for processes in (1, 2):
        cut, name = Cut(1_800_000_000_000, ends), f"by{processes}"
        asof.make(
            kafka_bootstrap, dsn, h.root.public, h.topic, cut, name=name, asked="", by="",
            calls_topic="none", metrics_topic="none", security_topic="none", processes=processes,
        )  # fmt: skip
    with connect(dsn) as connection:
        every = sql.SQL("true")
        one, two = ({t.name: summed(connection, f"asof_by{n}_core", t, every) for t in COMPARED} for n in (1, 2))
        standing = "SELECT topic, partition, next_offset FROM {} ORDER BY 1, 2"
        places = [connection.execute(standing.format(f"asof_by{n}_core.checkpoints").encode()).fetchall() for n in (1, 2)]
    assert one == two
    assert one["events"][0] == len(h.entries)
    assert places[0] == places[1]


def test_who_is_interrupted_leaves_neither_tables_nor_processes(kafka_bootstrap: str, projected: Projected) -> None:
    def interrupt(done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)  # this process alone: the other one hears of it from nobody else

    with pytest.raises(KeyboardInterrupt):
        verified(kafka_bootstrap, projected, interrupt)
    assert scratch_schemas(projected[2]) == []
    assert multiprocessing.active_children() == []

    h, ends, dsn = projected
    with pytest.raises(KeyboardInterrupt):
        asof.make(
            kafka_bootstrap, dsn, h.root.public, h.topic, Cut(1_800_000_000_000, ends), name="dark", asked="", by="",
            calls_topic="none", metrics_topic="none", security_topic="none", processes=2, progress=interrupt,
        )  # fmt: skip
    with connect(dsn) as connection:
        assert connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'asof%'").fetchall() == []
    assert multiprocessing.active_children() == []


def test_a_process_that_is_killed_is_told(kafka_bootstrap: str, projected: Projected, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(dsn: str, schema: str) -> None:
        migrate(dsn, schema)
        (other,) = multiprocessing.active_children()
        assert other.pid is not None
        os.kill(other.pid, signal.SIGKILL)

    monkeypatch.setattr(verifying, "migrate", kill)
    with pytest.raises(refold.ProcessLost, match=r"ended with code -9: .* `--processes 1`"):
        verified(kafka_bootstrap, projected)
    assert scratch_schemas(projected[2]) == []


def test_what_another_process_cannot_do_is_told_as_it_told_it(
    kafka_bootstrap: str, projected: Projected, monkeypatch: pytest.MonkeyPatch
) -> None:
    h, ends, dsn = projected
    monkeypatch.setattr(refold, "refold", lambda *_: None)  # this process does nothing: what fails, fails there
    place = refold.Place(kafka_bootstrap, dsn, h.root.public, "no_such_schema", h.topic)
    with refold.Hands([{}, ends]) as hands, pytest.raises(ChimeraError, match="no_such_schema"):
        hands.refold(place, lambda done, total: None)


def test_what_a_killed_verification_left_is_dropped_and_what_another_uses_is_not(make_database: Callable[[], str]) -> None:
    dsn = make_database()
    with connect(dsn) as other, connect(dsn) as own:
        for name in ("verify_00000000000a", "verify_00000000000b", "verify_by_hand"):
            other.execute(f'CREATE SCHEMA "{name}"'.encode())
        own_scratch(other, "verify_00000000000b")
        drop_leftovers(own)
        assert sorted(scratch_schemas(dsn)) == ["verify_00000000000b", "verify_by_hand"]
