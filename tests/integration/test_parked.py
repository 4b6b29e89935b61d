"""Parking on a real log and a real database: one bad row holds back one model of one agent, and healing makes it whole."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import orjson
import psycopg
import pytest
from typer.testing import CliRunner

from chimera.cli.main import build
from chimera.commands.keys import log_topics
from chimera.errors import ChimeraError
from chimera.eventlog.cluster import apply
from chimera.eventlog.partitioner import partition_for
from chimera.projections import heal as healing
from chimera.projections import settling
from chimera.projections.engine import Projector, catch_up, connect
from chimera.projections.heal import NotHealed, NotParked, discard, heal, in_order
from chimera.projections.models import BY_NAME, MODELS
from chimera.projections.parking import MOST_PER_WRITE, Parked, listed
from chimera.projections.schema import migrate
from chimera.projections.verify import Report, verify
from tests.integration.kept import facts, made_anew
from tests.integration.projection_data import History, attempt, day, enrol, start

NAMES = ("ava", "ben", "cleo")


class House:
    """A log, a database, and what the tests do with both."""

    def __init__(self, bootstrap: str, dsn: str) -> None:
        self.bootstrap, self.dsn = bootstrap, dsn
        topic = f"parked-{uuid.uuid4().hex[:8]}-chimera.log"
        apply(bootstrap, log_topics(topic))
        migrate(dsn)
        self.h = History(topic)

    def project(self, max_records: int | None = None) -> Projector:
        """Catch up with all that was made so far; `max_records` a transaction where given."""
        projector = Projector(self.bootstrap, self.dsn, self.h.root.public, topic=self.h.topic)
        ends = self.h.send(self.bootstrap)
        try:
            projector.open()
            while max_records is not None and any(projector.positions[p] < end for p, end in ends.items()):
                projector.step(max_records=max_records)
                projector.flush()
            catch_up(projector, ends)
        finally:
            projector.close()
        assert projector.progress.stopped == {}
        return projector

    def verify(self) -> Report:
        with connect(self.dsn) as connection:
            settling.settle(connection, "core")
            assert facts(connection) == made_anew(connection), "what is kept follows from the rows as they are, healed or not"
        return verify(self.bootstrap, self.dsn, self.h.root.public, topic=self.h.topic)

    def heal(self, parked: Parked) -> int:
        return heal(self.bootstrap, self.dsn, self.h.root.public, parked, topic=self.h.topic)

    def parked(self) -> list[Parked]:
        with connect(self.dsn) as connection:
            return listed(connection)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def change(self, statement: str) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement.encode())


@pytest.fixture
def house(kafka_bootstrap: str, make_database: Callable[[], str]) -> House:
    return House(kafka_bootstrap, make_database())


def break_model(monkeypatch: pytest.MonkeyPatch, name: str, key: str, text: str) -> None:
    """The model raises at each record of `key` whose value holds `text`."""
    model = BY_NAME[name]

    def rows(record, ruling, agent):  # type: ignore[no-untyped-def]
        if record.key == key and text.encode() in record.value:
            raise ZeroDivisionError("planted")
        return model.rows(record, ruling, agent)

    broken = model._replace(rows=rows)
    monkeypatch.setitem(BY_NAME, name, broken)
    monkeypatch.setattr("chimera.projections.models.MODELS", tuple(broken if m is model else m for m in MODELS))
    forget_routes()


def forget_routes() -> None:
    from chimera.projections import models

    models._route.cache_clear()


@pytest.fixture(autouse=True)
def fresh_routes():  # type: ignore[no-untyped-def]
    yield
    forget_routes()


def test_a_model_that_fails_at_one_record_holds_back_that_agent_in_that_model_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {name: day(house.h, name) for name in NAMES}
    with monkeypatch.context() as planted:
        break_model(planted, "artifacts", keys["ben"], "writes post number 4")
        assert house.project().progress.parked == 1
        [parked] = house.parked()
        assert (parked.model, parked.stream, parked.reason) == ("artifacts", keys["ben"], "ZeroDivisionError: planted")
        [(made,)] = house.rows(
            f"SELECT count(*) FROM core.events WHERE stream = '{keys['ben']}' AND outcome = 'applied'"
            f" AND type IN ('ArtifactProduced', 'HumanEdited') AND \"offset\" > {parked.offset}"
        )
        assert parked.skipped == made
        found = house.verify()
        assert not found.difference
        assert [(p.model, p.stream) for p in found.parked] == [("artifacts", keys["ben"])]
        with pytest.raises(NotHealed, match="ZeroDivisionError: planted"):
            house.heal(parked)
        [again] = house.parked()
        assert (again.offset, again.skipped) == (parked.offset, parked.skipped)
    forget_routes()
    counts: Any = dict(
        cast("Any", house.rows)("SELECT a.name, count(*) FROM core.artifacts r JOIN core.agents a USING (agent_id) GROUP BY 1")
    )
    assert counts["ava"] == counts["cleo"] > counts["ben"]
    assert [type(made) for made in (house.heal(parked),)] == [int]
    assert house.parked() == []
    assert house.verify().equal
    with pytest.raises(NotParked, match="somebody else healed it"):
        house.heal(parked)


@pytest.mark.parametrize("max_records", [None, 7])
def test_the_row_that_postgres_refuses_is_found_among_all_of_its_batch(house: House, max_records: int | None) -> None:
    keys = {name: day(house.h, name) for name in NAMES}
    house.change("ALTER TABLE core.verdicts ADD CONSTRAINT planted CHECK (agent_id <> '%s' OR ordinal <> 4)" % keys["ben"])  # noqa: UP031
    house.project(max_records)
    [parked] = house.parked()
    assert (parked.model, parked.stream) == ("verdicts", keys["ben"])
    assert "planted" in parked.reason
    first = f"SELECT min(\"offset\") FROM core.events WHERE stream = '{keys['ben']}' AND type = 'JudgeVerdict' AND ordinal = 4"
    assert house.rows(first) == [(parked.offset,)]
    assert house.rows(f"SELECT max(\"offset\") < {parked.offset} FROM core.verdicts WHERE agent_id = '{keys['ben']}'") == [(True,)]
    assert house.verify().difference is None
    with pytest.raises(NotHealed, match=f"offset {parked.offset}: CheckViolation.*planted"):
        house.heal(parked)
    house.change("ALTER TABLE core.verdicts DROP CONSTRAINT planted")
    house.heal(parked)
    assert house.parked() == []
    assert house.verify().equal


def test_what_refers_to_a_parked_row_is_parked_with_it_and_heals_after_it(house: House) -> None:
    keys = {name: enrol(house.h, name) for name in NAMES}
    house.change("ALTER TABLE core.campaigns ADD CONSTRAINT planted CHECK (agent_id <> '%s')" % keys["ben"])  # noqa: UP031
    for key in keys.values():
        c = start(house.h, key, 2)
        attempt(house.h, key, c, 2, "a text of some words")
    house.project()
    parked = house.parked()
    assert {p.stream for p in parked} == {keys["ben"]}
    assert {p.model for p in parked} >= {"campaigns", "tasks", "artifacts", "effects", "verdicts", "commits"}
    artifacts = next(p for p in parked if p.model == "artifacts")
    with pytest.raises(NotHealed, match=r"violates foreign key constraint.*campaigns, tasks.*heal what it refers to first"):
        house.heal(artifacts)
    house.change("ALTER TABLE core.campaigns DROP CONSTRAINT planted")
    attempt(house.h, keys["ava"], 1, 3, "others go on meanwhile")
    house.project()
    for p in in_order(house.parked()):
        house.heal(p)
    assert house.verify().equal


def test_what_flows_while_it_is_healed_is_neither_lost_nor_written_twice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A projector holds a folded stretch in its hands that began before the healing and is written after it."""
    key = day(house.h, "ava")
    with monkeypatch.context() as planted:
        break_model(planted, "decisions", key, "fine")
        house.project()
    forget_routes()
    [parked] = house.parked()
    late = Projector(house.bootstrap, house.dsn, house.h.root.public, topic=house.h.topic)
    catch_up(late, house.h.send(house.bootstrap))
    c = start(house.h, key, 2)
    attempt(house.h, key, c, 2, "one more text of some words")
    ends = house.h.send(house.bootstrap)
    held: list[Any] = []
    monkeypatch.setattr(late, "_write", held.append)
    late.step(timeout_s=5)
    late.flush()
    house.heal(parked)
    monkeypatch.undo()
    for stretches in held:
        late._write(stretches)
    catch_up(late, ends)
    late.close()
    assert house.parked() == []
    assert house.verify().equal


