"""The shared servers are the real ones."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from chimera.stack.kafka import answers_metadata


def test_the_broker_gives_a_metadata_answer(kafka_bootstrap: str) -> None:
    assert answers_metadata(kafka_bootstrap)


def test_each_database_is_fresh_and_apart(make_database: Callable[[], str]) -> None:
    first, second = make_database(), make_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE here (x int)")
    with psycopg.connect(second) as connection:
        found = connection.execute("SELECT to_regclass('here')").fetchone()
    assert found == (None,)
    assert first != second
