"""What was folded and waits to be written: entries per record and model, and the rows of many entries collapsed into few.

The rule not to break: collapsing gives the same table as writing row by row would.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from chimera.errors import ChimeraError
from chimera.events.state import Agent
from chimera.projections.models import MODEL_OF
from chimera.projections.rows import Insert, Put, Row, Table, Value, big, careful_json, clipped, ts

Pair = tuple[str, str, int]
"""(model, stream, partition): what is parked together."""
Key = tuple[Value, ...]


@dataclass(slots=True)
class Entry:
    """What one model makes of one record: rows, or `error`, why it could make none."""

    model: str
    stream: str
    partition: int
    offset: int
    rows: list[Row]
    error: str = ""

    @property
    def pair(self) -> Pair:
        return self.model, self.stream, self.partition


class NotKept(ChimeraError):
    """Rows are to be looked at one by one, and only their sum was kept: fold the records again, and keep them this time."""


Made = tuple[str, int, list[Row]]
"""Stream and offset of a record, and what all models make of it, in their order."""


class Touched(NamedTuple):
    """An agent that the stretch moved: its version before the stretch (None = enrolled in it) and its row after it."""

    before: int | None
    row: dict[str, Any]


class Movement(NamedTuple):
    """How a stretch moved an agent so far: its version before the stretch, where and when its last record was appended."""

    before: int | None
    offset: int
    append_ts: int


def agent_row(agent: Agent, partition: int, offset: int, append_ts: int) -> dict[str, Any]:
    """The row of an agent as its state is after the record at `offset`."""
    return {
        "agent_id": agent.key,
        "tenant": agent.tenant,
        "name": agent.name,
        "status": agent.status,
        "quarantined": agent.quarantine is not None,
        "state_version": agent.version,
        "command_no": big(agent.command_no),
        "policy_edition": None if agent.policy is None else big(agent.policy.edition),
        "open_tasks": agent.open_tasks,
        "open_campaigns": len(agent.campaigns),
        "updated_at": ts(append_ts),
        "partition": partition,
        "offset": offset,
    }


@dataclass(slots=True)
class Stretch:
    """Offsets [start, end) of one partition, folded: the entries in log order, within a record in the models' order."""

    topic: str
    partition: int
    start: int
    end: int
    law: int = 1
    last_append_ts: int = 0
    records: int = 0
    unreadable: int = 0
    """Records whose bytes could not be read."""
    unknown_types: int = 0
    entries: list[Entry] = field(default_factory=list)
    """Of the first records, as far as their rows are not collapsed: all of them where `batch` is None."""
    made: list[Made] = field(default_factory=list)
    """Of the other records, whose rows are in `batch`; empty where they are not `kept`."""
    kept: bool = True
    batch: Batch | None = None
    """The rows of all records, collapsed while they were made; None where that is left to who writes."""
    moved: dict[str, Movement] = field(default_factory=dict)
    touched: dict[str, Touched] = field(default_factory=dict)
    careful: bool = False
    """JSON was written anew, because Postgres refused some of it."""

    def make_careful(self) -> None:
        """Write anew the JSON that jsonb may refuse: numbers with more than 131,072 digits, such as 1e200000."""
        self.careful = True
        self.entries = [replace(e, rows=[_careful_row(row) for row in e.rows]) for e in self.parted()]

    def take(self, stream: str, offset: int, rows: list[Row]) -> None:
        """Take in what models make of the next record, where they are collapsed. At once: later, thousands of rows on, they have
        left the core's cache, which doubles what it costs."""
        assert self.batch is not None, "entries are collapsed by who writes them"
        if self.kept:
            self.made.append((stream, offset, rows))
        self.batch.take(rows)

    def parted(self) -> list[Entry]:
        """The entries of all records, model by model: from now on each is looked at by itself. Raises `NotKept`."""
        if not self.kept:
            raise NotKept(f"rows of {self.topic}[{self.partition}] from offset {self.start} on have to be looked at one by one")
        for stream, offset, rows in self.made:
            by_model: dict[str, Entry] = {}
            for row in rows:
                model = MODEL_OF[row.table]
                if model not in by_model:
                    by_model[model] = Entry(model, clipped(stream), self.partition, offset, [])
                by_model[model].rows.append(row)
            self.entries += by_model.values()
        self.made, self.batch = [], None
        return self.entries


@dataclass(slots=True)
class Pending:
    """What will be written at one key: `put` with the whole row, else only columns of a row that exists."""

    put: bool
    values: dict[str, Value]
    fresh: bool = False
    """Nothing was written at the key before this batch (`Put.fresh`)."""


@dataclass(slots=True)
class Batch:
    """Rows by table: several updates of one row are one."""

    appended: defaultdict[Table, list[Key]] = field(default_factory=lambda: defaultdict(list))
    pending: defaultdict[Table, dict[Key, Pending]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, rows: Iterable[Row]) -> None:
        """Take in what comes next, in log order."""
        for row in rows:
            if isinstance(row, Insert):
                self.appended[row.table].append(row.values)
                continue
            table, key, values = row.table, row.key, row.values
            changed = self.pending[table]
            before = changed.get(key)
            if isinstance(row, Put):
                # A Set that came before in this stretch is overwritten where both speak; the rest of it stays.
                if before is None:
                    changed[key] = Pending(True, values.copy(), row.fresh)
                    continue
                if before.put:
                    values = before.values | values | {column: before.values[column] for column in table.once}
                else:
                    values = before.values | values
                changed[key] = Pending(True, values, before.fresh)
            elif before is None:
                changed[key] = Pending(False, values.copy())
            elif table.only_while is None or before.values.get(*table.only_while) == table.only_while[1]:
                before.values.update(values)


def collapse(entries: Iterable[Entry]) -> Batch:
    """All rows of `entries`, which are in log order within each stream."""
    batch = Batch()
    for entry in entries:
        batch.take(entry.rows)
    return batch


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of several partitions as one batch; those given stay as they are, for who has to write them again.

    A stream lies in one partition, and a row that can change is its stream's: no key is in two of them.
    """
    if len(batches) == 1:
        return batches[0]
    whole = Batch()
    for batch in batches:
        for table, rows in batch.appended.items():
            whole.appended[table] += rows
        for table, changed in batch.pending.items():
            whole.pending[table] |= changed
    return whole


_LARGE = re.compile(rb"[eE][+-]?\d{5}|\d{1000}")
"""May be a number that no jsonb holds; may also be part of a hash, whose value then reads the same."""


def _careful_row(row: Row) -> Row:
    if isinstance(row, Insert):
        return Insert(row.table, tuple(_careful(value) for value in row.values))
    return replace(row, values={name: _careful(value) for name, value in row.values.items()})


def _careful(value: Value) -> Value:
    return careful_json(value) if isinstance(value, bytes) and _LARGE.search(value) else value
