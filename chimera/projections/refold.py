"""The log written once more into empty tables of its own: what a verification compares, and what a past is made of.

The rule not to break: rows are those that the live projector would make; what is loaded differs in pace alone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import NamedTuple, Self

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.read import read_until
from chimera.events.raw import RawRecord
from chimera.projections.batch import NotKept
from chimera.projections.checkpoints import open_checkpoints
from chimera.projections.engine import BATCH, Projector
from chimera.projections.pace import BULK, at_once
from chimera.projections.shares import shared_out
from chimera.projections.tuned import tuned
from chimera.projections.write import Connection

Progress = Callable[[int, int], None]
"""(records folded, records in all)."""
Write = Callable[[Connection, str, Sequence[RawRecord]], None]
Share = Mapping[int, int]
"""Partition -> up to and without which offset."""


class ProcessLost(ChimeraError):
    """A process that did a part of the refold ended without a word."""


class Place(NamedTuple):
    """What is refolded, and into which schema."""

    bootstrap: str
    dsn: str
    root_public: str
    schema: str
    topic: str


def leave_out_discarded(refolded: Connection, schema: str, scratch: str) -> None:
    """What people gave up for good is missing from every later rebuild."""
    refolded.execute(
        sql.SQL("INSERT INTO {} SELECT * FROM {}").format(sql.Identifier(scratch, "discarded"), sql.Identifier(schema, "discarded"))
    )


def refold(place: Place, upto: Share, progress: Progress) -> None:
    """The log's own models in the migrated schema, from offset 0 up to and without `upto`. Raises `ChimeraError`.

    That a row is refused or held back is seldom: only then is each record's rows kept, which costs time, from the checkpoints on.
    """
    try:
        _refold(place, upto, progress, keeps=False)
    except NotKept:
        _refold(place, upto, progress, keeps=True)


def _refold(place: Place, upto: Share, progress: Progress, *, keeps: bool) -> None:
    projector = Projector(
        place.bootstrap, place.dsn, place.root_public, schema=place.schema, topic=place.topic, partitions=upto, keeps=keeps
    )
    try:
        projector.open(live=False)
        total = sum(upto.values())
        for raws in read_until(place.bootstrap, place.topic, upto, None, upto):
            projector.take(raws, at_once(BULK, total - projector.progress.folded))
            progress(projector.progress.folded, total)
        projector.flush()
        if projector.progress.stopped:
            raise ChimeraError(f"the refold could not be written: {next(iter(projector.progress.stopped.values()))}")
    finally:
        projector.close()


def rewrite(
    refolded: Connection, bootstrap: str, scratch: str, model_set: str, topic: str, upto: Mapping[int, int], write: Write
) -> int:
    """A topic without a fold in the schema `scratch`, from offset 0 up to and without `upto`; how many records."""
    if not any(upto.values()):
        return 0
    open_checkpoints(refolded, scratch, model_set, topic, upto)
    for raws in read_until(bootstrap, topic, upto, None, upto, max_records=BATCH):
        write(refolded, scratch, raws)
    return sum(upto.values())


# --- by several processes ---------------------------------------------------------------------------------------------


def shares_of(upto: Share, processes: int) -> list[Share]:
    """The whole of it in at most so many shares; partitions without records come with the first, so that none is missing."""
    shares = [{p: upto[p] for p in share} for share in shared_out(upto, upto, processes)]
    shares[0] |= {p: 0 for p, end in upto.items() if not end}
    return list(shares)


class Hands:
    """Shares of the log refolded side by side, the first one by this process, each other one by a process of its own.

    They start when this is made, since that takes longer than making empty tables. A context manager: none outlives it, nor the
    process that made it.
    """

    def __init__(self, shares: Sequence[Share]) -> None:
        self._shares = shares
        self._others: list[tuple[BaseProcess, Pipe]] = []

    def __enter__(self) -> Self:
        spawn = get_context("spawn")  # a fork would take the locks of Kafka's client along, and not its threads
        for _ in self._shares[1:]:
            here, there = spawn.Pipe()
            process = spawn.Process(target=_hand, args=(there,), daemon=True)
            process.start()
            there.close()  # or its end would not be seen here
            self._others.append((process, here))
        return self

    def refold(self, place: Place, progress: Progress) -> None:
        """All shares into the schema, which is there now. Raises `ChimeraError` of whoever fails first, and `ProcessLost`."""
        total = sum(sum(share.values()) for share in self._shares)
        done = [0] * len(self._shares)

        def hear(n: int, wait: bool) -> None:
            process, pipe = self._others[n - 1]
            end = sum(self._shares[n].values())
            while done[n] < end and (wait or pipe.poll()):
                try:
                    said = pipe.recv()
                except EOFError as error:
                    process.join()
                    raise _lost(process) from error
                if isinstance(said, str):
                    raise ChimeraError(said)
                done[n] = said
                progress(sum(done), total)

        def tell(own: int, _: int) -> None:
            done[0] = own
            progress(sum(done), total)
            for n in range(1, len(done)):
                hear(n, wait=False)

        for (process, pipe), share in zip(self._others, self._shares[1:], strict=True):
            try:
                pipe.send((place, share))
            except BrokenPipeError as error:
                process.join()
                raise _lost(process) from error
        refold(place, self._shares[0], tell)
        for n in range(1, len(done)):
            hear(n, wait=True)

    def __exit__(self, *_: object) -> None:
        for process, pipe in self._others:
            process.terminate()
            process.join()
            pipe.close()


def _lost(process: BaseProcess) -> ProcessLost:
    return ProcessLost(
        f"a process that folded a part of the log ended with code {process.exitcode}: if it was killed for want of memory, give"
        " `--processes 1`; do it again"
    )


def _hand(pipe: Pipe) -> None:
    """Such a process: wait for a share, tell how far it is; its own failure is told as a text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who began it, and ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tuned()
    place, share = pipe.recv()
    end = sum(share.values())
    try:
        # The last word is sent when everything is written, not when it is folded.
        refold(place, share, lambda done, total: pipe.send(min(done, end - 1)))
        pipe.send(end)
    except (ChimeraError, psycopg.Error) as error:
        pipe.send(str(error).strip().splitlines()[0])
    parent = parent_process()
    if parent is not None:
        parent.join()  # it ends who is done


def _end_with_parent() -> None:
    """Even where that one was killed: it writes nothing after it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
