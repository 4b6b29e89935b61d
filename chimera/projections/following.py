"""Reading a topic that needs no fold and writing what it says: one loop for calls and for platform numbers.

The rule not to break: any trouble is answered by reading on from the checkpoints in Postgres, later each time; nothing is skipped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg

from chimera import failpoints
from chimera.eventlog.read import Reader, end_offsets
from chimera.eventlog.topics import KafkaUnavailable
from chimera.events.raw import RawRecord
from chimera.projections.checkpoints import connect, open_checkpoints
from chimera.projections.leases import LOOK_S, Leases
from chimera.projections.write import REFUSED, Connection, Moved

log = logging.getLogger(__name__)

Made = TypeVar("Made")


BUSY = 32


class Side(NamedTuple, Generic[Made]):
    """A topic beside the log, and how its records become rows.

    `batch`: records in one transaction at most. `made` is pure and runs while the batch before is written. `gather_ms`: how long
    after an answer the broker is asked again; `together_s`: what comes so soon after the first is of one transaction, and
    `together_busy_s` the same while transactions have `BUSY` records or more, none of which is waited for: what a transaction costs
    depends little on how few share it. `tidy`: what who writes the rows does to them besides, every `tidy_s`.
    """

    model_set: str
    batch: int
    made: Callable[[Sequence[RawRecord]], Made]
    write: Callable[[Connection, str, Made], None]
    gather_ms: int = 0
    together_s: float = 0.0
    together_busy_s: float = 0.0
    tidy: Callable[[Connection, str], object] | None = None
    tidy_s: float = 0.0


def follow(side: Side[Made], bootstrap: str, dsn: str, stop: threading.Event, *, schema: str, topic: str) -> None:
    """Project until told to stop: also where the schema takes no row at all, until somebody mends it."""
    delay = 0.1
    while not stop.is_set():
        connection: Connection | None = None
        writer = ThreadPoolExecutor(1, thread_name_prefix=f"{side.model_set}-write")
        try:
            connection = connect(dsn)
            lease = Leases(f"{schema} {side.model_set} {topic}", [0])  # one process is enough: there is nothing to fold
            while not lease.renew(connection) and not stop.is_set():
                stop.wait(1.0)
            start = open_checkpoints(connection, schema, side.model_set, topic, end_offsets(bootstrap, topic))
            client = f"chimera-projector-{side.model_set}"
            with Reader(bootstrap, topic, start, client_id=client, gather_ms=side.gather_ms) as reader:
                delay, look_at = 0.1, time.monotonic() + LOOK_S
                writing: Future[Any] | None = None
                tidy_at = time.monotonic()
                raws: list[RawRecord] = []
                while not stop.is_set():
                    raws = _read(side, reader, stop, busy=len(raws) >= BUSY)
                    if raws:
                        failpoints.here("beside.read", psycopg.OperationalError)
                    made = side.made(raws) if raws else None
                    if writing is not None:
                        writing.result()
                        failpoints.here("beside.written", psycopg.OperationalError)
                    writing = None if made is None else writer.submit(side.write, connection, schema, made)
                    if side.tidy is not None and time.monotonic() >= tidy_at:
                        if writing is not None:
                            writing.result()
                        writing = writer.submit(side.tidy, connection, schema)
                        tidy_at = time.monotonic() + side.tidy_s
                    if writing is None and time.monotonic() >= look_at:
                        lease.renew(connection)  # raises once the server was killed: its last commits may be gone, unheard of
                        look_at = time.monotonic() + LOOK_S
                if writing is not None:
                    writing.result()
        except (Moved, KafkaUnavailable, psycopg.OperationalError, *REFUSED) as error:
            log.warning("%s: %s; starting over from the checkpoints in %.1f s", topic, str(error).splitlines()[0], delay)
            stop.wait(delay)
            delay = min(delay * 2, 5.0)
        finally:
            writer.shutdown()
            if connection is not None:
                connection.close()


def _read(side: Side[Made], reader: Reader, stop: threading.Event, *, busy: bool) -> list[RawRecord]:
    raws = reader.read(side.batch, 0.25)
    together_s = max(side.together_s, side.together_busy_s) if busy else side.together_s
    if raws and together_s and len(raws) < side.batch:
        stop.wait(together_s)
        raws += reader.read(side.batch - len(raws), 0)
    return raws
