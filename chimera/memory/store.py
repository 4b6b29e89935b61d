"""What keeps notes so that they are found: the contract that every backend passes the same tests on.

The rule not to break: writing the same notes again, in any order and however often, gives the same contents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from chimera.events.notes import Kind, MemoryNoted
from chimera.memory.contract import Found, Query
from chimera.memory.embedding import Vector
from chimera.projections.write import Connection


class Row(NamedTuple):
    """A note ready to be kept: `words` are indexed and not kept, `at` is its partition and offset in `chimera.notes`."""

    note: MemoryNoted
    words: str
    vector: Vector
    at: tuple[int, int]


class Store(Protocol):
    """Notes of one installation in builds: the live one is read, another may be in the making. Everything blocks.

    What writes is given the projector's connection, inside the transaction that moves the checkpoint. Raises `MemoryAway`.
    """

    kind: str

    def make(self, connection: Connection, build: int, dimensions: int) -> None:
        """An empty place for a build of vectors of so many numbers; nothing where it is there."""

    def drop(self, connection: Connection, build: int) -> None:
        """Take a build away; nothing where there is none."""

    def put(self, connection: Connection, build: int, rows: Sequence[Row]) -> None:
        """Keep notes; of those with one id the one of the latest `ts`, and of these the last, counts."""

    def forget(self, connection: Connection, build: int, subjects: Collection[str]) -> int:
        """Take out what is sealed under these subjects (given as `subject_key`); how many notes."""

    def candidates(self, build: int, tenant: str, query: Query, vector: Vector, most: int) -> list[Found]:
        """Among what the query allows: the `most` nearest by meaning, and as many that share words with it. Some may come twice."""

    def contents(self, build: int) -> Iterator[Found]:
        """Everything, by tenant and id: for comparing builds, and for counting."""

    def kinds(self, build: int, tenant: str, agent: str) -> frozenset[Kind]:
        """What kinds of notes there are of an agent."""

    def counts(self, build: int) -> list[tuple[str, str, int, int]]:
        """(tenant, kind, notes, ts of the newest), in order."""

    def get(self, build: int, tenant: str, note: str) -> Found | None:
        """One note of a tenant by its id."""

    def close(self) -> None:
        """Let connections go."""


def subject_key(subject: str) -> str:
    """A subject as stores know it: as its key file is named."""
    return hashlib.sha256(subject.encode()).hexdigest()


def newest(rows: Iterable[Row]) -> list[Row]:
    """One row for each id: the latest by `ts`, of equal ones the last."""
    kept: dict[str, Row] = {}
    for row in rows:
        held = kept.get(row.note.id)
        if held is None or row.note.ts >= held.note.ts:
            kept[row.note.id] = row
    return list(kept.values())
