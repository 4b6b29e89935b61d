"""Two people who steer builds at once: whoever comes second acts on what is, not on what they once saw."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from chimera.projections.checkpoints import connect
from chimera.replay import builds
from chimera.replay.builds_run import Pacing, carry_out
from chimera.replay.plan import Refused
from chimera.replay.swap import swap
from chimera.replay.swap_views import NEXT
from tests.integration.projection_data import History, day
from tests.integration.test_replay_builds import House, housed

STANDS_ON = (
    "SELECT DISTINCT table_schema FROM information_schema.view_table_usage WHERE view_schema = 'analytics_v1'"
    " AND table_schema NOT IN ('access', 'core_private') ORDER BY 1"
)


@pytest.fixture(scope="module")
def house(kafka_bootstrap: str, postgres_dsn: str) -> Iterator[House]:
    def fill(h: History) -> None:
        day(h, "ava")

    with housed(kafka_bootstrap, postgres_dsn, fill) as made:
        yield made


def built(house: House) -> int:
    """A build that is ready."""
    number = house.plan()
    carry_out(house.where, number, Pacing())
    return number


def test_a_build_that_became_live_after_somebody_looked_is_not_dropped(house: House) -> None:
    seen = house.build(built(house))
    swap(house.where, seen, actor="kim", reason="try it")
    with connect(house.where.dsn) as connection, pytest.raises(Refused, match=f"build {seen.id} is the live one"):
        builds.drop_tables(connection, seen)
    assert house.build(seen.id).state == "live"
    swap(house.where, house.build(0), actor="kim", reason="back", act="rollback")


def test_a_build_that_was_dropped_after_somebody_looked_is_not_swapped_in(house: House) -> None:
    seen = house.build(built(house))
    with connect(house.where.dsn) as connection:
        builds.drop_tables(connection, seen)
    with pytest.raises(Refused, match=f"build {seen.id} is dropped"):
        swap(house.where, seen, actor="kim", reason="too late")


def test_while_one_build_is_swapped_in_another_is_refused_and_views_stand_on_the_first(house: House) -> None:
    first, second = house.build(built(house)), house.build(built(house))
    with ThreadPoolExecutor(1) as beside, psycopg.connect(house.where.dsn) as analyst:
        analyst.execute("SELECT count(*) FROM analytics_v1.posts")  # holds the first one up
        going = beside.submit(swap, house.where, first, actor="kim", reason="mine", patience_s=60)
        until_prepared(house.where.dsn)
        with pytest.raises(Refused, match="somebody swaps a build in right now"):
            swap(house.where, second, actor="lea", reason="mine too", patience_s=0.5)
        analyst.rollback()
        assert going.result().live == first.id
        assert analyst.execute(STANDS_ON).fetchall() == [("core",)]


def until_prepared(dsn: str) -> None:
    """The views of a build wait beside the live ones."""
    deadline = time.monotonic() + 30
    with connect(dsn) as connection:
        while connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (NEXT,)).fetchone() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
