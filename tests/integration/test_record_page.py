"""One record's page on a log that has grown: what it asks finds its rows by an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from chimera.control import records
from chimera.projections.checkpoints import LOG, MODEL_SET, connect, open_checkpoints
from chimera.projections.engine import new_fold, project
from chimera.projections.schema import migrate
from chimera.projections.write import write
from tests.integration.projection_data import PARTITIONS, History, day

LOOKS = {
    "its place": records._AT,
    "its id": records._CALLED,
    "what is near it": records._NEAR,
    "what is beside it": records._BESIDE,
}


@pytest.fixture
def dsn(make_database: Callable[[], str]) -> Iterator[str]:
    """Read models of some thousand records."""
    dsn, h = make_database(), History(LOG)
    for n in range(30):
        day(h, f"agent{n}", 9)
    migrate(dsn)
    with connect(dsn) as connection:
        open_checkpoints(connection, "core", MODEL_SET, LOG, range(PARTITIONS))
        for p in range(PARTITIONS):
            own = [raw for raw in h.raws() if raw.partition == p]
            stretch = project(new_fold(p, PARTITIONS, h.root.public), own, 0)
            assert stretch is not None
            write(connection, "core", MODEL_SET, [stretch])
        yield dsn


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for under in plan.get("Plans", []):
        yield from nodes(under)


@pytest.mark.parametrize("tenants", [None, ["acme"]])
@pytest.mark.parametrize("known", ["before anything is known of the tables", "and when it is"])
def test_a_record_is_found_without_reading_all_others(dsn: str, tenants: list[str] | None, known: str) -> None:
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        if known.startswith("and"):
            connection.execute("ANALYZE core.events, core.agents, core.tenants")
        row = connection.execute('SELECT stream, record_id, partition, "offset" FROM core.events OFFSET 900 LIMIT 1').fetchone()
        assert row is not None
        given = dict(zip(("stream", "id", "partition", "offset"), row, strict=True)) | {"causation": row[1], "tenants": tenants}
        for name, look in LOOKS.items():
            explained = connection.execute(b"EXPLAIN (FORMAT JSON) " + look.encode(), given).fetchone()
            assert explained is not None
            read = [node for node in nodes(explained[0][0]["Plan"]) if node.get("Relation Name") == "events"]
            assert read, name
            assert not [node for node in read if node["Node Type"] == "Seq Scan"], (name, read)
            assert connection.execute(look.encode(), given).fetchone() is not None, name
