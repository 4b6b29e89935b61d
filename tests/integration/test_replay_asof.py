"""A past of the read models: what was there then, read-only, under the guard; and a verification that names its record."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import pytest

from chimera.commands.keys import log_topics
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.moments import BadMoment, moment
from chimera.eventlog.topics import KafkaUnavailable, load_topics
from chimera.events.metrics import EngagementObserved, encode
from chimera.projections import analysts, metrics
from chimera.projections.checkpoints import connect, open_checkpoints
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.projections.verify import verify
from chimera.replay import asof
from chimera.replay.asof import BadPast, Past
from tests.integration.projection_data import History, day

POST = "SELECT count(*) FROM {}.posts"


class Place:
    """Two agents' days, projected; a past of the moment between them; one number that a platform told."""

    def __init__(self, bootstrap: str, dsn: str) -> None:
        self.bootstrap, self.dsn = bootstrap, dsn
        prefix = f"asof-{uuid.uuid4().hex[:8]}-"
        self.topic, self.metrics_topic = f"{prefix}chimera.log", f"{prefix}chimera.metrics"
        apply(bootstrap, log_topics(self.topic))
        told = load_topics().only("chimera.metrics").with_prefix(prefix)
        apply(bootstrap, told)
        self.h = History(self.topic)
        day(self.h, "ava")
        then = self.h.send(bootstrap)
        last = max(then, key=lambda p: then[p])
        self.between = f"{last}:{then[last] - 1}"
        self.ben = day(self.h, "ben")
        migrate(dsn)
        projector = Projector(bootstrap, dsn, self.h.root.public, topic=self.topic)
        catch_up(projector, self.h.send(bootstrap))
        projector.close()
        seen = EngagementObserved(self.ben, "x", "12", 1_763_900_000_000, {"likes": 7.0}, "x/social.metrics")
        with Appender(bootstrap, told, "test") as appender:
            at = appender.append_blocking(self.metrics_topic, self.ben, encode(seen), [])
        from chimera.eventlog.read import read_until

        with connect(dsn) as connection:
            open_checkpoints(connection, "core", metrics.MODEL_SET, self.metrics_topic, range(12))
            for raws in read_until(bootstrap, self.metrics_topic, [at.partition], None, {at.partition: at.offset + 1}):
                metrics.write_raws(connection, "core", raws)
            analysts.add(connection, "ana", ["acme"], by="test")
            analysts.add(connection, "eve", ["acme"], by="test")
            connection.execute("UPDATE access.analysts SET tenant = 'other' WHERE role = 'eve'")
        cut = moment(bootstrap, self.topic, self.between)
        self.past = asof.make(
            bootstrap, dsn, self.h.root.public, self.topic, cut, name="then", asked=self.between, by="kim",
            metrics_topic=self.metrics_topic, calls_topic="no-such-topic", security_topic="no-such-topic",
        )  # fmt: skip

    def one(self, query: str, role: str | None = None) -> Any:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            if role is not None:
                connection.execute(f'SET ROLE "{role}"'.encode())
            row = connection.execute(query.encode()).fetchone()
            return None if row is None else row[0]

    def verified(self) -> Any:
        return verify(self.bootstrap, self.dsn, self.h.root.public, topic=self.topic, metrics_topic=self.metrics_topic)


@pytest.fixture(scope="module")
def place(kafka_bootstrap: str, postgres_dsn: str) -> Iterator[Place]:
    from tests.conftest import _with_database

    name = f"asof_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    made = Place(kafka_bootstrap, _with_database(postgres_dsn, name))
    yield made
    with psycopg.connect(made.dsn, autocommit=True) as connection:
        for role in ("ana", "eve"):
            analysts.remove(connection, role)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def test_a_past_shows_what_was_there_and_nothing_of_later(place: Place) -> None:
    assert place.one("SELECT string_agg(agent, ',') FROM asof_then.agents") == "ava"
    assert place.one("SELECT count(*) FROM analytics_v1.agents") == 2
    assert place.one(POST.format("asof_then")) == place.one("SELECT count(*) FROM analytics_v1.posts WHERE agent = 'ava'") > 0
    assert place.one("SELECT count(*) FROM asof_then_core.events") == place.past.records
    assert place.one("SELECT count(*) FROM asof_then.engagement_daily") == 0


def test_the_present_of_a_past_is_its_moment(place: Place) -> None:
    age = "SELECT extract(epoch FROM oldest_age) - extract(epoch FROM timestamptz '{}' - oldest) FROM {}.hitl_queue"
    moment = datetime.fromtimestamp(place.past.ts / 1000, UTC).isoformat()
    assert place.one(age.format(moment, "asof_then")) == 0
    assert place.one(age.format(moment, "analytics_v1")) > 0
    with connect(place.dsn) as connection:
        texts = connection.execute("SELECT definition FROM pg_views WHERE schemaname = 'asof_then'").fetchall()
    assert not [text for (text,) in texts if "now()" in text]


