"""Facts of posts and media are kept: whatever is written in whatever order, they are what the tables say when asked anew."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimera.projections import demo, settling
from chimera.projections.checkpoints import LOG, MODEL_SET, connect, open_checkpoints
from chimera.projections.engine import new_fold, project
from chimera.projections.schema import migrate
from chimera.projections.write import Connection, write
from tests.integration.kept import facts, made_anew
from tests.integration.projection_data import PARTITIONS, History, day
from tests.integration.test_asset_steps import told

QUIET = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    max_examples=20,
)
HASHES = [letter * 64 for letter in "abcdef"]


@pytest.fixture(scope="module")
def connection(postgres_dsn: str) -> Iterator[Connection]:
    name = f"kept_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_dsn, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
        dsn = demo.address(postgres_dsn, name)
        migrate(dsn)
        with connect(dsn) as made:
            yield made
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(autouse=True)
def empty(connection: Connection) -> None:
    """Tables as after a migration."""
    tables = connection.execute(
        "SELECT string_agg(format('core.%I', relname), ', ') FROM pg_class WHERE relnamespace = 'core'::regnamespace"
        " AND relkind IN ('r', 'p') AND relname <> 'alembic_version'"
    ).fetchone()
    assert tables is not None
    connection.execute(f"TRUNCATE {tables[0]}".encode())


def history() -> History:
    h = History(LOG)
    told(h)
    day(h, "bea", 9)
    return h


@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_is_what_is_made_anew_after_every_batch_settled_or_not(connection: Connection, seed: int) -> None:
    dice, h = random.Random(seed), history()
    open_checkpoints(connection, "core", MODEL_SET, LOG, range(PARTITIONS))
    folds = {p: new_fold(p, PARTITIONS, h.root.public) for p in range(PARTITIONS)}
    raws = h.raws()
    while raws:
        count = dice.randrange(1, 40)
        some, raws = raws[:count], raws[count:]
        stretches = []
        for p in range(PARTITIONS):
            own = [raw for raw in some if raw.partition == p]
            stretch = project(folds[p], own, own[0].offset) if own else None
            stretches += [] if stretch is None else [stretch]
        if stretches:
            write(connection, "core", MODEL_SET, stretches)
        assert facts(connection) == made_anew(connection), "before it is settled"
        if dice.random() < 0.5 or not raws:
            settling.settle(connection, "core")
            assert facts(connection) == made_anew(connection)
    unsettled = "SELECT (SELECT count(*) FROM core.posts_unsettled), (SELECT count(*) FROM core.media_unsettled)"
    assert connection.execute(unsettled).fetchone() == (0, 0)
    kept = facts(connection)
    assert len(kept["post_facts"]) > 4
    assert len(kept["asset_facts"]) == 3
    assert {row[4] for row in kept["asset_daily"]} >= {"produced", "final", "published", "deleted"}


@pytest.fixture
def agent(connection: Connection, empty: None) -> None:
    """One agent with one task."""
    row = "now(), 0, 1"
    for statement in (
        f"core.agents VALUES ('agent/1', 'acme', 'ava', 'active', false, 1, 1, 1, 0, 0, {row})",
        f"core.campaigns VALUES ('agent/1', 1, 'c', 'Films', 'op', 'running', '', 1, '{{}}', 'b', 1, NULL, '', now(), {row})",
        "core.tasks (agent_id, campaign, ordinal, kind, title, status, plan_round, reads, max_cost_usd, criteria, inputs, costly,"
        ' created_at, updated_at, partition, "offset")'
        f" VALUES ('agent/1', 1, 1, 'video', 't', 'done', 1, '{{}}', 1, '[]', '[]', true, now(), {row})",
    ):
        connection.execute(b"INSERT INTO " + statement.encode())


def an_asset(connection: Connection, sha256: str, cost: int | None, role: str = "render") -> None:
    connection.execute(
        "INSERT INTO core.assets"
        " VALUES ('agent/1', %s, %s, '', NULL, NULL, NULL, NULL, 1, 1, 1, 0, '', NULL, %s, now(), now(), 0, 1)"
        " ON CONFLICT (agent_id, sha256) DO UPDATE SET cost_usd = EXCLUDED.cost_usd, role = EXCLUDED.role",
        (sha256, role, cost),
    )


def an_edge(connection: Connection, sha256: str, parent: str) -> None:
    connection.execute(
        "INSERT INTO core.asset_lineage VALUES ('agent/1', %s, %s, 'edit', now(), 0, 1) ON CONFLICT DO NOTHING", (sha256, parent)
    )


def ancestors(edges: set[tuple[str, str]], sha256: str) -> set[str]:
    found: set[str] = set()
    todo = [sha256]
    while todo:
        at = todo.pop()
        new = {parent for child, parent in edges if child == at} - found - {sha256}
        found |= new
        todo += new
    return found


node = st.integers(0, len(HASHES) - 1)


@QUIET
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("edge"), node, node),
            st.tuples(st.just("cost"), node, st.one_of(st.none(), st.integers(0, 9))),
            st.tuples(st.just("settle"), st.just(0), st.none()),
        ),
        min_size=1,
        max_size=14,
    )
)
def test_every_ancestor_of_a_file_is_counted_once_through_circles_and_by_many_ways(
    agent: None, connection: Connection, said: list[tuple[str, int, int | None]]
) -> None:
    connection.execute("TRUNCATE core.assets, core.asset_lineage, core.asset_facts, core.media_unsettled")
    costs, edges = dict[str, int](), set[tuple[str, str]]()
    for what, of, other in said:
        if what == "edge" and other is not None:
            edges.add((HASHES[of], HASHES[other]))
            an_edge(connection, HASHES[of], HASHES[other])
        elif what == "cost":
            costs[HASHES[of]] = other or 0
            an_asset(connection, HASHES[of], other)
        else:
            settling.settle(connection, "core")
        seen = connection.execute(
            "SELECT sha256, ancestors, origins_cost_usd, cardinality(steps) > 0 FROM analytics_v1.asset_facts ORDER BY 1"
        ).fetchall()
        above = {sha256: ancestors({e for e in edges if e[0] != e[1]}, sha256) for sha256 in costs}
        assert seen == [
            (sha256, len(above[sha256]), Decimal(sum(costs.get(a, 0) for a in above[sha256])), bool(above[sha256]))
            for sha256 in sorted(costs)
        ]


def test_the_way_of_a_file_leads_back_along_first_parents_to_where_it_began(agent: None, connection: Connection) -> None:
    prompt, picture, film, unknown = HASHES[3], HASHES[2], HASHES[1], HASHES[0]
    for sha256, role, cost in ((prompt, "prompt", None), (picture, "render", 2), (film, "final", 3)):
        an_asset(connection, sha256, cost, role)
    for sha256, parent in ((film, unknown), (film, picture), (picture, prompt)):
        an_edge(connection, sha256, parent)
    for _ in ("before it is settled", "after"):
        row = connection.execute(
            "SELECT origin, origin_role, steps, ancestors, total_cost_usd FROM analytics_v1.asset_facts WHERE sha256 = %s", (film,)
        ).fetchone()
        assert row == (prompt, "prompt", ["edit", "edit"], 3, 5), "a known parent goes before one that nobody made"
        settling.settle(connection, "core")


def test_what_is_written_while_facts_are_settled_is_not_taken_for_settled(agent: None, connection: Connection) -> None:
    an_asset(connection, HASHES[0], 1)
    statements = settling._statements("core")
    with connect(connection.info.dsn) as rival:
        rival.execute("SET lock_timeout TO '60s'")
        with connection.transaction():
            assert connection.execute(statements.agents, (10,)).fetchone() == (["agent/1"],)
            later = threading.Thread(target=lambda: an_asset(rival, HASHES[0], 7))
            later.start()  # waits for whoever settles this agent
            for statement in statements.media:
                connection.execute(statement, {"agents": ["agent/1"]})
        later.join(60)
        an_asset(rival, HASHES[1], 2)
    assert [row[13] for row in facts(connection)["asset_facts"]] == [7, 2]
    assert settling.settle(connection, "core") == 1
    assert facts(connection) == made_anew(connection)


def test_who_replaces_rows_of_an_agent_has_all_of_its_facts_made_anew(agent: None, connection: Connection) -> None:
    an_asset(connection, HASHES[0], 1)
    settling.settle(connection, "core")
    with connection.transaction():
        for _ in ("once", "and again"):
            settling.unsettle(connection, "core", "agent/1")
    assert settling.settle(connection, "core") == 1
    assert facts(connection) == made_anew(connection)
