"""Which posts are to be looked at follows from the read models: young ones often, old ones seldom, gone ones never."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from chimera.projections.checkpoints import connect
from chimera.projections.observable import owed
from chimera.projections.schema import migrate
from chimera.projections.write import Connection

FIRST_S = 60.0


@pytest.fixture
def connection(make_database: Callable[[], str]) -> Iterator[Connection]:
    dsn = make_database()
    migrate(dsn)
    with connect(dsn) as made:
        for number, status in enumerate(("active", "retired")):
            made.execute(
                "INSERT INTO core.agents VALUES (%s, 'acme', %s, %s, false, 1, 1, 1, 0, 0, now(), 0, 1)",
                (f"agent/{number}", f"a{number}", status),
            )
            made.execute(
                "INSERT INTO core.campaigns SELECT %s, 1, 'c', 'C', 'kim', 'running', '', 1, '{}', 'b', 1, 'adopted', '',"
                " now(), now(), 0, 1",
                (f"agent/{number}",),
            )
        yield made


def publish(
    connection: Connection,
    ordinal: int,
    age: str,
    *,
    agent: int = 0,
    status: str = "executed",
    mode: str = "sandbox",
    takedown: str = "",
    platform: str = "x",
) -> None:
    key = f"agent/{agent}"
    connection.execute(
        "INSERT INTO core.tasks SELECT %s, 1, %s, 'post', 't', 'done', '', 1, 0, 1, '{}', 1, '[]', '[]', false, 3, now(),"
        " now(), now(), now(), 0, 1",
        (key, ordinal),
    )
    connection.execute(
        "INSERT INTO core.artifacts SELECT %s, 1, %s, 1, 0, 'post', 'h', CASE %s WHEN '' THEN '{}'::jsonb"
        " ELSE jsonb_build_object('takedown', %s::text) END, 1, '{}', 'automated', 'owner', '[]', '{}', 0, 3,"
        " 'worker', now(), 0, 10 + %s",
        (key, ordinal, takedown, takedown, ordinal),
    )
    connection.execute(
        "INSERT INTO core.effects SELECT %s, 1, %s, 1, %s, 'publish', 'keyed', 'x', %s, 'createPosts', %s, 'ava_x', NULL, '{}', 1,"
        " 'automated', 0, %s, '', 1, %s, NULL, 0, now(), now(), now(), now() - %s::interval, now(), 0, 1",
        (key, ordinal, f"e{agent}.{ordinal}", mode, platform, status, f"p{ordinal}", age),
    )


def observe(connection: Connection, ordinal: int, ago: str) -> None:
    connection.execute(
        "INSERT INTO core.engagement_latest VALUES ('agent/0', 'x', %s, '{likes}', '{1}', now() - %s::interval, 0, 1)",
        (f"p{ordinal}", ago),
    )


def due(connection: Connection, partitions: tuple[int, ...] = (0,), most: int = 100) -> list[str]:
    return [post[4] for post in owed(connection.info.dsn, FIRST_S)(partitions, {"x"}, most)]


def test_a_post_is_looked_at_a_minute_after_it_went_out_and_then_when_it_is_a_quarter_older(connection: Connection) -> None:
    for ordinal, (age, seen) in enumerate(
        [("30 s", ""), ("90 s", ""), ("9 h", "2 h"), ("11 h", "2 h"), ("20 days", "23 h"), ("20 days", "25 h"), ("31 days", "")]
    ):
        publish(connection, ordinal, age)
        if seen:
            observe(connection, ordinal, seen)
    assert due(connection) == ["p5", "p2", "p1"], "never seen ones count from their post; a day is the longest pause"


def test_what_nobody_can_look_at_is_not_due(connection: Connection) -> None:
    publish(connection, 0, "1 h", status="refused")
    publish(connection, 1, "1 h", mode="dry_run")
    publish(connection, 2, "1 h", agent=1)
    publish(connection, 3, "1 h")
    publish(connection, 4, "10 min", takedown="p3")
    assert due(connection) == []


def test_a_takedown_on_another_platform_is_of_another_post_though_the_id_is_the_same(connection: Connection) -> None:
    publish(connection, 3, "1 h")
    publish(connection, 4, "10 min", takedown="p3", platform="instagram")
    assert due(connection) == ["p3"]


def test_each_process_is_told_the_posts_of_its_own_agents_and_no_more_than_it_asked_for(connection: Connection) -> None:
    for ordinal in range(5):
        publish(connection, ordinal, f"{ordinal + 1} h")
    assert due(connection, (1, 2)) == []
    assert due(connection, (0, 1), 2) == ["p4", "p3"]


def test_a_database_that_is_away_is_told_as_such() -> None:
    with pytest.raises(OSError, match="onnection"):
        owed("host=127.0.0.1 port=1 dbname=x", FIRST_S)([0], {"x"}, 1)
