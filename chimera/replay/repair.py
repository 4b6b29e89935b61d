"""The rows of some agents or tenants made anew in place, in every read model of the fold, in one transaction for each of them.

The rule not to break: rows change under the lock of their partition's checkpoint and are true at it; so nobody misses a record, and
readers see a stream's old rows or its new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.envelope import LAW_KEY_PREFIX
from chimera.projections.agent_rows import put_agent
from chimera.projections.batch import Entry, Stretch, agent_row
from chimera.projections.checkpoints import MODEL_SET, checkpoints
from chimera.projections.folding import entries_for, moves, new_fold
from chimera.projections.models import TABLES, models_for
from chimera.projections.parking import Parking, ask, read
from chimera.projections.rows import clipped
from chimera.projections.schema import CORE
from chimera.projections.write import Connection, write_rows
from chimera.replay.plan import Refused, matching
from chimera.replay.survey import Where


class Stream(NamedTuple):
    """One agent or tenant, and where its log is."""

    key: str
    name: str
    partition: int


class Repaired(NamedTuple):
    """What became of one stream's rows."""

    stream: Stream
    records: int
    rows_before: int
    rows_after: int


def chosen(connection: Connection, where: Where, agent: str | None, tenant: str | None) -> list[Stream]:
    """The streams that a selector means: agents by name or stream key; a tenant's agents, and its own. Raises `Refused`."""
    agents = connection.execute("SELECT agent_id, name, tenant FROM core.agents ORDER BY name").fetchall()
    tenants = connection.execute("SELECT tenant_id, tenant, tenant FROM core.tenants ORDER BY tenant").fetchall()
    known: list[tuple[str, str, str]] = [tuple(row) for row in (*agents, *(tenants if agent is None else ()))]
    partitions = len(end_offsets(where.bootstrap, where.log))
    return [Stream(key, name, partition_for(key, partitions)) for key, name, _ in matching(known, agent, tenant)]


def repair(
    where: Where, connection: Connection, streams: Iterable[Stream], tell: Callable[[int, int], None] = lambda *_: None
) -> list[Repaired]:
    """Make the rows of these streams anew; partition by partition, a transaction per stream.

    `tell` hears records read and records due. Raises `Refused` where nothing is projected, `ChimeraError` where a row cannot be
    made.
    """
    by_partition: dict[int, list[Stream]] = {}
    for stream in streams:
        by_partition.setdefault(stream.partition, []).append(stream)
    at = checkpoints(connection, CORE, MODEL_SET, where.log)
    if not by_partition.keys() <= at.keys():
        raise Refused("the live read models have no checkpoints there: start the projector (`chimera up`) and try again")
    due, done, made = sum(at[p] for p in by_partition), 0, list[Repaired]()
    for partition, own in by_partition.items():
        refold = _Refold(where, partition, {stream.key for stream in own})
        refold.upto(at[partition])  # the long part, while others go on
        for stream in own:
            made.append(_replace(connection, where, refold, stream))
        done += at[partition]
        tell(done, due)
    return made


class _Refold:
    """Some streams of one partition, folded as far as asked."""

    def __init__(self, where: Where, partition: int, keys: set[str]) -> None:
        self.entries: dict[str, list[Entry]] = {key: [] for key in keys}
        self.agents: dict[str, dict[str, Any]] = {}
        self.records: dict[str, int] = dict.fromkeys(keys, 0)
        self._where, self._partition = where, partition
        self._fold = new_fold(partition, len(end_offsets(where.bootstrap, where.log)), where.root_public)
        self._done = 0

    def upto(self, offset: int) -> None:
        """Fold on up to `offset`: the law, and the streams' own records, since a fold reads its own key only."""
        p, topic = self._partition, self._where.log
        for raws in read_until(self._where.bootstrap, topic, (p,), {p: self._done}, {p: offset}):
            for raw in raws:
                key = (raw.key or b"").decode(errors="replace")
                if key not in self.records and not key.startswith(LAW_KEY_PREFIX):
                    continue
                record, ruling = self._fold.apply(raw)
                if record.key not in self.records:
                    continue
                self.records[record.key] += 1
                agent = self._fold.agents.get(record.key)
                if agent is not None and moves(ruling):
                    self.agents[record.key] = agent_row(agent, raw.partition, raw.offset, raw.append_ts)
                found = entries_for(models_for(record, ruling), record, ruling, self._fold.state(record.key))
                self.entries[record.key].extend(found)
        self._done = max(self._done, offset)


def _replace(connection: Connection, where: Where, refold: _Refold, stream: Stream) -> Repaired:
    place, own = sql.Identifier(CORE, "checkpoints"), clipped(stream.key)
    try:
        with connection.transaction():
            row = connection.execute(
                sql.SQL("SELECT next_offset FROM {} WHERE model_set = %s AND topic = %s AND partition = %s FOR UPDATE").format(
                    place
                ),
                (MODEL_SET, where.log, stream.partition),
            ).fetchone()
            assert row is not None
            refold.upto(int(row[0]))
            connection.execute("SET CONSTRAINTS ALL DEFERRED")
            before = _delete(connection, own, stream.partition)
            entries = _flowing(connection, stream.partition, own, refold.entries[stream.key])
            if stream.key in refold.agents:
                put_agent(connection, CORE, refold.agents[stream.key])
            write_rows(connection, CORE, entries, TABLES)
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            connection.execute("DELETE FROM core.parked WHERE (stream, partition) = (%s, %s)", (own, stream.partition))
            after = _count(connection, own, stream.partition)
    except (psycopg.IntegrityError, psycopg.DataError) as error:
        raise ChimeraError(
            f"{stream.name}: its rows cannot be made: {str(error).splitlines()[0]}; they are as they were."
            " `chimera parked list` names the models that cannot be written"
        ) from error
    return Repaired(stream, refold.records[stream.key], before, after)


def _flowing(connection: Connection, partition: int, stream: str, entries: list[Entry]) -> list[Entry]:
    """All but what was discarded. Raises `ChimeraError` for an entry that its model could not make."""
    discarded = read(ask(connection, CORE, [Stretch("", partition, 0, 0)])).discarded
    found = Parking(discarded=discarded)
    flow = found.flowing(entries)
    if found.added:
        entry, why = found.added[0]
        raise ChimeraError(f"{entry.model} of {stream} cannot be made: chimera.log[{partition}] offset {entry.offset}: {why}")
    return flow


def _delete(connection: Connection, stream: str, partition: int) -> int:
    gone = 0
    for table in reversed(TABLES):
        gone += connection.execute(
            sql.SQL("DELETE FROM {} WHERE {} = %s AND partition = %s").format(
                sql.Identifier(CORE, table.name), sql.Identifier(table.stream_column)
            ),
            (stream, partition),
        ).rowcount
    return gone


def _count(connection: Connection, stream: str, partition: int) -> int:
    each = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT count(*) AS n FROM {} WHERE {} = %(stream)s AND partition = %(partition)s").format(
            sql.Identifier(CORE, table.name), sql.Identifier(table.stream_column)
        )
        for table in TABLES
    )
    where: Mapping[str, Any] = {"stream": stream, "partition": partition}
    row = connection.execute(sql.SQL("SELECT sum(n) FROM ({}) c").format(each), where).fetchone()
    assert row is not None
    return int(row[0])