def test_an_analyst_sees_own_tenants_only_there_too(place: Place) -> None:
    assert place.one(POST.format("asof_then"), "ana") == place.one(POST.format("asof_then"))
    assert place.one(POST.format("asof_then"), "eve") == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.one("SELECT count(*) FROM asof_then_core.effects", "ana")


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM asof_then_core.effects", "TRUNCATE asof_then_core.voids", "UPDATE asof_then_core.agents SET name = 'x'"],
)
def test_a_past_cannot_be_changed_even_by_its_owner(place: Place, change: str) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="is part of a past, which is read-only"):
        place.one(change)


def test_an_analyst_is_pointed_at_a_past_and_back(place: Place) -> None:
    def sees(connection: Any) -> list[str]:
        row = connection.execute(
            "SELECT setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole WHERE rolname = 'ana'"
        )
        return [each for each in row.fetchone()[0] if each.startswith("search_path=")]

    with connect(place.dsn) as connection:
        asof.use(connection, "ana", asof.find(connection, "then"))
        assert sees(connection) == ["search_path=asof_then"]
        assert asof.find(connection, "then").used_by == ("ana",)
        asof.use(connection, "ana", None)
        assert sees(connection) == ["search_path=analytics_v1"]
        with pytest.raises(BadPast, match="there is no analyst 'zed': there are ana, eve"):
            asof.use(connection, "zed", None)


def test_pasts_are_listed_with_who_made_them_and_dropped_whole(place: Place) -> None:
    def make(name: str) -> Past:
        cut = moment(place.bootstrap, place.topic, "0:0")
        return asof.make(
            place.bootstrap, place.dsn, place.h.root.public, place.topic, cut, name=name, asked="0:0", by="lee",
            metrics_topic=place.metrics_topic, calls_topic="no-such-topic", security_topic="no-such-topic",
        )  # fmt: skip

    early = make("early")
    with connect(place.dsn) as connection:
        assert {(p.name, p.made_by, p.whole) for p in asof.pasts(connection)} == {("then", "kim", True), ("early", "lee", True)}
    with pytest.raises(BadPast, match="there is a past 'early' already"):
        make("early")
    asof.remove(place.dsn, early)
    with connect(place.dsn) as connection:
        assert [p.name for p in asof.pasts(connection)] == ["then"]
        with pytest.raises(BadPast, match="there is no past 'early': there are then"):
            asof.find(connection, "early")


def test_a_build_that_fails_leaves_nothing_behind(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("the light went out")

    monkeypatch.setattr(asof, "rewrite", breaks)
    with pytest.raises(RuntimeError):
        asof.make(
            place.bootstrap,
            place.dsn,
            place.h.root.public,
            place.topic,
            moment(place.bootstrap, place.topic, "0:0"),
            name="dark",
            asked="",
            by="",
        )
    assert place.one("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'asof_dark%'") == 0


def test_a_topic_that_does_not_answer_is_no_empty_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(bootstrap: str, topic: str, ts: int) -> dict[int, int]:
        raise KafkaUnavailable("no answer")

    assert asof._upto(place.bootstrap, "no.such.topic", 1) == {}
    monkeypatch.setattr(asof, "offsets_after", away)
    with pytest.raises(KafkaUnavailable):  # a past without its calls would look whole
        asof._upto(place.bootstrap, "chimera.calls", 1)


def test_names_that_are_none_and_moments_beyond_the_end_are_refused(place: Place) -> None:
    with pytest.raises(BadPast, match="is no name for a past"):
        asof.check_name("Robert'); DROP")
    with pytest.raises(BadMoment, match="beyond the end of partition 0"):
        moment(place.bootstrap, place.topic, "0:99999")


# --- verification ----------------------------------------------------------------------------------------------------


def test_the_tables_of_platform_numbers_are_verified_too(place: Place) -> None:
    report = place.verified()
    assert report.equal, report.difference
    assert {t.table: t.live_rows for t in report.tables if t.table.startswith("engagement")} == {
        "engagement_metrics": 1, "engagement_daily": 0, "engagement_latest": 1,
    }  # fmt: skip
    place.one("UPDATE core.engagement_latest SET observed_at = observed_at + interval '1 s' RETURNING 1")
    try:
        found = place.verified().difference
        assert (found.table, found.column, found.topic) == ("engagement_latest", "observed_at", place.metrics_topic)
    finally:
        place.one("UPDATE core.engagement_latest SET observed_at = observed_at - interval '1 s' RETURNING 1")


def test_a_row_that_differs_is_named_with_the_record_that_wrote_it(place: Place) -> None:
    place.one("UPDATE core.accounts SET account = 'stolen' WHERE account = 'ben_x' RETURNING 1")
    try:
        found = place.verified().difference
        assert (found.table, found.column, found.topic) == ("accounts", "account", place.topic)
        assert (found.record["type"], found.record["actor"]) == ("AccountLinked", "svc")
        assert orjson.dumps(found._asdict())
    finally:
        place.one("UPDATE core.accounts SET account = 'ben_x' WHERE account = 'stolen' RETURNING 1")
