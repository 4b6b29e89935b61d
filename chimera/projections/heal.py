"""Making a parked model of one agent whole again: its rows there are built anew from the agent's own records.

The rule not to break: rows, parking and the checkpoint they are true at change in one transaction, under that checkpoint's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.envelope import LAW_KEY_PREFIX
from chimera.events.raw import RawRecord
from chimera.projections import settling
from chimera.projections.agent_rows import AGENTS, put_agent
from chimera.projections.batch import Entry, Stretch, agent_row
from chimera.projections.engine import LOG, MODEL_SET, connect, entries_for, new_fold
from chimera.projections.folding import moves
from chimera.projections.models import BY_NAME, models_for
from chimera.projections.parking import Parked, Parking, ask, listed, read, reason_of
from chimera.projections.rows import Model, clipped
from chimera.projections.write import REFUSED, Connection, Disagreement, place


class NotHealed(ChimeraError):
    """The rows still cannot be made; nothing was changed but the reason, and the pair stays parked."""


class NotParked(ChimeraError):
    """There is nothing parked under these names."""


def find(connection: Connection, model: str, agent: str, *, schema: str = "core") -> list[Parked]:
    """What is parked of `model` for an agent, named by its name or stream key. Raises `NotParked`."""
    row = connection.execute(
        sql.SQL("SELECT array_agg(agent_id) FROM {} WHERE name = %s").format(sql.Identifier(schema, "agents")), (agent,)
    ).fetchone()
    streams = {agent, *((row[0] if row is not None else None) or ())}
    everything = listed(connection, schema)
    found = [p for p in everything if p.model == model and p.stream in streams]
    if not found:
        said = ", ".join(f"{p.model} {p.stream}" for p in everything[:5]) or "nothing is"
        raise NotParked(f"{model} of {agent!r} is not parked; parked: {said} (`chimera parked list`)")
    return found


def in_order(parked: list[Parked]) -> list[Parked]:
    """What is referred to comes first, so that healing one after the other can succeed."""
    order = [AGENTS.name, *BY_NAME]
    return sorted(parked, key=lambda p: (order.index(p.model) if p.model in order else len(order), p.stream, p.partition))


def heal(bootstrap: str, dsn: str, root_public: str, parked: Parked, *, schema: str = "core", topic: str = LOG) -> int:
    """Build the pair's rows anew up to the checkpoint and let it flow; how many records they are made of.

    The projector may run meanwhile: it waits for the checkpoint's lock. Raises `NotHealed`, `ReadFailed`.
    """
    return _rebuild(bootstrap, dsn, root_public, parked, schema, topic, None)


def discard(
    bootstrap: str, dsn: str, root_public: str, parked: Parked, *, reason: str, by: str, schema: str = "core", topic: str = LOG
) -> int:
    """Give up the rows of the one record that began the parking, for good and with a reason, then heal without it.

    Raises `NotHealed` where another record cannot be written either: then that one is named, and the first stays given up.
    """
    if parked.model == AGENTS.name:
        raise ChimeraError(
            f"the row of {parked.stream} in agents is its state as it is now, of which no record can be given up: "
            "mend the cause and heal"
        )
    if not reason.strip():
        raise ChimeraError("say why with --reason: what is discarded is missing from every later rebuild as well")
    return _rebuild(bootstrap, dsn, root_public, parked, schema, topic, (reason, by))


def _rebuild(
    bootstrap: str, dsn: str, root_public: str, parked: Parked, schema: str, topic: str, give_up: tuple[str, str] | None
) -> int:
    model = BY_NAME.get(parked.model)
    if model is None and parked.model != AGENTS.name:
        raise NotHealed(
            f"this code has no model {parked.model!r}: heal with the version that parked it, or drop the row in `parked`"
        )
    with connect(dsn) as connection:
        refold = _Refold(bootstrap, root_public, topic, parked, model)
        refold.upto(_checkpoint(connection, schema, topic, parked.partition))  # the long part, while others go on
        try:
            with connection.transaction():
                refold.upto(_checkpoint(connection, schema, topic, parked.partition, lock=True))
                if model is None:
                    failure = _replace_agent(connection, schema, parked, refold)
                else:
                    failure = _replace(connection, schema, model, parked, refold.entries, give_up)
        except (psycopg.IntegrityError, Disagreement) as error:
            others = [
                p.model for p in in_order(listed(connection, schema)) if p.stream == parked.stream and p.model != parked.model
            ]
            also = f"; also parked for it: {', '.join(others)}: heal what it refers to first" if others else ""
            raise NotHealed(f"{parked.model} of {parked.stream}: {str(error).splitlines()[0]}{also}") from error
        if failure is not None:
            entry, why = failure
            raise NotHealed(
                f"{parked.model} of {parked.stream} stays parked: chimera.log[{entry.partition}] offset {entry.offset}: {why}"
            )
        return refold.records if model is None else len(refold.entries)


class _Refold:
    """One stream of one partition, folded as far as asked: the entries of one model, or the agent's own row (`model` None)."""

    def __init__(self, bootstrap: str, root_public: str, topic: str, parked: Parked, model: Model | None) -> None:
        self.entries: list[Entry] = []
        self.agent: dict[str, Any] = {}
        """The row after the last record that moved the agent."""
        self.records = 0
        self._bootstrap, self._topic, self._parked, self._model = bootstrap, topic, parked, model
        self._fold = new_fold(parked.partition, len(end_offsets(bootstrap, topic)), root_public)
        self._done = 0

    def upto(self, offset: int) -> None:
        """Fold on up to `offset`."""
        p = self._parked.partition
        for raws in read_until(self._bootstrap, self._topic, (p,), {p: self._done}, {p: offset}):
            for raw in raws:
                if self._concerns(raw):
                    record, ruling = self._fold.apply(raw)
                    if clipped(record.key) == self._parked.stream:
                        self.records += 1
                        agent = self._fold.agents.get(record.key)
                        if agent is not None and moves(ruling):
                            self.agent = agent_row(agent, raw.partition, raw.offset, raw.append_ts)
                        models = [m for m in models_for(record, ruling) if m is self._model]
                        self.entries.extend(entries_for(models, record, ruling, self._fold.state(record.key)))
        self._done = max(self._done, offset)

    def _concerns(self, raw: RawRecord) -> bool:
        """The law, and the stream's own records: a fold reads its own key only."""
        key = (raw.key or b"").decode(errors="replace")
        return not self._parked.stream or key.startswith(LAW_KEY_PREFIX) or clipped(key) == self._parked.stream


