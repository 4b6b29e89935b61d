"""Which projector writes which partition: advisory locks in the database that they write to.

The rule not to break: a lease saves work and grants nothing. What keeps a row from being written twice is the checkpoint's
compare-and-set; so a projector that wrongly thinks that it still holds a lease is rolled back.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]
SEATS = range(1000, 1064)
"""Every projector takes the first free seat, so that all can count how many there are."""
LOOK_S = 1.0
"""How often who holds a lease looks whether its session still stands while there is nothing to write."""


class Leases:
    """The partitions that one projector holds among those that share them. For one thread.

    The locks belong to the session: they end with the connection, so with the process, however that one dies.
    """

    def __init__(self, name: str, partitions: Iterable[int]) -> None:
        self.partitions = sorted(partitions)
        self.held: set[int] = set()
        self._class = zlib.crc32(f"chimera projector {name}".encode()) & 0x7FFF_FFFF
        self._session: Connection | None = None

    def renew(self, connection: Connection) -> set[int]:
        """Take a fair share and give back what is above it; what is held now.

        Call it again about every second, with the connection that rows are written with and between two transactions. On a
        new connection nothing is held any more.
        """
        if self._session is not connection:
            self._session, self.held = connection, set()
            if self._first_free(connection, SEATS, 1) == []:
                return self.held  # more projectors than seats: this one stands by
        sitting = connection.execute(
            "SELECT count(DISTINCT objid) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid >= %s AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (self._class, SEATS.start),
        ).fetchone()
        projectors = max(1, int(sitting[0]) if sitting is not None else 1)
        share = -(-len(self.partitions) // projectors)
        for partition in sorted(self.held)[share:]:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", (self._class, partition))
            self.held.discard(partition)
        free = [p for p in self.partitions if p not in self.held]
        self.held.update(self._first_free(connection, free, share - len(self.held)))
        return set(self.held)

    def _first_free(self, connection: Connection, wanted: Iterable[int], most: int) -> list[int]:
        """Lock up to `most` of `wanted`."""
        got: list[int] = []
        for number in wanted:
            if len(got) >= most:
                break
            row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (self._class, number)).fetchone()
            if row is not None and row[0]:
                got.append(number)
        return got
