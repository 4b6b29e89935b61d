"""Builds of the read models on a real log and a real database: load, compare, swap, go back, repair."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import NamedTuple

import orjson
import psycopg
import pytest
from typer.testing import CliRunner, Result

from benchmarks.project import database
from chimera.cli import replay_options
from chimera.cli.replay import app
from chimera.commands.keys import log_topics
from chimera.eventlog.cluster import apply
from chimera.projections import settling
from chimera.projections.checkpoints import connect
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.projections.verify import verify
from chimera.projections.write import Connection
from chimera.replay import builds, survey
from chimera.replay.builds_follow import Follower, following
from chimera.replay.builds_run import Pacing, Paused, Tally, carry_out
from chimera.replay.compare import compare
from chimera.replay.plan import Ends, Refused, make_plan, total
from chimera.replay.repair import chosen, repair
from chimera.replay.survey import Where
from chimera.replay.swap import swap
from tests.integration.kept import facts, made_anew
from tests.integration.projection_data import History, day, enrol, mischief

RIGHTS = "SELECT has_table_privilege('pg_monitor', f, 'SELECT'), has_table_privilege('pg_monitor', e, 'SELECT')" + (
    " FROM (SELECT 'analytics_v1.posts' AS f, 'analytics_v1.events' AS e) named"
)


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


@contextmanager
def housed(bootstrap: str, postgres_dsn: str, fill: Callable[[History], None]) -> Iterator[House]:
    """Rows of a log of its own, which `fill` begins."""
    topic = f"builds-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(bootstrap, log_topics(topic))
    h = History(topic)
    fill(h)
    with database(postgres_dsn) as dsn:
        migrate(dsn)
        projector = Projector(bootstrap, dsn, h.root.public, topic=topic)
        made = House(h, Where(bootstrap, dsn, h.root.public, topic, None, None, None), projector)
        made.project()
        yield made
        projector.close()


@pytest.fixture(scope="module")
def house(kafka_bootstrap: str, postgres_dsn: str) -> Iterator[House]:
    def fill(h: History) -> None:
        for name in ("ava", "ben", "cleo"):
            day(h, name)
        mischief(h, enrol(h, "cy"))

    with housed(kafka_bootstrap, postgres_dsn, fill) as made:
        yield made


def references(connection: Connection, schema: str) -> set[object]:
    """What refers to what, by name."""
    return set(
        connection.execute(
            "SELECT replace(conrelid::regclass::text, %s, ''), conname, replace(pg_get_constraintdef(oid), %s, ''), convalidated"
            " FROM pg_constraint WHERE connamespace = %s::regnamespace AND contype = 'f'",
            (f"{schema}.", f"{schema}.", schema),
        ).fetchall()
    )


def campaigns(connection: Connection, schema: str) -> list[object]:
    return list(connection.execute(f"SELECT * FROM {schema}.campaigns ORDER BY agent_id, campaign".encode()).fetchall())


@pytest.fixture(scope="module")
def ready(house: House) -> int:
    """A build that is ready."""
    number = house.plan()
    carry_out(house.where, number, Pacing(processes=2))
    return number


def test_a_build_equals_the_live_read_models_though_the_log_went_on(house: House, ready: int) -> None:
    assert house.build(ready).state == "ready"
    day(house.h, "dov")
    house.project()
    with following(house.where, house.build(ready)) as follower:
        found = compare(follower)
    assert found.equal, [t for t in found.tables if not t.equal]
    assert found.records == len(house.h.entries)
    with connect(house.where.dsn) as connection:
        assert references(connection, f"build_{ready}") == references(connection, "core") != set()


def test_comparing_names_tables_columns_and_rows_that_differ(house: House, ready: int) -> None:
    with psycopg.connect(house.where.dsn) as connection:
        connection.execute("UPDATE core.effects SET url = 'http://elsewhere' WHERE status = 'executed' AND ordinal = 2")
        connection.execute("DELETE FROM core.commits WHERE output_state_version = 7")
    try:
        with following(house.where, house.build(ready)) as follower:
            found = {t.table: t for t in compare(follower, samples=2).tables if not t.equal}
        assert found.keys() == {"effects", "commits"}
        assert found["effects"].columns == ("url",)
        assert len(found["effects"].samples) == 2
        live, build = found["effects"].samples[0]["differs"]["url"]
        assert (live, build[:9]) == ("http://elsewhere", "http://x/")
        assert found["commits"].live_rows < found["commits"].build_rows
        assert found["commits"].samples[0]["differs"] == {"*": ["no such row", "there"]}
    finally:
        with connect(house.where.dsn) as connection:
            names = ("ava", "ben", "cleo", "dov")
            streams = [s for s in chosen(connection, house.where, None, "acme") if s.name in names]
            made = repair(house.where, connection, streams)
    assert [r.rows_after - r.rows_before for r in made] == [1, 1, 1, 1]
    with following(house.where, house.build(ready)) as follower:
        assert compare(follower).equal


def test_a_repair_of_nobody_is_refused(house: House) -> None:
    with connect(house.where.dsn) as connection, pytest.raises(Refused, match="agent 'nobody' matches nothing; there are ava, ben"):
        chosen(connection, house.where, "nobody", None)


def test_a_swap_gives_way_to_a_long_transaction_and_says_whose_it_is(house: House, ready: int) -> None:
    with psycopg.connect(house.where.dsn, application_name="a long look") as analyst:
        analyst.execute("SELECT count(*) FROM analytics_v1.posts").fetchone()
        with pytest.raises(
            Refused, match=r"not swapped in, nothing changed: .* tries .*In the way: pid \d+ of \w+ \(a long look\)"
        ):
            swap(house.where, house.build(ready), actor="kim", reason="too early", patience_s=3)
        before = analyst.execute("SELECT count(*) FROM core.tasks").fetchone()
        analyst.rollback()
        assert analyst.execute("SELECT count(*) FROM core.tasks").fetchone() == before
    assert house.build(ready).state == "ready"


def test_a_swap_behind_the_lag_limit_is_refused(house: House, ready: int) -> None:
    class Slow(Follower):
        def step(self, until: Ends | None = None, timeout_s: float = 0.05) -> int:
            return 0  # whatever it does, the log is faster

    day(house.h, "gus")
    house.h.send(house.where.bootstrap)
    slow = Slow(house.where, house.build(ready))
    try:
        with pytest.raises(Refused, match=r"still \d+ records behind the log after 1 s \(limit 10\).*--max-lag"):
            slow.keep_up(10, deadline_s=1)
    finally:
        slow.close()
        house.project()


def test_a_build_is_paused_between_transactions_and_goes_on_from_its_checkpoints(house: House) -> None:
    number = house.plan()

    def ask(t: Tally) -> None:
        if t.done and house.build(number).wanted is None:
            with connect(house.where.dsn) as connection:
                builds.change(connection, number, wanted="pause")

    with pytest.raises(Paused, match=f"`chimera replay resume {number}`"):
        carry_out(house.where, number, Pacing(max_rate=20), ask)  # far slower than the asking
    with connect(house.where.dsn) as connection:
        done = total(survey.written(connection, house.where, f"build_{number}"))
        assert 0 < done < len(house.h.entries)
        assert builds.at_work(connection) == set()
    told: list[Tally] = []
    carry_out(house.where, number, Pacing(), told.append)
    assert told[0].done >= done
    assert house.build(number).state == "ready"
    with connect(house.where.dsn) as connection:
        settled = connection.execute(
            "SELECT (SELECT count(*) FROM {0}.posts_unsettled), (SELECT count(*) FROM {0}.media_unsettled),"
            " EXISTS (SELECT FROM {0}.post_facts)".format(house.build(number).schema).encode()
        ).fetchone()
        assert settled == (0, 0, True), "no question has to find out what a rebuild could"
        builds.drop_tables(connection, house.build(number))


def test_a_build_whose_rows_lack_what_they_refer_to_is_loaded_anew_with_references_in_place(house: House) -> None:
    number = house.plan()
    lost: list[int] = []

    def lose(t: Tally) -> None:
        if t.step == "indexing" and not lost:
            with connect(house.where.dsn) as connection:
                lost.append(connection.execute(f"DELETE FROM build_{number}.campaigns".encode()).rowcount)

    carry_out(house.where, number, Pacing(yield_at=0), lose)
    assert lost[0] > 0
    with connect(house.where.dsn) as connection:
        assert [a.act for a in builds.acts(connection, number)] == ["loaded", "loaded anew", "loaded"]
        assert references(connection, f"build_{number}") == references(connection, "core") != set()
        assert campaigns(connection, f"build_{number}") == campaigns(connection, "core")
        builds.drop_tables(connection, house.build(number))


def test_a_row_that_was_given_up_stays_out_of_a_build_and_takes_nothing_with_it(house: House) -> None:
    """A load keeps only the sum of its rows, until it has to look at them one by one."""
    with connect(house.where.dsn) as connection:
        every = 'SELECT partition, "offset" FROM {}.commits ORDER BY 1, 2'
        live = connection.execute(every.format("core").encode()).fetchall()
        connection.execute(
            'INSERT INTO core.discarded (model, stream, partition, "offset", failed_with, reason, discarded_by)'
            " VALUES ('commits', 's', %s, %s, 'planted', 'no', 'kim')",
            live[3],
        )
        try:
            number = house.plan()
            carry_out(house.where, number, Pacing(yield_at=0))
            schema = house.build(number).schema
            assert connection.execute(every.format(schema).encode()).fetchall() == live[:3] + live[4:]
            events = "SELECT count(*) FROM {}.events"
            assert connection.execute(events.format(schema).encode()).fetchone() == (len(house.h.entries),)
        finally:
            connection.execute("DELETE FROM core.discarded WHERE reason = 'no'")
        builds.drop_tables(connection, house.build(number))


def test_a_plan_against_another_cluster_is_refused_by_whoever_carries_it_out(house: House) -> None:
    number = house.plan()
    with connect(house.where.dsn) as connection:
        builds.change(connection, number, plan={**house.build(number).plan, "cluster": "another"})
    with pytest.raises(Refused, match="made against Kafka cluster another"):
        carry_out(house.where, number, Pacing())
    with connect(house.where.dsn) as connection:
        builds.drop_tables(connection, house.build(number))


def test_a_build_takes_the_place_of_the_live_one_under_readers_and_writers_and_gives_it_back(house: House, ready: int) -> None:
    with psycopg.connect(house.where.dsn, autocommit=True) as owner:
        owner.execute("GRANT USAGE ON SCHEMA analytics_v1 TO pg_monitor; GRANT SELECT ON analytics_v1.posts TO pg_monitor")
    with reading(house.where.dsn) as seen:
        swapped = swap(house.where, house.build(ready), actor="kim", reason="try it")
        assert (swapped.live, swapped.kept) == (ready, 0)
        assert house.build(ready).schema == "core"
        day(house.h, "edda")  # the projector that ran all the while goes on in the new tables
        house.project()
        with connect(house.where.dsn) as connection:  # what is kept came along, and goes on being noted where the tables are now
            assert settling.settle(connection, "core") > 0
            assert facts(connection) == made_anew(connection)
        with psycopg.connect(house.where.dsn, autocommit=True) as owner:
            assert owner.execute(RIGHTS).fetchone() == (True, False), "who was let in is let in, and nobody else"
            assert owner.execute("SELECT count(*) FROM analytics_v1.events").fetchone() == (len(house.h.entries),)
            owner.execute("CREATE VIEW public.mine AS SELECT count(*) FROM analytics_v1.events")
        back = swap(house.where, house.build(0), actor="kim", reason="no", act="rollback")
        assert (back.live, back.kept) == (0, ready)
        day(house.h, "femi")
        house.project()
    assert seen.errors == []
    assert seen.counts == sorted(seen.counts), "no reader ever saw fewer records than before"
    assert seen.mixed == [], "events and checkpoints were of one build whenever both were looked at"
    report = verify(house.where.bootstrap, house.where.dsn, house.h.root.public, topic=house.h.topic)
    assert report.equal, report.difference
    with connect(house.where.dsn) as connection:
        assert [(a.act, a.actor) for a in builds.acts(connection)][:2] == [("rollback", "kim"), ("swap", "kim")]
        builds.drop_tables(connection, builds.get(connection, ready))
        mine = connection.execute("SELECT * FROM public.mine").fetchone()
        assert mine == (len(house.h.entries),), "a view that somebody made on the analysts' views follows a swap"
        assert connection.execute(RIGHTS).fetchone() == (True, False)
        left = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^build|analytics_v1_'").fetchall()
        connection.execute("DROP VIEW public.mine")
    assert left == []


@dataclass
class Seen:
    """What readers saw while others swapped."""

    counts: list[int] = field(default_factory=list)
    mixed: list[tuple[int, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def reading(dsn: str) -> Iterator[Seen]:
    """Readers that ask without rest: the analysts' view, and two tables in one transaction."""
    seen, stop = Seen(), threading.Event()

    def ask_view() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not stop.is_set():
                row = connection.execute("SELECT count(*) FROM analytics_v1.events").fetchone()
                seen.counts.append(row[0] if row else -1)

    def ask_both() -> None:
        with psycopg.connect(dsn) as connection:
            while not stop.is_set():
                events = connection.execute("SELECT count(*), 'core.events'::regclass::oid FROM core.events").fetchone()
                again = connection.execute("SELECT count(*), 'core.events'::regclass::oid FROM core.events").fetchone()
                if events is not None and again is not None and events[1] != again[1]:
                    seen.mixed.append((events[1], again[1]))
                connection.commit()

    def guarded(ask: Callable[[], None]) -> None:
        try:
            ask()
        except psycopg.Error as error:
            seen.errors.append(str(error))

    threads = [threading.Thread(target=guarded, args=(ask,)) for ask in (ask_view, ask_both)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def replay(house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`chimera replay ...` as it is typed, of this log and database."""
    monkeypatch.setattr(replay_options, "load", lambda settings: SimpleNamespace(kafka="", postgres=""))
    monkeypatch.setattr(replay_options, "load_installation", lambda home: SimpleNamespace(root_public=""))
    monkeypatch.setattr(replay_options, "Where", lambda *addresses: house.where)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_every_verb_answers_in_json_and_who_did_what_and_why_is_kept(house: House, replay: Callable[..., Result]) -> None:
    house.project()
    number = orjson.loads(replay("plan", "--json").stdout)["build"]
    made = orjson.loads(replay("apply", number, "--reason", "column added", "--as", "kim", "--json").stdout)
    assert (made["build"], made["state"], made["loaded"]["records"]) == (number, "ready", len(house.h.entries))
    status = orjson.loads(replay("status", "--json").stdout)
    row = next(b for b in status["builds"] if b["build"] == number)
    assert (row["state"], row["behind"], row["records"]) == ("ready", 0, len(house.h.entries))
    assert row["bytes"] > 0
    assert {("apply", "kim", "column added")} <= {(a["act"], a["actor"], a["reason"]) for a in status["acts"]}
    compared = replay("diff", number, "--json")
    assert (compared.exit_code, orjson.loads(compared.stdout)["equal"]) == (0, True)
    assert orjson.loads(replay("pause", number, "--json").stdout) == {"build": number, "asked": False, "verb": "pause"}
    assert orjson.loads(replay("gc", "--dry-run", "--before", "2020-01-01T00:00:00Z", "--json").stdout) == {"would drop": []}
    unasked = replay("gc", "--reason", "room")
    assert (unasked.exit_code, "wants --yes where nobody can be asked" in str(unasked.exception)) == (1, True)
    assert orjson.loads(replay("cancel", number, "--yes", "--json").stdout)["verb"] == "cancel"
    assert house.build(number).state == "dropped"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("apply", "--reason", "r", "4711"), "there is no build 4711.*`chimera replay status`"),
        (("resume", "LIVE"), "build [0-9]+ is live; to resume it, it would have to be loading or indexing or ready"),
        (("cancel", "LIVE", "--yes"), "build [0-9]+ is live; to cancel it"),
        (("swap", "LIVE", "--reason", "r"), "build [0-9]+ is live; to swap it, it would have to be ready"),
        (("plan", "--agent", "nobody"), "matches nothing; there are "),
        (("gc", "--yes", "--before", "2026-11-22T10:00"), "says no time zone.*write 2026-11-22T10:00Z"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(
    house: House, replay: Callable[..., Result], words: tuple[str, ...], says: str
) -> None:
    with connect(house.where.dsn) as connection:
        live = next(b.id for b in builds.listed(connection) if b.state == "live")
    refused = replay(*(live if word == "LIVE" else word for word in words))
    assert refused.exit_code == 1
    assert isinstance(refused.exception, Refused)
    assert re.search(says, str(refused.exception))


@pytest.mark.parametrize("words", [("apply",), ("swap",), ("rollback", "--reason", " ")])
def test_without_a_reason_nothing_that_is_kept_is_done(replay: Callable[..., Result], words: tuple[str, ...]) -> None:
    refused = replay(*words)
    assert refused.exit_code == 2
    assert "say why" in refused.output


def test_a_build_that_somebody_works_on_is_left_to_them(house: House) -> None:
    number = house.plan()
    with builds.working(house.where.dsn, number), pytest.raises(Refused, match=f"somebody works on build {number}.*replay pause"):
        carry_out(house.where, number, Pacing())
    with connect(house.where.dsn) as connection:
        builds.drop_tables(connection, house.build(number))