def test_a_discarded_record_is_missing_with_a_reason_and_everything_else_is_there(house: House) -> None:
    keys = {name: day(house.h, name) for name in NAMES}
    house.change("ALTER TABLE core.verdicts ADD CONSTRAINT planted CHECK (agent_id <> '%s' OR ordinal <> 4)" % keys["ben"])  # noqa: UP031
    house.project()
    [parked] = house.parked()
    how = (house.bootstrap, house.dsn, house.h.root.public, parked)
    with pytest.raises(ChimeraError, match="say why"):
        discard(*how, reason=" ", by="kim", topic=house.h.topic)
    discard(*how, reason="a test vote", by="kim", topic=house.h.topic)
    assert house.parked() == []
    left = house.rows('SELECT model, stream, "offset", reason, discarded_by FROM core.discarded')
    assert left == [("verdicts", keys["ben"], parked.offset, "a test vote", "kim")]
    missing = (
        "SELECT count(*) FROM core.events e LEFT JOIN core.verdicts v USING (partition, \"offset\") WHERE e.type = 'JudgeVerdict'"
    )
    assert house.rows(missing + " AND e.outcome <> 'void' AND v.agent_id IS NULL") == [(1,)]
    assert house.verify().equal


PLANTED = "ALTER TABLE core.agents ADD CONSTRAINT planted CHECK (agent_id <> '{}' OR {})"


