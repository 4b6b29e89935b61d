"""`chimera replay verify`: refold the log from 0 into a scratch schema and compare it with the live tables.

The rule not to break: both sides are compared at the same checkpoints; the live side is read in one snapshot and never touched.
What is parked is left out on both sides and named; what was discarded is left out of the refold as well.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.read import read_until
from chimera.events.envelope import decode
from chimera.events.metrics import TOPIC as METRICS
from chimera.events.security import TOPIC as SECURITY
from chimera.projections import calls, metrics, security
from chimera.projections.checkpoints import LOG, MODEL_SET, checkpoints, connect
from chimera.projections.comparing import COMPARED, Compared, Difference, LiveSums, Sides, condition, first_difference, summed
from chimera.projections.parking import Parked, listed
from chimera.projections.refold import Hands, Place, Progress, leave_out_discarded, rewrite, shares_of
from chimera.projections.schema import bare, drop, migrate
from chimera.projections.write import Connection

PREFIX = "verify_"
_LOCK = 0x5645_5249  # who refolds into which schema ("VERI")


class NothingProjected(ChimeraError):
    """There are no checkpoints: the read models have not begun."""


@dataclass(frozen=True)
class Report:
    """What a verification found."""

    records: int
    tables: tuple[Compared, ...]
    difference: Difference | None
    stopped: dict[int, str]
    """Partitions that stand still in the live tables (they are compared at where they stand)."""
    parked: tuple[Parked, ...] = ()
    """What the live tables lack and say so: not compared."""
    unmade: tuple[Parked, ...] = ()
    """What the refold could not make though the live tables have it: not compared, and not equal."""

    @property
    def equal(self) -> bool:
        return self.difference is None and not self.unmade and all(table.equal for table in self.tables)


def verify(
    bootstrap: str,
    dsn: str,
    root_public: str,
    *,
    schema: str = "core",
    topic: str = LOG,
    calls_topic: str = calls.CALLS,
    metrics_topic: str = METRICS,
    security_topic: str = SECURITY,
    processes: int = 1,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Refold up to the live tables' checkpoints and compare.

    Raises `NothingProjected`; `ChimeraError` where the log cannot be read or the refold itself cannot be written.
    """
    scratch = f"{PREFIX}{secrets.token_hex(6)}"
    with connect(dsn) as live:
        own_scratch(live, scratch)
        live.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        upto = _checkpoints(live, schema, MODEL_SET, topic)
        if not any(upto.values()):
            raise NothingProjected(f"schema {schema!r} has no projected records: start the projector (`chimera up`) and try again")
        calls_upto = checkpoints(live, schema, calls.MODEL_SET, calls_topic)
        metrics_upto = checkpoints(live, schema, metrics.MODEL_SET, metrics_topic)
        security_upto = checkpoints(live, schema, security.MODEL_SET, security_topic)
        parked = tuple(listed(live, schema))
        try:
            with (
                Hands(shares_of(upto, processes)) as hands,
                LiveSums(live, schema, parked) as beside,
                connect(dsn) as refolded,
            ):
                drop_leftovers(refolded)
                migrate(dsn, scratch)
                leave_out_discarded(refolded, schema, scratch)
                bare(refolded, scratch)  # nobody looks anything up in there: every table is read once, from end to end
                _unlogged(refolded, scratch)
                hands.refold(Place(bootstrap, dsn, root_public, scratch, topic), progress)
                rewrite(refolded, bootstrap, scratch, calls.MODEL_SET, calls_topic, calls_upto, calls.write_calls)
                rewrite(refolded, bootstrap, scratch, metrics.MODEL_SET, metrics_topic, metrics_upto, metrics.write_raws)
                rewrite(refolded, bootstrap, scratch, security.MODEL_SET, security_topic, security_upto, security.write_security)
                known = {(p.model, p.stream, p.partition) for p in parked}
                unmade = tuple(p for p in listed(refolded, scratch) if (p.model, p.stream, p.partition) not in known)
                live_sums = beside.take(unmade)
                wanted = {table: condition(live, schema, table, (*parked, *unmade)) for table in COMPARED}
                tables = tuple(
                    Compared(table.name, *live_sums[table.name], *summed(refolded, scratch, table, wanted[table]))
                    for table in COMPARED
                )
                different = next((COMPARED[i] for i, t in enumerate(tables) if not t.equal), None)
                difference = None
                if different is not None:
                    difference = first_difference(Sides(live, schema, refolded, scratch), different, wanted[different])
                if difference is not None:
                    place = {calls.MODEL_SET: calls_topic, metrics.MODEL_SET: metrics_topic, security.MODEL_SET: security_topic}
                    difference = _with_record(difference, bootstrap, place.get(_SET_OF.get(difference.table, ""), topic))
        finally:
            drop(dsn, scratch)
        return Report(sum(upto.values()), tables, difference, _stopped(live, schema), parked, unmade)


def _checkpoints(live: Connection, schema: str, model_set: str, topic: str) -> dict[int, int]:
    try:
        return checkpoints(live, schema, model_set, topic)
    except psycopg.errors.UndefinedTable as error:
        raise NothingProjected(f"no read models in schema {schema!r}: start the projector (`chimera up`) and try again") from error


def own_scratch(connection: Connection, scratch: str) -> None:
    """Say that `scratch` is in use, for as long as this connection lives."""
    connection.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", (_LOCK, scratch))


def drop_leftovers(connection: Connection) -> None:
    """Drop what killed verifications left behind: schemas of our names that nobody uses."""
    named = f"^{PREFIX}[0-9a-f]{{12}}$"
    for (name,) in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ %s", (named,)).fetchall():
        found = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_LOCK, name)).fetchone()
        if found is not None and found[0]:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
            connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", (_LOCK, name))


def _unlogged(connection: Connection, scratch: str) -> None:
    """Nobody needs these tables after a crash, so the server need not write them twice. Parents of parts have no such choice."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r' AND NOT relispartition", (scratch,)
    ).fetchall()
    statements = [sql.SQL("ALTER TABLE {} SET UNLOGGED").format(sql.Identifier(scratch, name)) for (name,) in rows]
    connection.execute(sql.SQL("; ").join(statements))


def _stopped(live: Connection, schema: str) -> dict[int, str]:
    query = sql.SQL("SELECT partition, stopped FROM {} WHERE stopped IS NOT NULL ORDER BY 1")
    return {int(p): str(why) for p, why in live.execute(query.format(sql.Identifier(schema, "checkpoints"))).fetchall()}


_SET_OF = {
    table.name: model_set
    for model_set, tables in (
        (calls.MODEL_SET, calls.TABLES),
        (metrics.MODEL_SET, metrics.TABLES),
        (security.MODEL_SET, security.TABLES),
    )
    for table in tables
}


def _with_record(difference: Difference, bootstrap: str, topic: str) -> Difference:
    """The same, with what the record says of itself."""
    partition, offset = difference.partition, difference.offset
    try:
        raw = next(read_until(bootstrap, topic, [partition], {partition: offset}, {partition: offset + 1}))[0]
    except ChimeraError:  # a place that somebody made up: the row itself is what is wrong
        return difference._replace(topic=topic)
    found = decode(raw)
    said = {"id": found.id, "type": found.type, "actor": found.actor, "append_ts": found.append_ts}
    return difference._replace(topic=topic, record=said)
