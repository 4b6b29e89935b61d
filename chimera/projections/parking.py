"""Parking: a row that one model cannot make holds back that model for that agent, and nothing else.

The rule not to break: nothing is skipped unseen. What does not flow is named in `parked` with its first record and counted,
in the transaction that moves the checkpoint past it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from chimera.errors import ChimeraError
from chimera.projections.batch import Entry, Pair, Stretch

Connection = psycopg.Connection[Any]
MOST_PER_WRITE = 64
"""More pairs than this refused in one transaction are not a matter of single rows: the partition stops instead."""


class Parked(NamedTuple):
    """One (model, stream) that does not flow: since when, from which record on, why, and what was passed over since."""

    model: str
    stream: str
    partition: int
    offset: int
    reason: str
    since: datetime
    skipped: int
    last_offset: int


class TooManyRefused(ChimeraError):
    """So many rows are refused that the fault is not theirs."""


@dataclass
class Parking:
    """What is parked and discarded as one write sees it, and what it adds."""

    parked: set[Pair] = field(default_factory=set)
    discarded: set[tuple[str, int, int]] = field(default_factory=set)
    """(model, partition, offset): rows of that record in that model were given up."""
    added: list[tuple[Entry, str]] = field(default_factory=list)
    """Entries that began a parking in this write, with the reason."""
    skipped: Counter[Pair] = field(default_factory=Counter)
    last: dict[Pair, int] = field(default_factory=dict)

    def park(self, entry: Entry, reason: str) -> None:
        """From this entry on its pair does not flow. Raises `TooManyRefused`."""
        if len(self.added) >= MOST_PER_WRITE:
            raise TooManyRefused(
                f"more than {MOST_PER_WRITE} models of agents would be parked at once, the last one {entry.model} of"
                f" {entry.stream!r} at offset {entry.offset}: {reason}; see whether schema and code are of one version"
            )
        self.parked.add(entry.pair)
        self.added.append((entry, reason))

    def flowing(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those entries that are to be written; counts the others, and parks pairs whose model failed."""
        flow: list[Entry] = []
        for entry in entries:
            if not self.parked and not self.discarded and not entry.error:
                flow.append(entry)
            elif (entry.model, entry.partition, entry.offset) in self.discarded:
                continue
            elif entry.pair in self.parked:
                self.skipped[entry.pair] += 1
                self.last[entry.pair] = entry.offset
            elif entry.error:
                self.park(entry, entry.error)
            else:
                flow.append(entry)
        return flow


def reason_of(error: BaseException) -> str:
    """One line for people."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no further word'}"[:500]


def ask(connection: Connection, schema: str, stretches: Iterable[Stretch]) -> psycopg.Cursor[Any]:
    """Ask what is parked and discarded on these partitions: `read` the answer."""
    return connection.execute(_held_back(schema), {"p": [s.partition for s in stretches]})


def read(asked: psycopg.Cursor[Any]) -> Parking:
    """What is parked and discarded."""
    found = asked.fetchall()
    return Parking(
        {(model, stream, int(p)) for is_parked, model, stream, p, _ in found if is_parked},
        {(model, int(p), int(offset)) for is_parked, model, _, p, offset in found if not is_parked},
    )


@lru_cache(maxsize=1024)
def _held_back(schema: str) -> bytes:
    return (
        sql.SQL(
            "SELECT true, model, stream, partition, 0 FROM {} WHERE partition = ANY(%(p)s)"
            ' UNION ALL SELECT false, model, stream, partition, "offset" FROM {} WHERE partition = ANY(%(p)s)'
        )
        .format(sql.Identifier(schema, "parked"), sql.Identifier(schema, "discarded"))
        .as_bytes()
    )


def note(connection: Connection, schema: str, parking: Parking) -> None:
    """Write down what was parked and passed over."""
    table = sql.Identifier(schema, "parked")
    for entry, reason in parking.added:
        connection.execute(
            sql.SQL(
                'INSERT INTO {} (model, stream, partition, "offset", reason, last_offset) VALUES (%s, %s, %s, %s, %s, %s)'
            ).format(table),
            (entry.model, entry.stream, entry.partition, entry.offset, reason, entry.offset),
        )
    for (model, stream, partition), count in parking.skipped.items():
        connection.execute(
            sql.SQL(
                "UPDATE {} SET skipped = skipped + %s, last_offset = %s WHERE (model, stream, partition) = (%s, %s, %s)"
            ).format(table),
            (count, parking.last[model, stream, partition], model, stream, partition),
        )


def listed(connection: Connection, schema: str = "core") -> list[Parked]:
    """Everything that is parked, oldest first."""
    with connection.cursor(row_factory=class_row(Parked)) as cursor:
        return cursor.execute(
            sql.SQL(
                'SELECT model, stream, partition, "offset", reason, since, skipped, last_offset FROM {} ORDER BY since, model, 2'
            ).format(sql.Identifier(schema, "parked"))
        ).fetchall()
