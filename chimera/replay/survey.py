"""The facts that plans are made of: where the log begins and ends, how large the read models are, how much room there is.

The rule not to break: it only looks.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from typing import NamedTuple

import psycopg
from psycopg import sql

from chimera.eventlog.cluster import cluster_id
from chimera.eventlog.read import begin_offsets, end_offsets
from chimera.events.metrics import TOPIC as METRICS
from chimera.events.security import TOPIC as SECURITY
from chimera.projections import calls, metrics, security
from chimera.projections.agent_rows import AGENTS
from chimera.projections.calls import CALLS
from chimera.projections.checkpoints import LOG, MODEL_SET
from chimera.projections.models import MODELS
from chimera.projections.write import Connection
from chimera.replay.plan import Ends, Facts, total


class Where(NamedTuple):
    """The log and the database, and which topics are which model set's."""

    bootstrap: str
    dsn: str
    root_public: str
    """The installation's root public key (base64)."""
    log: str = LOG
    calls: str | None = CALLS
    metrics: str | None = METRICS
    security: str | None = SECURITY

    @property
    def topics(self) -> dict[str, str]:
        """Topic -> model set, those that there are."""
        named = {
            self.log: MODEL_SET,
            self.calls: calls.MODEL_SET,
            self.metrics: metrics.MODEL_SET,
            self.security: security.MODEL_SET,
        }
        return {topic: model_set for topic, model_set in named.items() if topic is not None}


def models() -> dict[str, str]:
    """Read model -> digest of the code that makes its rows."""
    own = {model.name: _digest(sys.modules[model.rows.__module__]) for model in MODELS}
    return {
        AGENTS.name: _digest(sys.modules["chimera.projections.batch"]),
        **own,
        "tool_calls": _digest(calls),
        "engagement": _digest(metrics),
        "security_events": _digest(security),
    }


def _digest(module: object) -> str:
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()[:12]  # type: ignore[arg-type]


def ends(where: Where) -> dict[str, dict[int, int]]:
    """Where every topic ends now. Raises `KafkaUnavailable`, `ReadFailed`."""
    return {topic: end_offsets(where.bootstrap, topic) for topic in where.topics}


def written(connection: Connection, where: Where, schema: str) -> dict[str, dict[int, int]]:
    """Up to where a schema's rows are."""
    found: dict[str, dict[int, int]] = {topic: {} for topic in where.topics}
    query = sql.SQL("SELECT topic, model_set, partition, next_offset FROM {}").format(sql.Identifier(schema, "checkpoints"))
    for topic, model_set, partition, offset in connection.execute(query).fetchall():
        if where.topics.get(topic) == model_set:
            found[topic][int(partition)] = int(offset)
    return found


def behind(ends_now: Ends, written_now: Ends) -> int:
    """Records of the log that are not rows yet."""
    return sum(max(0, end - written_now.get(topic, {}).get(p, 0)) for topic, of in ends_now.items() for p, end in of.items())


def facts(connection: Connection, where: Where) -> Facts:
    """Everything a plan needs. Raises `KafkaUnavailable`, `ReadFailed`, `psycopg.Error`."""
    return Facts(
        cluster=cluster_id(where.bootstrap),
        begins={topic: begin_offsets(where.bootstrap, topic) for topic in where.topics},
        ends=ends(where),
        live=written(connection, where, "core"),
        live_bytes=size_of(connection, "core") + size_of(connection, "priv"),
        free_bytes=free_bytes(connection),
        measured=_measured(connection),
    )


def size_of(connection: Connection, schema: str) -> int:
    """Bytes of a schema's tables with their indexes."""
    row = connection.execute(
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relkind = 'r'",
        (schema,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def free_bytes(connection: Connection) -> int | None:
    """Free space on the database's disk; None where it cannot be known from here (another machine, no right to ask)."""
    try:
        row = connection.execute("SELECT current_setting('data_directory'), pg_postmaster_start_time()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    if row is None or (connection.info.host and not connection.info.host.startswith(("/", "127.", "localhost", "::1"))):
        return None
    try:
        found = os.statvfs(row[0])
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _measured(connection: Connection) -> float | None:
    row = connection.execute(
        "SELECT (detail->>'per_process_per_s')::float FROM replay.acts"
        " WHERE act = 'loaded' AND (detail->>'records')::bigint >= 50000 ORDER BY n DESC LIMIT 1"
    ).fetchone()
    return None if row is None else float(row[0])


__all__ = ["Where", "behind", "ends", "facts", "free_bytes", "models", "size_of", "total", "written"]
