"""`chimera replay verify` on a real log and a real database."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson
import psycopg
import pytest
from typer.testing import CliRunner

from chimera.cli.main import build
from chimera.projections.verify import NothingProjected, verify
from tests.integration.projection_data import History, project_three_days


@pytest.fixture
def projected(kafka_bootstrap: str, make_database: Callable[[], str]) -> tuple[History, str]:
    dsn = make_database()
    h, _ = project_three_days(kafka_bootstrap, dsn, "verify")
    return h, dsn


def test_a_refold_equals_the_live_tables(kafka_bootstrap: str, projected: tuple[History, str]) -> None:
    h, dsn = projected
    h.add(h.entries[30].key, day_later(h), actor="op")  # the log goes on; the comparison is at the tables' checkpoints
    h.send(kafka_bootstrap)
    report = verify(kafka_bootstrap, dsn, h.root.public, topic=h.topic)
    assert report.equal, report.difference
    assert report.records == len(h.entries) - 1
    with psycopg.connect(dsn) as connection:
        left = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'verify%'").fetchall()
    assert left == []


def day_later(h: History):  # type: ignore[no-untyped-def]
    from chimera.events import records as rec

    key = h.entries[30].key
    return rec.SoulAdopted(command_no=h.agent(key).command_no + 1, digest="later", soul="later")


@pytest.mark.parametrize(
    ("damage", "table", "column"),
    [
        (
            "UPDATE core.effects SET url = 'http://elsewhere' WHERE status = 'executed' AND campaign = 1 AND ordinal = 2",
            "effects",
            "url",
        ),
        ("DELETE FROM core.commits WHERE output_state_version > 6", "commits", "*"),
        ("UPDATE core.agents SET state_version = state_version + 1 WHERE name = 'ben'", "agents", "state_version"),
    ],
)
def test_a_changed_row_is_named_with_its_record(
    kafka_bootstrap: str, projected: tuple[History, str], damage: str, table: str, column: str
) -> None:
    h, dsn = projected
    with psycopg.connect(dsn) as connection:
        connection.execute(damage)
    report = verify(kafka_bootstrap, dsn, h.root.public, topic=h.topic)
    assert not report.equal
    assert report.difference is not None
    assert (report.difference.table, report.difference.column) == (table, column)
    assert 0 <= report.difference.offset < h.folds[report.difference.partition].next_offset


def test_verifying_nothing_says_so(kafka_bootstrap: str, make_database: Callable[[], str]) -> None:
    dsn = make_database()
    with pytest.raises(NothingProjected, match="start the projector"):
        verify(kafka_bootstrap, dsn, "", topic="none")


def test_verifying_on_the_command_line(
    kafka_bootstrap: str, projected: tuple[History, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    h, dsn = projected
    pinned = {"installation": "test", "root": h.root.id, "root_public": h.root.public}
    (tmp_path / "installation.json").write_bytes(orjson.dumps(pinned))
    monkeypatch.setattr("chimera.cli.replay.refold_and_compare", partial(verify, topic=h.topic))
    for name, value in (("HOME", str(tmp_path)), ("KAFKA", kafka_bootstrap), ("POSTGRES", dsn)):
        monkeypatch.setenv(f"CHIMERA_{name}", value)
    runner, app = CliRunner(), build(["replay"])
    good = runner.invoke(app, ["replay", "verify", "--json"])
    assert (good.exit_code, orjson.loads(good.stdout)["equal"]) == (0, True)
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE core.tasks SET title = 'another' WHERE ordinal = 3")
    bad = runner.invoke(app, ["replay", "verify"])
    assert bad.exit_code == 1
    assert "first difference: tasks" in bad.stdout
    assert "column title" in bad.stdout
    assert f"record {h.topic}[" in bad.stdout
    assert runner.invoke(app, ["replay", "verify", "--nonsense"]).exit_code == 2
