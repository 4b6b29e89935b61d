"""`chimera.metrics` as rows: every observation as it came, and the last value of each day and of all. No fold.

The rule not to break: rollups keep the value with the greatest (observed_at, offset) and never add: a late observation changes
nothing newer, a repeated one nothing at all, a correction of the same moment takes its place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple

import psycopg
from psycopg import sql

from chimera import failpoints
from chimera.events.metrics import TOPIC, BadObservation, decode
from chimera.events.raw import RawRecord
from chimera.projections import following, growth, parts, settling
from chimera.projections.batch import Stretch
from chimera.projections.copying import escaped
from chimera.projections.rows import Table, ts
from chimera.projections.write import Connection, move_checkpoints

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
_LAST = ("numbers", "observed_at", "partition", "offset")
TABLES = (
    METRICS,
    Table("engagement_daily", ("agent_id", "platform", "platform_id", "day", "metrics"), _LAST),
    Table("engagement_latest", ("agent_id", "platform", "platform_id", "metrics"), _LAST),
)
"""What `write_metrics` writes, for those who compare."""

Told = tuple[str, str]
"""A post's agent, platform and id, and the names of the numbers that were told together: as texts of COPY."""
Last = tuple[int, int, int, str, str]
"""The greatest of one key, compared by its first three: observed at (ms), offset, partition; its numbers and its moment as text."""


class Made(NamedTuple):
    """Records as what is written: `rows` and `last` are the texts of one COPY each, `days` those that the rows were appended on."""

    stretches: list[Stretch]
    rows: bytes
    last: bytes
    days: frozenset[date]


def made_of(raws: Sequence[RawRecord]) -> Made:
    """Rows and last values of records in order. What nobody can read is counted where the checkpoint moves past it."""
    stretches: dict[int, Stretch] = {}
    rows: list[str] = []
    days: set[str] = set()
    last: dict[tuple[Told, int], Last] = {}
    at, appended = -1, ""
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
        ms, values = seen.observed_at_ms, seen.values
        if raw.append_ts != at:
            at, appended = raw.append_ts, ts(raw.append_ts)
            days.add(appended[:10])
        platform, post_id, source = seen.platform, seen.platform_id, seen.source
        if b"\\" in raw.value:  # type: ignore[operator]  # without one JSON says no sign that COPY reads in another way
            platform, post_id, source = escaped(platform), escaped(post_id), escaped(source)
        post, moment = f"{_key(seen.agent)}\t{platform}\t{post_id}\t", _moment(ms)
        rest = f"\t{moment}\t{source}\t{appended}\t{partition}\t{offset}\t"
        numbers = list(map(repr, values.values()))
        names, order, lines = _in_order(tuple(values))
        rows.append(lines % tuple([part for number in numbers for part in (post, number, rest)]))
        key = (post, names), ms // 86_400_000
        old = last.get(key)
        if old is None or (ms, offset, partition) > old[:3]:
            last[key] = (ms, offset, partition, ",".join([numbers[n] for n in order]), moment)
    return Made(
        [stretches[p] for p in sorted(stretches)],
        "".join(rows).encode(),
        _last_text(last),
        frozenset(date.fromisoformat(day) for day in days),
    )


@lru_cache(maxsize=4096)
def _in_order(names: tuple[str, ...]) -> tuple[str, tuple[int, ...], str]:
    """The sorted names as text, where each stands among `names`, and the rows of all with places for post, number and rest.

    Names of metrics need no escape.
    """
    order = tuple(sorted(range(len(names)), key=names.__getitem__))
    return ",".join(names[n] for n in order), order, "".join(f"%s{name}\t%s%s{n}\n" for n, name in enumerate(names))


_key = lru_cache(maxsize=16_384)(escaped)
"""Agents' keys as text: Kafka takes any bytes there, and the same few come again and again."""


def _moment(ms: int) -> str:
    """As `ts`, of moments between the years 2000 and 2099, hardly one of which is asked for twice."""
    return f"{_minute(ms // 60_000)}:{ms % 60_000 / 1000:06.3f}+00:00"


@lru_cache(maxsize=16_384)
def _minute(number: int) -> str:
    return datetime.fromtimestamp(number * 60, UTC).strftime("%Y-%m-%dT%H:%M")


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).date().isoformat()


def _last_text(last: Mapping[tuple[Told, int], Last]) -> bytes:
    """In the order of the keys: neighbours in an index are written side by side. `newest`: of all days of this batch."""
    newest: dict[Told, int] = {}
    for told, day in last:
        if day > newest.get(told, -1):
            newest[told] = day
    lines = [
        f"{post}{_day(day)}\t{{{names}}}\t{{{numbers}}}\t{moment}\t{partition}\t{offset}\t{'tf'[day != newest[post, names]]}\n"
        for ((post, names), day), (_, offset, partition, numbers, moment) in last.items()
    ]
    lines.sort()
    return "".join(lines).encode()


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
        if made.rows:
            if missing.fetchall():
                parts.ensure(connection, schema, METRICS.name, made.days)
            _copy(connection, _copied(schema), made.rows)
            failpoints.here("metrics.copied", psycopg.OperationalError)
            _copy(connection, b"COPY pg_temp.engagement_new FROM STDIN", made.last)
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
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(schema, METRICS.name), columns).as_bytes()


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
