"""`chimera.metrics` as rows: every observation as it came, and the last value of each day and of all. No fold.

The rule not to break: rollups keep the value with the greatest (observed_at, offset) and never add: a late observation changes
nothing newer, a repeated one nothing at all, a correction of the same moment takes its place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import lru_cache

import psycopg
from psycopg import sql

from chimera import failpoints
from chimera.events.metrics import TOPIC
from chimera.events.raw import RawRecord
from chimera.projections import following, growth, parts, settling
from chimera.projections.observed import COLUMNS, Made, made_of
from chimera.projections.rows import Table
from chimera.projections.write import Connection, move_checkpoints

log = logging.getLogger(__name__)

MODEL_SET = "metrics"
BATCH = 10_000
METRICS = Table("engagement_metrics", ("partition", "offset", "n"), COLUMNS)
_LAST = ("numbers", "observed_at", "partition", "offset")
TABLES = (
    METRICS,
    Table("engagement_daily", ("agent_id", "platform", "platform_id", "day", "metrics"), _LAST),
    Table("engagement_latest", ("agent_id", "platform", "platform_id", "metrics"), _LAST),
)
"""What `write_metrics` writes, for those who compare."""


def write_metrics(connection: Connection, schema: str, made: Made) -> None:
    """Write what was read in order, in one transaction with the checkpoints, in eight round trips. Raises what `write` raises."""
    with connection.transaction():
        with connection.pipeline():
            moved = move_checkpoints(connection, schema, MODEL_SET, made.stretches)
            missing = parts.missing(connection, schema, METRICS.name, made.days)
            for statement in _STAGED:
                connection.execute(statement)
        moved.check()
        failpoints.here("metrics.moved", psycopg.OperationalError)
        if made.days:
            if missing.fetchall():
                parts.ensure(connection, schema, METRICS.name, made.days)
            _copy(connection, _copied(schema), made.rows)
            failpoints.here("metrics.copied", psycopg.OperationalError)
            _copy(connection, _STAGE, made.last)
            with connection.pipeline():
                for statement in (*_kept(schema), growth.unsettling(schema)):
                    connection.execute(statement)
        failpoints.here("metrics.kept", psycopg.OperationalError)


def write_raws(connection: Connection, schema: str, raws: Sequence[RawRecord]) -> None:
    """Make and write in one go, for those who rebuild. Raises what `write_metrics` raises."""
    write_metrics(connection, schema, made_of(raws))


def _copy(connection: Connection, statement: bytes, text: bytes) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(text)


@lru_cache(maxsize=64)
def _copied(schema: str) -> bytes:
    columns = sql.SQL(", ").join(sql.Identifier(c) for c in METRICS.columns)
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(schema, METRICS.name), columns).as_bytes()


_STAGE = b"COPY pg_temp.engagement_new FROM STDIN (FORMAT binary)"  # columns in the order of `observed.LAST`
_STAGED = (
    b"SET LOCAL client_min_messages TO warning",
    b"CREATE TEMP TABLE IF NOT EXISTS engagement_new (agent_id text, platform text, platform_id text, day date, metrics text[],"
    b' numbers double precision[], observed_at timestamptz, partition smallint, "offset" bigint, newest boolean)'
    b" ON COMMIT DELETE ROWS",
)


@lru_cache(maxsize=64)
def _kept(schema: str) -> tuple[bytes, ...]:
    newer = (
        " ON CONFLICT ({0}) DO UPDATE SET numbers = EXCLUDED.numbers, observed_at = EXCLUDED.observed_at,"
        ' partition = EXCLUDED.partition, "offset" = EXCLUDED."offset"'
        ' WHERE (EXCLUDED.observed_at, EXCLUDED."offset") > (t.observed_at, t."offset")'
    )
    post, told = "agent_id, platform, platform_id", 'metrics, numbers, observed_at, partition, "offset"'
    daily = f"INSERT INTO {{}} AS t SELECT {post}, day, {told} FROM pg_temp.engagement_new" + newer.format(f"{post}, day, metrics")
    latest = f"INSERT INTO {{}} AS t SELECT {post}, {told} FROM pg_temp.engagement_new WHERE newest" + newer.format(
        f"{post}, metrics"
    )
    return (
        sql.SQL(daily).format(sql.Identifier(schema, "engagement_daily")).as_bytes(),
        sql.SQL(latest).format(sql.Identifier(schema, "engagement_latest")).as_bytes(),
    )


def settle(connection: Connection, schema: str) -> None:
    """Make anew what is kept and not right any more, here and in the log's own models. Raises `psycopg.Error`."""
    growth.settle(connection, schema)
    settling.settle(connection, schema)


SIDE = following.Side(MODEL_SET, BATCH, made_of, write_metrics, tidy=settle, tidy_s=growth.EVERY_S)


def follow(bootstrap: str, dsn: str, stop: threading.Event, *, schema: str = "core", topic: str = TOPIC) -> None:
    """Project until told to stop; see `following.follow`."""
    following.follow(SIDE, bootstrap, dsn, stop, schema=schema, topic=topic)
