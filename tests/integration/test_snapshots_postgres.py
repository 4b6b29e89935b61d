"""Snapshots in a real PostgreSQL: kept whole or not at all, each maker's apart, and gone on from after a restart."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from chimera.events.partition import PartitionFold
from chimera.projections.schema import migrate
from chimera.snapshots.build import save_whole
from chimera.snapshots.postgres import PostgresSnapshots
from chimera.snapshots.state import (
    AgentState,
    Cut,
    Maker,
    Saved,
    SnapshotUnavailable,
    SnapshotUnusable,
    law_to_json,
    maker,
    restore,
)
from tests.integration.projection_data import PARTITIONS, History, day

MINE = maker("00000000000000aa")


def cut(since: int | None, next_offset: int, states: dict[str, bytes], count: int, partition: int = 3) -> Cut:
    agents = tuple(AgentState(key, state) for key, state in states.items())
    return Cut(partition, since, next_offset, 1000 + next_offset, 2, b"{}", agents, count)


def rows(store: PostgresSnapshots, partition: int = 3) -> tuple[int, dict[str, bytes]]:
    found = store.load(partition)
    assert found is not None
    assert found.last_append_ts == 1000 + found.next_offset
    assert (found.unreadable, found.law) == (2, b"{}")
    return found.next_offset, dict(found.agents)


@pytest.fixture
def dsn(make_database: Callable[[], str]) -> str:
    made = make_database()
    migrate(made)
    return made


def test_what_changed_is_written_over_what_was_there(dsn: str) -> None:
    store = PostgresSnapshots(dsn, MINE)
    assert store.load(3) is None
    assert store.save(cut(None, 10, {"agent/a": b"a10", "agent/b": b"b10"}, 2)) is Saved.KEPT
    assert store.save(cut(10, 20, {"agent/b": b"b20", "agent/c": b"c20"}, 3)) is Saved.KEPT
    assert store.save(cut(20, 30, {}, 3)) is Saved.KEPT, "nobody of it changed, but the log went on"
    assert rows(store) == (30, {"agent/a": b"a10", "agent/b": b"b20", "agent/c": b"c20"})
    assert store.load(4) is None
    store.close()


def test_a_late_cut_is_refused_and_one_without_its_base_asks_for_a_whole_one(dsn: str) -> None:
    one, two = PostgresSnapshots(dsn, MINE), PostgresSnapshots(dsn, MINE)
    assert one.save(cut(5, 10, {"agent/a": b"a"}, 1)) is Saved.GAP, "there is none"
    assert one.save(cut(None, 10, {"agent/a": b"a10"}, 1)) is Saved.KEPT
    assert two.save(cut(None, 9, {"agent/a": b"a9"}, 1)) is Saved.BEHIND
    assert two.save(cut(11, 30, {"agent/a": b"a30"}, 1)) is Saved.GAP, "it would build on what is not there"
    assert two.save(cut(8, 12, {"agent/a": b"a12"}, 1)) is Saved.KEPT, "what changed since 8 covers what changed since 10"
    assert rows(one) == (12, {"agent/a": b"a12"})
    one.close()
    two.close()


def test_another_log_law_format_or_code_keeps_snapshots_of_its_own(dsn: str) -> None:
    for n, other in enumerate(
        (
            MINE,
            MINE._replace(root="ff"),
            MINE._replace(law=MINE.law + 1),
            MINE._replace(format=MINE.format + 1),
            Maker("x", 1, 1, "y"),
        )
    ):
        store = PostgresSnapshots(dsn, other)
        assert store.load(3) is None, other
        assert store.save(cut(None, 10, {"agent/a": b"%d" % n}, 1)) is Saved.KEPT
        store.close()
    store = PostgresSnapshots(dsn, MINE)
    assert rows(store) == (10, {"agent/a": b"0"})
    store.close()


def test_rows_that_are_missing_make_a_snapshot_unusable_and_a_whole_one_heals_it(dsn: str) -> None:
    store = PostgresSnapshots(dsn, MINE)
    store.save(cut(None, 10, {"agent/a": b"a", "agent/b": b"b"}, 2))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM snapshots.agents WHERE agent_id = 'agent/b'")
    with pytest.raises(SnapshotUnusable, match="should hold 2 agents and holds 1"):
        store.load(3)
    store.save(cut(None, 11, {"agent/a": b"a", "agent/b": b"b"}, 2))
    assert rows(store)[0] == 11
    store.close()


def test_what_other_makers_left_long_ago_goes_when_a_whole_one_is_written(dsn: str) -> None:
    old, older = MINE._replace(code="old"), MINE._replace(code="older")
    for each in (old, older):
        PostgresSnapshots(dsn, each).save(cut(None, 10, {"agent/a": b"a"}, 1))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE snapshots.partitions SET saved_at = now() - interval '8 days' WHERE code = 'older'")
        PostgresSnapshots(dsn, MINE).save(cut(None, 10, {"agent/a": b"a"}, 1))
        left = connection.execute("SELECT DISTINCT code FROM snapshots.agents").fetchall()
    assert {code for (code,) in left} == {"old", MINE.code}, "beside the new ones for a week: an upgrade may be taken back"


def test_a_database_that_is_away_or_not_set_up_says_so_and_is_used_again_when_it_is_back(
    make_database: Callable[[], str],
) -> None:
    with pytest.raises(SnapshotUnavailable, match="does not answer"):
        PostgresSnapshots("postgresql://127.0.0.1:1/none", MINE).load(0)
    dsn = make_database()
    store = PostgresSnapshots(dsn, MINE)
    with pytest.raises(SnapshotUnavailable, match="no table for snapshots yet"):
        store.load(3)
    migrate(dsn)
    assert store.load(3) is None
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'chimera-snapshots' AND datname = current_database()"
        )
    with pytest.raises(SnapshotUnavailable):
        store.save(cut(None, 10, {}, 0))
    assert store.save(cut(None, 10, {}, 0)) is Saved.KEPT
    store.close()


def test_days_of_a_fleet_go_on_from_their_snapshots_as_if_all_had_been_folded(dsn: str) -> None:
    h = History("snapshots")
    store = PostgresSnapshots(dsn, maker(h.folds[0].law.root))
    for n in range(3):
        day(h, f"agent{n}", 2)
    for fold in h.folds.values():
        assert save_whole(store, [(fold, h.now)]) == {fold.partition: Saved.KEPT}
    [held] = store.held()
    assert held.maker == maker(h.folds[0].law.root)
    assert (held.partitions, held.records) == (PARTITIONS, sum(fold.next_offset for fold in h.folds.values()))
    again = {p: PartitionFold(p, PARTITIONS, h.root.public) for p in h.folds}
    for p, fold in again.items():
        snapshot = store.load(p)
        assert snapshot is not None
        restore(fold, snapshot)
        assert fold.agents == h.folds[p].agents
        assert law_to_json(fold.law) == law_to_json(h.folds[p].law)
        assert (fold.next_offset, fold.unreadable) == (h.folds[p].next_offset, h.folds[p].unreadable)
    assert sum(len(fold.agents) for fold in again.values()) >= 3
    store.close()