def test_an_agents_own_row_that_postgres_refuses_is_parked_alone_and_healed_where_its_log_stands(house: House) -> None:
    keys = {name: enrol(house.h, name) for name in NAMES}
    house.project()
    [(before,)] = house.rows(f"SELECT state_version FROM core.agents WHERE agent_id = '{keys['ben']}'")
    house.change(PLANTED.format(keys["ben"], f"state_version = {before}"))
    for key in keys.values():
        c = start(house.h, key, 2)
        attempt(house.h, key, c, 2, "a text of some words")
    assert house.project().progress.parked == 1
    [parked] = house.parked()
    assert (parked.model, parked.stream, "planted" in parked.reason) == ("agents", keys["ben"], True)
    versions: Any = dict(cast("Any", house.rows)("SELECT name, state_version FROM core.agents"))
    assert versions["ben"] == before
    assert versions["ava"] == versions["cleo"] > versions["ben"]
    counts: Any = dict(
        cast("Any", house.rows)("SELECT a.name, count(*) FROM core.tasks JOIN core.agents a USING (agent_id) GROUP BY 1")
    )
    assert counts["ava"] == counts["ben"], "its other models flow"
    found = house.verify()
    assert (found.difference, [p.model for p in found.parked]) == (None, ["agents"])
    attempt(house.h, keys["ben"], 1, 3, "more words while it is parked")
    house.project()
    assert house.parked()[0].skipped > 0
    with pytest.raises(NotHealed, match=r"CheckViolation.*planted"):
        house.heal(parked)
    with pytest.raises(ChimeraError, match="mend the cause and heal"):
        discard(house.bootstrap, house.dsn, house.h.root.public, parked, reason="away", by="kim", topic=house.h.topic)
    house.change("ALTER TABLE core.agents DROP CONSTRAINT planted")
    assert house.heal(parked) > 0
    assert house.parked() == []
    assert house.verify().equal
    start(house.h, keys["ben"], 1)  # and it goes on from there
    house.project()
    assert house.verify().equal


def test_an_agent_that_cannot_be_entered_at_all_holds_back_its_own_rows_and_nobody_elses(house: House) -> None:
    keys = {name: enrol(house.h, name) for name in NAMES}
    house.change(PLANTED.format(keys["ben"], "false"))
    for key in keys.values():
        start(house.h, key, 2)
    house.project(9)
    parked = house.parked()
    assert {p.stream for p in parked} == {keys["ben"]}
    assert {p.model for p in parked} >= {"agents", "campaigns", "tasks"}
    assert house.rows("SELECT name FROM core.agents ORDER BY 1") == [("ava",), ("cleo",)]
    house.change("ALTER TABLE core.agents DROP CONSTRAINT planted")
    for p in in_order(house.parked()):
        house.heal(p)
    assert house.verify().equal


def test_an_agents_row_that_somebody_else_changed_still_stops_the_partition_and_names_the_agent(house: House) -> None:
    key = enrol(house.h, "ava")
    house.project()
    house.change(f"UPDATE core.agents SET state_version = state_version + 7 WHERE agent_id = '{key}'")
    start(house.h, key, 2)
    ends = house.h.send(house.bootstrap)
    projector = Projector(house.bootstrap, house.dsn, house.h.root.public, topic=house.h.topic)
    catch_up(projector, ends)
    projector.close()
    assert house.parked() == []
    [why] = projector.progress.stopped.values()
    assert "agent 'ava'" in why


