"""What verifying sums on the live side while it refolds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest

from chimera.projections.checkpoints import connect
from chimera.projections.comparing import COMPARED, LiveSums
from chimera.projections.parking import Parked
from chimera.projections.schema import migrate

AGENT = "INSERT INTO core.agents VALUES (%s, 't', %s, 'active', false, 1, 1, NULL, 0, 0, now(), 0, 1)"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.fixture
def dsn(make_database: Callable[[], str]) -> str:
    made = make_database()
    migrate(made)
    with psycopg.connect(made) as connection:
        for name in ("ava", "ben"):
            connection.execute(AGENT, (f"agent/{name}", name))
    return made


def test_every_column_that_is_compared_can_be_hashed(dsn: str) -> None:
    with connect(dsn) as connection:
        for table in COMPARED:
            row = f"SELECT hash_record_extended(json_populate_record(NULL::core.{table.name}, '{{}}'), 0)"
            assert connection.execute(row.encode()).fetchone() is not None
        with pytest.raises(psycopg.errors.UndefinedFunction):  # even where it is NULL
            connection.execute("SELECT hash_record_extended(ROW(NULL::json), 0)")


def test_what_turns_out_to_be_left_out_is_left_out_of_the_live_sums_too(dsn: str) -> None:
    lacking = Parked("agents", "agent/ben", 0, 1, "", datetime.now(UTC), 0, 1)
    with connect(dsn) as live:
        with LiveSums(live, "core", ()) as sums:
            every, some = sums.take(()), sums.take((lacking,))
        with LiveSums(live, "core", (lacking,)) as sums:
            assert sums.take(()) == some
    assert every.keys() == {table.name for table in COMPARED}
    assert (every["agents"][0], some["agents"][0]) == (2, 1)
    assert {name for name in every if every[name] != some[name]} == {"agents"}


def test_who_fails_while_the_live_side_is_summed_does_not_wait_for_it(dsn: str) -> None:
    with connect(dsn) as live, psycopg.connect(dsn) as holding, connect(dsn) as looking:
        holding.execute("LOCK TABLE core.agents")  # nobody sums it while this is held
        ended = threading.Event()

        def fail() -> None:
            with LiveSums(live, "core", ()):
                while looking.execute(WAITING).fetchone() == (0,):
                    pass
                raise ValueError("the refold failed")

        def work() -> None:
            with pytest.raises(ValueError, match="the refold failed"):
                fail()
            ended.set()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert ended.wait(60), "it waits for sums that nobody wants any more"
        thread.join()
