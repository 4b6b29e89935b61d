"""Connections of the projector's kind, and how far each partition is written.

The rule not to break: only `chimera.projections.write` moves a checkpoint, in the transaction of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from chimera.projections.write import Connection

LOG = "chimera.log"
MODEL_SET = "core"


NOTICE_ABSENCE: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""libpq's own watch over a server that vanished without a word: without it a query waits for as long as the kernel tries, a quarter
of an hour if anything was on its way, else two hours."""


def connect(dsn: str) -> Connection:
    """A connection of the projector's kind. Commits need not wait for the disk: rows and checkpoint are lost or kept together."""
    connection = psycopg.connect(dsn, autocommit=True, application_name="chimera projector", **NOTICE_ABSENCE)
    connection.execute("SET synchronous_commit TO off")
    connection.execute("SET timezone TO 'UTC'")
    # A machine that vanished without a word must not hold its leases for hours.
    connection.execute("SET tcp_keepalives_idle TO 10; SET tcp_keepalives_interval TO 5; SET tcp_keepalives_count TO 3")
    return connection


def seek(connection: Connection) -> None:
    """For who writes small transactions into tables that grow: a few rows by their keys, by plans that are made once. Where
    thousands of rows are changed at once it costs a third more than what the planner finds by itself (decision 0160).

    Left alone, the planner reads a whole table that has no statistics yet and fits into memory, and plans each statement of each
    transaction anew, because the plan that it keeps was made for a smaller table (decision 0153).
    """
    connection.execute("SET random_page_cost TO 1; SET enable_hashjoin TO off; SET enable_mergejoin TO off")
    connection.execute("SET plan_cache_mode TO force_generic_plan")
    connection.prepare_threshold = 0  # at its first use: most statements come again with the next transaction


def checkpoints(connection: Connection, schema: str, model_set: str, topic: str) -> dict[int, int]:
    """Partition -> next offset to write."""
    rows = connection.execute(
        sql.SQL("SELECT partition, next_offset FROM {} WHERE model_set = %s AND topic = %s").format(
            sql.Identifier(schema, "checkpoints")
        ),
        (model_set, topic),
    ).fetchall()
    return {int(p): int(n) for p, n in rows}


def open_checkpoints(connection: Connection, schema: str, model_set: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The checkpoints of these partitions, made at 0 where they are missing."""
    wanted = sorted(partitions)
    connection.execute(
        sql.SQL(
            "INSERT INTO {} (model_set, topic, partition, next_offset, law) SELECT %s, %s, p, 0, 1 FROM unnest(%s::smallint[]) p"
            " ON CONFLICT DO NOTHING"
        ).format(sql.Identifier(schema, "checkpoints")),
        (model_set, topic, wanted),
    )
    found = checkpoints(connection, schema, model_set, topic)
    return {p: found[p] for p in wanted}


def note_stopped(connection: Connection, schema: str, model_set: str, topic: str, partition: int, reason: str) -> None:
    """Write beside the checkpoint why it stands still; the next move of it takes the word back."""
    connection.execute(
        sql.SQL("UPDATE {} SET stopped = %s WHERE model_set = %s AND topic = %s AND partition = %s").format(
            sql.Identifier(schema, "checkpoints")
        ),
        (reason, model_set, topic, partition),
    )
