"""`chimera.metrics` as rows: every observation as it came, and the last value of each day and of all. No fold.

The rule not to break: rollups keep the value with the greatest (observed_at, offset) and never add: a late observation changes
nothing newer, a repeated one nothing at all, a correction of the same moment takes its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import sql

from chimera import failpoints
from chimera.eventlog.read import Reader, end_offsets
from chimera.eventlog.topics import KafkaUnavailable
from chimera.events.metrics import TOPIC, BadObservation, decode
from chimera.events.raw import RawRecord
from chimera.projections import parts
from chimera.projections.batch import Stretch
from chimera.projections.checkpoints import connect, open_checkpoints
from chimera.projections.copying import copy_text
from chimera.projections.leases import LOOK_S, Leases
from chimera.projections.rows import Table, Value, ts
from chimera.projections.write import REFUSED, Connection, Moved, write

log = logging.getLogger(__name__)

MODEL_SET = "metrics"
BATCH = 10_000
METRICS = Table(
    "engagement_metrics",
    ("partition", "offset", "n"),
    (
        "agent_id", "platform", "platform_id", "metric", "value", "observed_at", "source", "created_at", "partition", "offset", "n",
    ),
)  # fmt: skip
_LAST = ("value", "observed_at", "partition", "offset")
TABLES = (
    METRICS,
    Table("engagement_daily", ("agent_id", "platform", "platform_id", "metric", "day"), _LAST),
    Table("engagement_latest", ("agent_id", "platform", "platform_id", "metric"), _LAST),
)
"""What `write_metrics` writes, for those who compare."""

Key = tuple[str, str, str, str, str]
"""agent, platform, post, metric, day."""


Last = tuple[int, int, int, float]
"""The greatest of one key, compared in this order: observed at (ms), offset, partition, value."""
Told = list[tuple[Value, ...]]


def made_of(raws: Sequence[RawRecord]) -> tuple[list[Stretch], Told, dict[Key, Last]]:
    """Stretches, rows and last values of records in order. What nobody can read is counted where the checkpoint moves past it."""
    stretches: dict[int, Stretch] = {}
    rows: Told = []
    last: dict[Key, Last] = {}
    for raw in raws:
        partition, offset = raw.partition, raw.offset
        stretch = stretches.get(partition)
        if stretch is None:
            stretch = stretches[partition] = Stretch(raw.topic, partition, offset, offset)
        stretch.end, stretch.last_append_ts, stretch.records = offset + 1, raw.append_ts, stretch.records + 1
        try:
            seen = decode(raw.key, raw.value)
        except BadObservation as error:
            stretch.unreadable += 1
            log.warning("%s[%d]%d: %s", raw.topic, partition, offset, error)
            continue
        ms, agent, platform, post, source = seen.observed_at_ms, seen.agent, seen.platform, seen.platform_id, seen.source
        at, day, appended = ts(ms), _day(ms // 86_400_000), ts(raw.append_ts)
        for n, (metric, told) in enumerate(seen.values.items()):
            value = float(told)
            rows.append((agent, platform, post, metric, value, at, source, appended, partition, offset, n))
            key, new = (agent, platform, post, metric, day), (ms, offset, partition, value)
            old = last.get(key)
            if old is None or new > old:
                last[key] = new
    return [stretches[p] for p in sorted(stretches)], rows, last


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).date().isoformat()


def write_metrics(connection: Connection, schema: str, raws: Sequence[RawRecord]) -> None:
    """Write what was read in order, in one transaction with the checkpoints. Raises what `write` raises."""
    stretches, rows, last = made_of(raws)
    with connection.transaction():
        write(connection, schema, MODEL_SET, stretches, ())
        if rows:
            parts.ensure(connection, schema, METRICS.name, {date.fromisoformat(day) for day in {str(row[7])[:10] for row in rows}})
            with connection.cursor() as cursor, cursor.copy(_copied(schema)) as copy:
                copy.write(copy_text(rows))
            failpoints.here("metrics.copied", psycopg.OperationalError)
            _keep_last(connection, schema, last)


@lru_cache(maxsize=64)
def _copied(schema: str) -> bytes:
    columns = sql.SQL(", ").join(sql.Identifier(c) for c in METRICS.columns)
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(schema, METRICS.name), columns).as_bytes()


def _keep_last(connection: Connection, schema: str, last: dict[Key, Last]) -> None:
    """By way of a table of this session: one COPY and two statements, however many keys there are."""
    rows = [(*key, value, ts(ms), partition, offset) for key, (ms, offset, partition, value) in last.items()]
    for statement in _staged():
        connection.execute(statement)
    with connection.cursor() as cursor, cursor.copy(b"COPY pg_temp.engagement_new FROM STDIN") as copy:
        copy.write(copy_text(rows))
    for statement in _kept(schema):
        connection.execute(statement)


@lru_cache(maxsize=1)
def _staged() -> tuple[bytes, ...]:
    return (
        b"SET LOCAL client_min_messages TO warning",
        b"CREATE TEMP TABLE IF NOT EXISTS engagement_new (agent_id text, platform text, platform_id text, metric text, day date,"
        b' value double precision, observed_at timestamptz, partition smallint, "offset" bigint) ON COMMIT DELETE ROWS',
    )


@lru_cache(maxsize=64)
def _kept(schema: str) -> tuple[bytes, ...]:
    newer = (
        " ON CONFLICT ({0}) DO UPDATE SET value = EXCLUDED.value, observed_at = EXCLUDED.observed_at,"
        ' partition = EXCLUDED.partition, "offset" = EXCLUDED."offset"'
        ' WHERE (EXCLUDED.observed_at, EXCLUDED."offset") > (t.observed_at, t."offset")'
    )
    post = "agent_id, platform, platform_id, metric"
    daily = sql.SQL("INSERT INTO {} AS t SELECT * FROM pg_temp.engagement_new" + newer.format(f"{post}, day"))
    latest = sql.SQL(
        f'INSERT INTO {{}} AS t SELECT DISTINCT ON ({post}) {post}, value, observed_at, partition, "offset"'
        f' FROM pg_temp.engagement_new ORDER BY {post}, observed_at DESC, "offset" DESC' + newer.format(post)
    )
    return (
        daily.format(sql.Identifier(schema, "engagement_daily")).as_bytes(),
        latest.format(sql.Identifier(schema, "engagement_latest")).as_bytes(),
    )


def follow(bootstrap: str, dsn: str, stop: threading.Event, *, schema: str = "core", topic: str = TOPIC) -> None:
    """Project until told to stop. Any trouble is answered by reading on from the checkpoints in Postgres, later each time."""
    delay = 0.1
    connection: psycopg.Connection[Any] | None = None
    while not stop.is_set():
        try:
            connection = connect(dsn)
            lease = Leases(f"{schema} {MODEL_SET} {topic}", [0])  # one process is enough: there is nothing to fold
            while not lease.renew(connection) and not stop.is_set():
                stop.wait(1.0)
            start = open_checkpoints(connection, schema, MODEL_SET, topic, end_offsets(bootstrap, topic))
            with Reader(bootstrap, topic, start, client_id="chimera-projector-metrics") as reader:
                delay, look_at = 0.1, time.monotonic() + LOOK_S
                while not stop.is_set():
                    raws = reader.read(BATCH, 0.25)
                    if raws:
                        write_metrics(connection, schema, raws)
                    elif time.monotonic() >= look_at:
                        lease.renew(connection)  # raises once the server was killed: its last commits may be gone, unheard of
                        look_at = time.monotonic() + LOOK_S
        except (Moved, KafkaUnavailable, psycopg.OperationalError, *REFUSED) as error:
            log.warning("%s: %s; starting over from the checkpoints in %.1f s", topic, str(error).splitlines()[0], delay)
            stop.wait(delay)
            delay = min(delay * 2, 5.0)
        finally:
            if connection is not None:
                connection.close()
