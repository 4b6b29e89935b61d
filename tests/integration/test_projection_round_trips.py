"""How often the projector waits for Postgres: counted in what the client library itself sends and receives."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from chimera.events.metrics import TOPIC, EngagementObserved, encode
from chimera.events.raw import RawRecord
from chimera.projections import calls, metrics, observed
from chimera.projections.batch import Stretch
from chimera.projections.checkpoints import LOG, MODEL_SET, connect, open_checkpoints
from chimera.projections.engine import new_fold, project
from chimera.projections.schema import migrate
from chimera.projections.write import Connection, write
from tests.integration.projection_data import PARTITIONS, History, day

MOST = 8
RECORDS = 1_000


@pytest.fixture
def connection(make_database: Callable[[], str]) -> Iterator[Connection]:
    dsn = make_database()
    migrate(dsn)
    with connect(dsn) as made:
        yield made


def round_trips(connection: Connection, work: Callable[[], object], trace: Path) -> int:
    """How often the client had sent something and then waited for an answer."""
    with trace.open("wb") as file:
        connection.pgconn.trace(file.fileno())
        try:
            work()
        finally:
            connection.pgconn.untrace()
            os.fsync(file.fileno())
    directions = "".join(re.findall(r"^[^\n]*?\b([FB])\t", trace.read_text(errors="replace"), re.MULTILINE))
    assert "F" in directions
    return len(re.findall("F+B+", directions))


def test_a_thousand_records_of_the_log_are_written_in_eight_round_trips(connection: Connection, tmp_path: Path) -> None:
    h = History(LOG)
    while len(h.entries) < 2 * RECORDS + 200:
        day(h, f"agent{len(h.entries)}", 4)
    raws = h.raws()
    open_checkpoints(connection, "core", MODEL_SET, LOG, range(PARTITIONS))
    folds = {p: new_fold(p, PARTITIONS, h.root.public) for p in range(PARTITIONS)}

    def stretches(some: list[RawRecord]) -> list[Stretch]:
        made = []
        for p in sorted({raw.partition for raw in some}):
            own = [raw for raw in some if raw.partition == p]
            stretch = project(folds[p], own, own[0].offset)
            assert stretch is not None
            made.append(stretch)
        return made

    write(connection, "core", MODEL_SET, stretches(raws[:RECORDS]))
    batch = stretches(raws[RECORDS : 2 * RECORDS])
    assert round_trips(connection, lambda: write(connection, "core", MODEL_SET, batch), tmp_path / "trace") <= MOST
    assert connection.execute("SELECT count(*) FROM core.events").fetchone() == (2 * RECORDS,)


def test_a_thousand_observations_are_written_in_eight_round_trips(connection: Connection, tmp_path: Path) -> None:
    open_checkpoints(connection, "core", metrics.MODEL_SET, TOPIC, [0])
    seen = [
        EngagementObserved("agent/1", "x", str(n % 100), 1_795_000_000_000 + n, {"views": n, "likes": 1}, "t")
        for n in range(2 * RECORDS)
    ]
    raws = [RawRecord(TOPIC, 0, n, 1_795_000_000_000, b"agent/1", encode(one), []) for n, one in enumerate(seen)]
    metrics.write_metrics(connection, "core", observed.made_of(raws[:RECORDS]))  # makes the part
    made = observed.made_of(raws[RECORDS:])
    assert round_trips(connection, lambda: metrics.write_metrics(connection, "core", made), tmp_path / "trace") <= MOST
    assert connection.execute("SELECT count(*) FROM core.engagement_metrics").fetchone() == (4 * RECORDS,)


def test_a_thousand_calls_are_written_in_eight_round_trips(connection: Connection, tmp_path: Path) -> None:
    open_checkpoints(connection, "core", calls.MODEL_SET, calls.CALLS, [0])
    call = orjson.dumps({"tenant": "acme", "result_class": "ok", "cost_usd": "0.5"})
    raws = [RawRecord(calls.CALLS, 0, n, 1_795_000_000_000, b"agent/1", call, []) for n in range(RECORDS)]
    assert round_trips(connection, lambda: calls.write_calls(connection, "core", raws), tmp_path / "trace") <= MOST
    assert connection.execute("SELECT count(*) FROM core.tool_calls").fetchone() == (RECORDS,)