def test_a_fault_of_the_schema_stops_the_partition_instead_of_parking_everything(house: House) -> None:
    key = enrol(house.h, "ava")
    away = (partition_for(key, 24) + 1) % 24  # a partition that stops writes nothing of its batch, ava's rows neither
    for _ in range(MOST_PER_WRITE + 2):
        house.h.raw(f"agent/{uuid.uuid4()}", b"{}", [], partition=away)
    house.change("ALTER TABLE core.voids ADD CONSTRAINT planted CHECK (reason <> 'unreadable')")
    ends = house.h.send(house.bootstrap)
    projector = Projector(house.bootstrap, house.dsn, house.h.root.public, topic=house.h.topic)
    catch_up(projector, ends)
    projector.close()
    assert list(projector.progress.stopped) == [away]
    assert "see whether schema and code are of one version" in projector.progress.stopped[away]
    assert house.parked() == []
    assert house.rows(f"SELECT count(*) FROM core.agents WHERE agent_id = '{key}'") == [(1,)]


def test_unreadable_records_and_unknown_types_are_counted_per_partition(house: House) -> None:
    key = enrol(house.h, "ava")
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_source", b"x"),
        ("ce_time", b"t"),
        ("ce_subject", key.encode()),
        ("ce_tenant", b"acme"),
    ]
    headers += [("ce_schemaversion", b"1"), ("ce_actor", b"a"), ("ce_id", b"1"), ("ce_type", b"Unheard")]
    house.h.raw(key, b"{}", headers)
    house.h.raw(key, b"{", headers)
    house.h.raw(key, b"{}", [])
    house.project()
    counted = house.rows("SELECT sum(unreadable)::int, sum(unknown_types)::int, sum(parked)::int FROM analytics_v1.freshness")
    assert counted == [(2, 1, 0)]


def test_parking_on_the_command_line(house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = day(house.h, "ava")
    planted = f"ALTER TABLE core.verdicts ADD CONSTRAINT planted CHECK (agent_id <> '{key}' OR ordinal <> 4)"
    house.change(planted)
    house.project()
    pinned = {"installation": "test", "root": house.h.root.id, "root_public": house.h.root.public}
    (tmp_path / "installation.json").write_bytes(orjson.dumps(pinned))
    for name, value in (("HOME", str(tmp_path)), ("KAFKA", house.bootstrap), ("POSTGRES", house.dsn)):
        monkeypatch.setenv(f"CHIMERA_{name}", value)
    for verb in ("heal", "discard"):
        monkeypatch.setattr(healing, verb, on_topic(getattr(healing, verb), house.h.topic))
    app, run = build(["parked"]), CliRunner().invoke
    [shown] = orjson.loads(run(app, ["parked", "list", "--json"]).stdout)
    assert (shown["model"], shown["stream"]) == ("verdicts", key)
    assert "planted" in run(app, ["parked", "show", "verdicts", "ava"]).stdout
    assert "1 parked" in run(app, ["parked", "list"]).stdout
    assert run(app, ["parked", "heal"]).exit_code == 1
    assert run(app, ["parked", "heal", "verdicts"]).exit_code == 2
    assert run(app, ["parked", "discard", "verdicts", "ava"]).exit_code == 2  # a reason is required
    [failed] = orjson.loads(run(app, ["parked", "heal", "--json"]).stdout)
    assert (failed["model"], failed["healed"], "planted" in failed["why"]) == ("verdicts", False, True)
    giving_up = ["parked", "discard", "verdicts", "ava", "--reason", "a test", "--as", "kim"]
    assert "would discard verdicts of chimera.log[" in run(app, [*giving_up, "--dry-run"]).stdout
    assert "1 parked" in run(app, ["parked", "list"]).stdout, "it was only told"
    [given_up] = orjson.loads(run(app, [*giving_up, "--json"]).stdout)
    assert (given_up["model"], given_up["offset"], given_up["discarded"]) == ("verdicts", shown["offset"], True)
    assert "nothing is parked" in run(app, ["parked", "heal"]).stdout
    assert orjson.loads(run(app, ["parked", "heal", "--json"]).stdout) == []
    assert isinstance(run(app, ["parked", "show", "verdicts", "ava"]).exception, NotParked)


def on_topic(verb, topic: str):  # type: ignore[no-untyped-def]
    return lambda *given, **named: verb(*given, **named, topic=topic)


def test_attempts_to_heal_what_is_not_parked_say_what_is(house: House) -> None:
    day(house.h, "ava")
    house.project()
    with connect(house.dsn) as connection, pytest.raises(NotParked, match="parked: nothing is"):
        healing.find(connection, "verdicts", "ava")