def _replace_agent(connection: Connection, schema: str, parked: Parked, refold: _Refold) -> tuple[Entry, str] | None:
    """As `_replace`. The row is not deleted first: all others of the agent refer to it."""
    if (parked.model, parked.stream, parked.partition) not in read(
        ask(connection, schema, [Stretch("", parked.partition, 0, 0)])
    ).parked:
        raise NotParked(f"agents of {parked.stream} is not parked any more: somebody else healed it")
    try:
        with connection.transaction():
            put_agent(connection, schema, refold.agent)
    except REFUSED as error:
        last = refold.agent["offset"]
        return Entry(parked.model, parked.stream, parked.partition, last, []), reason_of(error)
    connection.execute(
        sql.SQL("DELETE FROM {} WHERE (model, stream, partition) = (%s, %s, %s)").format(sql.Identifier(schema, "parked")),
        (parked.model, parked.stream, parked.partition),
    )
    return None


def _replace(
    connection: Connection, schema: str, model: Model, parked: Parked, entries: list[Entry], give_up: tuple[str, str] | None
) -> tuple[Entry, str] | None:
    """Within the caller's transaction. Where a row is still refused: that entry and why; then the rows are as they were."""
    where: Mapping[str, Any] = {"model": parked.model, "stream": parked.stream, "partition": parked.partition}
    its = sql.SQL("(model, stream, partition) = (%(model)s, %(stream)s, %(partition)s)")
    if give_up is not None:
        connection.execute(
            sql.SQL(
                'INSERT INTO {} (model, stream, partition, "offset", failed_with, reason, discarded_by)'
                " VALUES (%(model)s, %(stream)s, %(partition)s, %(offset)s, %(failed)s, %(reason)s, %(by)s) ON CONFLICT DO NOTHING"
            ).format(sql.Identifier(schema, "discarded")),
            {**where, "offset": parked.offset, "failed": parked.reason, "reason": give_up[0], "by": give_up[1]},
        )
    place_ = Stretch("", parked.partition, 0, 0)
    known = read(ask(connection, schema, [place_]))
    if (parked.model, parked.stream, parked.partition) not in known.parked:
        raise NotParked(f"{parked.model} of {parked.stream} is not parked any more: somebody else healed it")
    found = Parking(discarded=known.discarded)
    try:
        with connection.transaction():
            connection.execute("SET CONSTRAINTS ALL DEFERRED")
            for table in reversed(model.tables):
                connection.execute(
                    sql.SQL("DELETE FROM {} WHERE {} = %s AND partition = %s").format(
                        sql.Identifier(schema, table.name), sql.Identifier(table.stream_column)
                    ),
                    (parked.stream, parked.partition),
                )
            place(connection, schema, found.flowing(entries), model.tables, found)
            if found.added:
                raise _Refused
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            settling.unsettle(connection, schema, parked.stream)
            connection.execute(sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(schema, "parked"), its), where)
    except _Refused:
        entry, why = found.added[0]
        connection.execute(
            sql.SQL('UPDATE {} SET "offset" = %(offset)s, reason = %(why)s WHERE {}').format(sql.Identifier(schema, "parked"), its),
            {**where, "offset": entry.offset, "why": why},
        )
        return entry, why
    return None


class _Refused(Exception):
    """Roll the savepoint back."""


def _checkpoint(connection: Connection, schema: str, topic: str, partition: int, *, lock: bool = False) -> int:
    """The partition's next offset; `lock`: held until the transaction ends, so that no projector moves it."""
    row = connection.execute(
        sql.SQL("SELECT next_offset FROM {} WHERE model_set = %s AND topic = %s AND partition = %s {}").format(
            sql.Identifier(schema, "checkpoints"), sql.SQL("FOR UPDATE" if lock else "")
        ),
        (MODEL_SET, topic, partition),
    ).fetchone()
    if row is None:
        raise NotHealed(f"partition {partition} has no checkpoint: start the projector (`chimera up`) and try again")
    return int(row[0])
