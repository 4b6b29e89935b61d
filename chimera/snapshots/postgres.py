"""Snapshots in Postgres, schema `snapshots`: one row per partition, one per agent, of every maker beside each other.

The rule not to break: a cut is kept only on top of a snapshot that it can build on, checked under a lock in the same transaction;
so whoever writes late, or writes what another process wrote already, changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import errors

from chimera.snapshots.state import (
    AgentState,
    Cut,
    Maker,
    PartitionSnapshot,
    Saved,
    SnapshotUnavailable,
    SnapshotUnusable,
)

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_MS = 20_000
_LOCK = 0x534E4150  # one writer per partition at a time ("SNAP")
_KEPT_DAYS = 7
"""How long snapshots of another maker (an older law, format or code) stay beside the new ones."""

_MINE = "root = %s AND law = %s AND format = %s AND code = %s AND partition = %s"


class Held(NamedTuple):
    """What the database holds of one maker."""

    maker: Maker
    partitions: int
    agents: int
    records: int
    """Records that are in, over all partitions."""
    oldest_s: int


class PostgresSnapshots:
    """A `SnapshotStore` in the database behind `dsn`. For one thread at a time; connects when used, and again."""

    def __init__(self, dsn: str, maker: Maker) -> None:
        self._dsn = dsn
        self._maker = maker
        self._connection: psycopg.Connection[Any] | None = None

    def load(self, partition: int) -> PartitionSnapshot | None:
        """See `SnapshotStore.load`."""
        mine = (*self._maker, partition)
        with self._transaction() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            head = connection.execute(
                "SELECT next_offset, last_append_ts, unreadable, law_in_force, agents FROM snapshots.partitions WHERE " + _MINE,
                mine,
            ).fetchone()
            if head is None:
                return None
            with connection.cursor(binary=True) as cursor:
                rows = cursor.execute("SELECT agent_id, state FROM snapshots.agents WHERE " + _MINE, mine).fetchall()
        next_offset, last_append_ts, unreadable, law, count = head
        if len(rows) != count:
            raise SnapshotUnusable(f"the snapshot of partition {partition} should hold {count} agents and holds {len(rows)}")
        agents = tuple(AgentState(key, bytes(state)) for key, state in rows)
        return PartitionSnapshot(partition, next_offset, last_append_ts, unreadable, bytes(law), agents)

    def save(self, cut: Cut) -> Saved:
        """See `SnapshotStore.save`."""
        mine = (*self._maker, cut.partition)
        with self._transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK, cut.partition))
            head = connection.execute("SELECT next_offset FROM snapshots.partitions WHERE " + _MINE, mine).fetchone()
            stored = None if head is None else int(head[0])
            if stored is not None and stored > cut.next_offset:
                return Saved.BEHIND
            if cut.since is not None and (stored is None or stored < cut.since):
                return Saved.GAP
            if cut.since is None:
                self._replace_all(connection, cut, mine)
            else:
                self._put(connection, cut, mine)
            connection.execute(
                """INSERT INTO snapshots.partitions
                     (root, law, format, code, partition, next_offset, last_append_ts, unreadable, law_in_force, agents)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
                   ON CONFLICT (root, law, format, code, partition) DO UPDATE SET
                     next_offset = excluded.next_offset, last_append_ts = excluded.last_append_ts,
                     unreadable = excluded.unreadable, law_in_force = excluded.law_in_force, agents = excluded.agents,
                     saved_at = now()""",
                (*mine, cut.next_offset, cut.last_append_ts, cut.unreadable, cut.law, cut.count),
            )
        return Saved.KEPT

    def held(self) -> list[Held]:
        """What there is of every maker of this root key. Raises `SnapshotUnavailable`."""
        with self._transaction() as connection:
            rows = connection.execute(
                """SELECT law, format, code, count(*), sum(agents), sum(next_offset), extract(epoch FROM now() - min(saved_at))
                   FROM snapshots.partitions WHERE root = %s GROUP BY law, format, code ORDER BY max(saved_at) DESC""",
                (self._maker.root,),
            ).fetchall()
        return [
            Held(Maker(self._maker.root, law, format, code), count, int(agents), int(records), int(seconds))
            for law, format, code, count, agents, records, seconds in rows
        ]

    def close(self) -> None:
        """Let the connection go; the next use makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _put(self, connection: psycopg.Connection[Any], cut: Cut, mine: tuple[object, ...]) -> None:
        if cut.agents:
            with connection.cursor() as cursor:
                cursor.executemany(
                    """INSERT INTO snapshots.agents (root, law, format, code, partition, agent_id, next_offset, state)
                       VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
                       ON CONFLICT (root, law, format, code, partition, agent_id) DO UPDATE SET
                         next_offset = excluded.next_offset, state = excluded.state""",
                    [(*mine, agent.key, cut.next_offset, agent.state) for agent in cut.agents],
                )

    def _replace_all(self, connection: psycopg.Connection[Any], cut: Cut, mine: tuple[object, ...]) -> None:
        """A whole snapshot; what other makers left of this partition long ago goes with it."""
        connection.execute("DELETE FROM snapshots.agents WHERE " + _MINE, mine)
        connection.execute(
            """WITH gone AS (
                 DELETE FROM snapshots.partitions WHERE partition = %s AND saved_at < now() - make_interval(days => %s)
                 RETURNING root, law, format, code, partition)
               DELETE FROM snapshots.agents a USING gone g
               WHERE (a.root, a.law, a.format, a.code, a.partition) = (g.root, g.law, g.format, g.code, g.partition)""",
            (cut.partition, _KEPT_DAYS),
        )
        with (
            connection.cursor() as cursor,
            cursor.copy(
                "COPY snapshots.agents (root, law, format, code, partition, agent_id, next_offset, state) FROM STDIN"
            ) as copy,
        ):
            for agent in cut.agents:
                copy.write_row((*mine, agent.key, cut.next_offset, agent.state))

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """One transaction. Raises `SnapshotUnavailable` for whatever keeps the database from doing it."""
        try:
            connection = self._connected()
            with connection.transaction():
                yield connection
        except errors.UndefinedTable as error:
            self.close()
            raise SnapshotUnavailable("there is no table for snapshots yet: the projector makes it when it starts") from error
        except psycopg.Error as error:
            self.close()
            said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise SnapshotUnavailable(f"the store of snapshots does not answer: {said}") from error

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                # A server that vanished without a word sends no time-out of its own.
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=30_000,
                application_name="chimera-snapshots",
                options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            )
        return self._connection
