"""The projector of security events: no fold, its own checkpoints; what an analyst is shown, and that a rebuild writes the same."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg

from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.topics import load_topics
from chimera.events.security import TOPIC, Noted, noted
from chimera.projections import security
from chimera.projections.refold import rewrite
from chimera.projections.schema import migrate

_TOLD = 'SELECT tenant, what, outcome, who, origin, reason, count FROM analytics_v1.security_events ORDER BY partition, "offset"'


def test_security_events_are_rows_once_and_a_rebuild_writes_the_same(
    kafka_bootstrap: str, make_database: Callable[[], str]
) -> None:
    # given three events of which one was sent twice, and a record that is none
    dsn, prefix = make_database(), f"guarded-{uuid.uuid4().hex[:8]}-"
    migrate(dsn)
    topics, topic = load_topics().only(TOPIC).with_prefix(prefix), prefix + TOPIC
    apply(kafka_bootstrap, topics)
    turned = noted("switch_closed", door="shell", who="lea", tenant="acme", resource="tenant:acme")
    knocked = noted("login_refused", door="mission_control", who="kim", outcome="refused", origin="10.0.0.7", count=3)
    knocked = knocked._replace(said=knocked.said.model_copy(update={"reason": "wrong\0password"}))

    with Appender(kafka_bootstrap, topics, "test") as appender:
        for each in (turned, knocked, turned):
            _append(appender, topic, each)
        # when they are projected, and more comes after a restart
        with psycopg.connect(dsn, autocommit=True) as connection:
            _project(kafka_bootstrap, dsn, topic, connection, 3)
            appender.append_blocking(topic, "acme\0" * 200, b'{"what": "made up"}', [("ce_type", b"SecurityNoted")])
            _append(appender, topic, noted("signed_off", door="mission_control", who="kim", tenant="bolt"))
            _project(kafka_bootstrap, dsn, topic, connection, 5)

            # then each is told once, in words that Postgres keeps, and the record that is none is counted
            assert connection.execute(_TOLD.encode()).fetchall() == [
                ("acme", "switch_closed", "done", "lea", "", "", 1),
                ("*", "login_refused", "refused", "kim", "10.0.0.7", "wrong?password", 3),
                ("*", "unreadable", "", "", "", "", 1),
                ("bolt", "signed_off", "done", "kim", "", "", 1),
            ]
            stands = connection.execute(
                "SELECT next_offset, unreadable FROM core.checkpoints WHERE model_set = 'security'"
            ).fetchall()
            assert stands == [(5, 1)]

            # and a rebuild beside it comes to the same rows
            migrate(dsn, "again", analytics=False)
            rewrite(connection, kafka_bootstrap, "again", security.MODEL_SET, topic, {0: 5}, security.write_security)
            both = [
                connection.execute(f'SELECT * FROM {s}.security_events ORDER BY "offset"'.encode()).fetchall()
                for s in ("core", "again")
            ]
            assert both[0] == both[1]
            assert len(both[0]) == 5


def _append(appender: Appender, topic: str, event: Noted) -> None:
    wire = event.wire()
    appender.append_blocking(topic, wire.key, wire.value, wire.headers)


def _project(bootstrap: str, dsn: str, topic: str, connection: psycopg.Connection[Any], count: int) -> None:
    """Follow until so many rows are there."""
    stop = threading.Event()
    thread = threading.Thread(target=security.follow, args=(bootstrap, dsn, stop), kwargs={"topic": topic})
    thread.start()
    deadline = time.monotonic() + 90
    try:
        while connection.execute("SELECT count(*) FROM core.security_events").fetchone() != (count,):
            assert time.monotonic() < deadline, f"not {count} rows in time"
            stop.wait(0.05)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
