"""The connection that rows are written over: PostgreSQL that is away is waited for.

The rule not to break: only an outage is waited out; what the database says of the rows themselves goes to who wrote them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import psycopg

from chimera.errors import ChimeraError
from chimera.projections.checkpoints import connect
from chimera.projections.write import Connection

log = logging.getLogger(__name__)

FIRST_S, LONGEST_S = 0.1, 5.0
Answer = TypeVar("Answer")


class Stopped(ChimeraError):
    """The projector was told to stop before it could write."""


class Patient:
    """One connection at a time, made anew where it was lost. Not for two threads at once.

    `tell` is told what is waited for just now ('' = nothing); `prepare` is done to each new connection.
    """

    def __init__(self, dsn: str, stop: threading.Event, tell: Callable[[str], None], prepare: Callable[[Connection], None]) -> None:
        self._dsn, self._stop, self._tell, self._prepare = dsn, stop, tell, prepare
        self._connection: Connection | None = None
        self.new = False
        """Nobody has looked yet whether the database holds what was written over the connection before."""

    def do(self, work: Callable[[Connection], Answer]) -> Answer:
        """`work(connection)`; while Postgres is away, wait and try again (0.1 s, doubling to 5 s) until told to stop.

        Raises `Stopped`, and what `work` raises that waiting cannot heal.
        """
        delay = FIRST_S
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(self._dsn)
                    self.new = True
                    self._prepare(self._connection)
                answer = work(self._connection)
                self._tell("")
                return answer
            except psycopg.OperationalError as error:
                if (error.sqlstate or "").startswith("54"):  # a limit of Postgres, such as too long an index entry: not an outage
                    raise
                away = f"Postgres: {str(error).splitlines()[0]}"
                self._tell(away)
                log.warning("%s; trying again in %.1f s", away, delay)
                self.close()
                if self._stop.wait(delay):
                    raise Stopped("told to stop while waiting for Postgres; what was not written will be folded again") from error
                delay = min(delay * 2, LONGEST_S)

    def close(self) -> None:
        """Let the connection go; the next `do` makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
