"""Builds of memory: which one is read, and the making of another beside it.

The rule not to break: the one live build is changed in one transaction, and whoever writes holds on to it while writing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg

from chimera.memory.contract import MemoryAway
from chimera.memory.embedding import Embedder
from chimera.memory.store import Store
from chimera.projections.write import Connection

SCHEMA = "memory"
REBUILD = 0x43_48_4D_52
"""The lock of who makes a build ("CHMR")."""


class Build(NamedTuple):
    """One build. `embedder`: whose vectors it holds."""

    number: int
    store: str
    embedder: str
    status: str

    @property
    def model_set(self) -> str:
        """Its name among the checkpoints."""
        return f"notes/{self.number}"


def live(connection: psycopg.Connection[Any], *, hold: bool = False) -> Build | None:
    """The build that is read; None where none was made yet. `hold`: no other becomes it before this transaction is over."""
    found = connection.execute(
        "SELECT build, store, embedder, status FROM memory.builds WHERE status = 'live'" + (" FOR SHARE" if hold else "")
    ).fetchone()
    return None if found is None else Build(*found)


def begin(connection: Connection, store: Store, embedder: Embedder, status: str = "building") -> Build:
    """A new, empty build for an embedder's vectors. Raises `MemoryAway` where the store cannot make one."""
    with connection.transaction():
        connection.execute("LOCK TABLE memory.builds IN EXCLUSIVE MODE")
        row = connection.execute("SELECT coalesce(max(build), 0) + 1 FROM memory.builds").fetchone()
        assert row is not None
        build = Build(int(row[0]), store.kind, embedder.name, status)
        connection.execute("INSERT INTO memory.builds (build, store, embedder, status) VALUES (%s, %s, %s, %s)", build)
        store.make(connection, build.number, embedder.dimensions)
    return build


def opened(connection: Connection, store: Store, embedder: Embedder) -> Build:
    """The live build, made where there is none. Raises `MemoryAway` where it holds another's vectors or lies elsewhere."""
    found = live(connection)
    if found is None:
        try:
            return begin(connection, store, embedder, "live")
        except psycopg.errors.UniqueViolation:  # somebody else made one this moment
            found = live(connection)
    if found is None or (found.store, found.embedder) != (store.kind, embedder.name):
        raise mismatch(found, store.kind, embedder.name)
    return found


def mismatch(found: Build | None, store: str, embedder: str) -> MemoryAway:
    """Why a build cannot be used by these."""
    there = "nothing" if found is None else f"{found.embedder} in {found.store}"
    return MemoryAway(f"memory holds {there} and the settings say {embedder} in {store}: run `chimera memory rebuild`")


def swap(connection: Connection, build: Build) -> Build | None:
    """Make it the one that is read. -> the one before."""
    with connection.transaction():
        connection.execute("LOCK TABLE memory.builds IN EXCLUSIVE MODE")
        before = live(connection)
        if before is not None:
            connection.execute("UPDATE memory.builds SET status = 'building' WHERE build = %s", (before.number,))
        connection.execute("UPDATE memory.builds SET status = 'live' WHERE build = %s", (build.number,))
    return before


def drop(connection: Connection, store: Store, build: Build) -> None:
    """Take a build away that is not read any more."""
    with connection.transaction():
        store.drop(connection, build.number)
        connection.execute("DELETE FROM memory.checkpoints WHERE model_set = %s", (build.model_set,))
        connection.execute("DELETE FROM memory.builds WHERE build = %s AND status = 'building'", (build.number,))


def alone(connection: Connection) -> bool:
    """Is nobody else making a build? Then nobody else begins one while this session lasts."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (REBUILD,)).fetchone()
    return row is not None and bool(row[0])


def unfinished(connection: Connection) -> list[Build]:
    """Builds that are not read: one is being made, or was cut short."""
    rows = connection.execute(
        "SELECT build, store, embedder, status FROM memory.builds WHERE status = 'building' ORDER BY build"
    ).fetchall()
    return [Build(*row) for row in rows]
