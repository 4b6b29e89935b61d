"""Records -> rulings -> entries: what a stretch of one partition is, folded, before anything is written.

The rule not to break: pure but for the fold that it moves on; a model that fails says so in its entry and stops nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chimera.eventlog.partitioner import place
from chimera.events.envelope import Record
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.state import Agent, Ruling
from chimera.events.tenant import Tenant
from chimera.projections.batch import Batch, Entry, Movement, Stretch, Touched, agent_row
from chimera.projections.models import models_for
from chimera.projections.parking import reason_of
from chimera.projections.rows import Model, Row, clipped

Before = Callable[[str, int], None]
"""(stream key, append time): told of each record ahead of its fold."""


def new_fold(partition: int, partitions: int, root_public: str) -> PartitionFold:
    """An empty fold of one partition, as every reader of this room makes it."""
    return PartitionFold(partition, partitions, root_public, place)


def entries_for(models: Iterable[Model], record: Record, ruling: Ruling, state: Agent | Tenant | None) -> list[Entry]:
    """What these models make of one record; a model that fails says so in its entry, and the others go on."""
    stream, partition, offset = clipped(record.key), record.partition, record.offset
    found: list[Entry] = []
    for model in models:
        try:
            rows = model.rows(record, ruling, state)
        except Exception as raised:  # noqa: BLE001  # whatever it is: the entry names it, and its pair is parked
            found.append(Entry(model.name, stream, partition, offset, [], reason_of(raised)))
            continue
        if rows:
            found.append(Entry(model.name, stream, partition, offset, rows))
    return found


def _make(stretch: Stretch, models: Iterable[Model], record: Record, ruling: Ruling, state: Agent | Tenant | None) -> None:
    """Take in what these models make of one record; once one has failed, model by model."""
    if stretch.batch is not None:
        rows: list[Row] = []
        try:
            for model in models:
                rows += model.rows(record, ruling, state)
        except Exception:  # noqa: BLE001  # made once more below: there it is named
            stretch.parted()
        else:
            stretch.take(record.key, record.offset, rows)
            return
    stretch.entries += entries_for(models, record, ruling, state)


def moves(ruling: Ruling) -> bool:
    """Does a record that was ruled so move its agent's own row?"""
    return ruling.outcome != "void" or bool(ruling.changes)


def project(fold: PartitionFold, raws: Iterable[RawRecord], write_from: int, tell: Before | None = None) -> Stretch | None:
    """Fold consecutive records of one partition; rows for those at `write_from` and later. None if there are no such.

    `tell` is told of each record ahead of its fold. Raises `UnknownLaw`.
    """
    stretch = extend(None, fold, raws, write_from, tell)
    return None if stretch is None else closed(stretch, fold)


def extend(
    stretch: Stretch | None,
    fold: PartitionFold,
    raws: Iterable[RawRecord],
    write_from: int,
    tell: Before | None = None,
    *,
    kept: bool = True,
) -> Stretch | None:
    """`project` in pieces: the next records of a stretch (None: it begins with them). `closed` ends it.

    Not `kept`: of what each model made of each record, only the sum is. Raises `UnknownLaw`, and `NotKept` where a model fails.
    """
    for record in fold.read_ahead(raws):
        if tell is not None:
            tell(record.key, record.append_ts)
        _, ruling = fold.rule(record)
        if record.offset < write_from:
            continue
        if stretch is None:
            stretch = Stretch(record.topic, record.partition, record.offset, record.offset, batch=Batch(), kept=kept)
        agent = fold.agents.get(record.key)
        state = agent if agent is not None else fold.state(record.key)
        _make(stretch, models_for(record, ruling), record, ruling, state)
        if agent is not None and moves(ruling):
            seen = stretch.moved.get(record.key)
            enrolled = ruling.outcome == "applied" and record.type == "AgentEnrolled"
            before = seen.before if seen is not None else None if enrolled else ruling.version_before
            stretch.moved[record.key] = Movement(before, record.offset, record.append_ts)
        if ruling.reason == "unreadable":
            stretch.unreadable += 1
        elif ruling.reason == "unknown_type":
            stretch.unknown_types += 1
        stretch.end = record.offset + 1
        stretch.last_append_ts = record.append_ts
        stretch.records += 1
    return stretch


def closed(stretch: Stretch, fold: PartitionFold) -> Stretch:
    """The stretch with the rows of the agents that it moved, as they are now: the next one moves them on while this is written."""
    stretch.law = fold.law.number
    for key, (before, offset, append_ts) in stretch.moved.items():
        stretch.touched[key] = Touched(before, agent_row(fold.agents[key], stretch.partition, offset, append_ts))
    return stretch
