"""Following what counted and what was noted, into a store of episodes: the loop of one process, beside the read models.

The rules not to break: only a fold knows what counted, so the log is read as the read model of events has it, never ahead of it;
any trouble is answered by reading on from the checkpoints that the store itself holds, later each time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import psycopg

from chimera.eventlog.moments import offsets_after
from chimera.eventlog.offsets import ReadFailed
from chimera.eventlog.read import CheckpointAhead, Reader, end_offsets
from chimera.eventlog.topics import KafkaUnavailable
from chimera.events.notes import TOPIC as NOTES
from chimera.events.notes import BadNote, decode
from chimera.events.sealed import SubjectKeys
from chimera.memory.contract import MemoryAway
from chimera.memory.episodes.contract import Clock, Limits, Moved, Place, Row, Store, now_ms
from chimera.memory.episodes.rows import counted, row_of, rows_of
from chimera.projections.checkpoints import LOG, MODEL_SET, checkpoints, connect
from chimera.projections.leases import Leases
from chimera.projections.write import Connection

log = logging.getLogger(__name__)

BATCH = 5_000
"""Records of the log in one step, and notes in one step."""
LOOK_S = 0.5
"""How often it is looked what the read models have that is new."""
BUSY_LOOK_S, BUSY = 2.0, 250
"""The same while a look finds so many: each list that something came for costs three commands, however much it was."""
SWEEP_S = 2.0
"""How often whoever was forgotten is looked for: it is a look at every key's file."""
LONGEST_PAUSE_S = 30.0
Gone = Callable[[], set[str]]


class Sources(NamedTuple):
    """Where what is kept comes from. `keys` say whose words may still be opened, `gone` whose were destroyed (as `subject_key`)."""

    bootstrap: str
    dsn: str
    keys: SubjectKeys
    gone: Gone
    notes: str = NOTES
    log: str = LOG


class Reading:
    """One reading of the sources into a store, from where that stands; a context manager, for one thread.

    Raises what reading raises, `Moved`, `MemoryAway` and `psycopg.Error`.
    """

    def __init__(self, sources: Sources, store: Store, limits: Limits, connection: Connection, clock: Clock = now_ms) -> None:
        self._sources, self._store, self._limits, self._clock = sources, store, limits, clock
        self._connection = connection
        self._at = _opened(sources, store, limits, clock)
        self._swept = store.swept()
        self._sweep_at = 0.0
        notes = {p: offset for (topic, p), offset in self._at.items() if topic == sources.notes}
        self._reader = Reader(sources.bootstrap, sources.notes, notes, client_id="chimera-projector-episodes", gather_ms=200)

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def step(self, wait_s: float = LOOK_S) -> int:
        """Keep what is new, waiting so long for a note; how many records and notes were read."""
        to, rows = self._events()
        if to:
            wait_s = 0.0
        raws = self._reader.read(BATCH, wait_s)
        for raw in raws:
            to[self._sources.notes, raw.partition] = raw.offset + 1
            try:
                rows.append(row_of(decode(raw.key, raw.value), (raw.partition, raw.offset), raw.append_ts))
            except BadNote as error:
                log.warning("%s[%d]%d is no note: %s", raw.topic, raw.partition, raw.offset, error)
        read = sum(offset - self._at[place] for place, offset in to.items())
        if to:
            there = {
                subject
                for subject in {row.subject for row in rows}
                if subject and self._sources.keys.known_key(subject) is not None
            }
            moves = {place: (self._at[place], offset) for place, offset in to.items()}
            self._store.write(moves, [row for row in rows if not row.subject or row.subject in there])
            self._at |= to
        elif self._store.checkpoints() != self._at:  # nothing else would tell that a server came back empty
            raise Moved("episodes do not stand where they were left: they were lost")
        self._sweep()
        return read

    def behind(self) -> int:
        """How much there is now that is not read yet."""
        ends = {(self._sources.notes, p): end for p, end in end_offsets(self._sources.bootstrap, self._sources.notes).items()}
        written = checkpoints(self._connection, "core", MODEL_SET, self._sources.log)
        ends |= {(self._sources.log, p): end for p, end in written.items()}
        return sum(max(0, end - self._at[place]) for place, end in ends.items())

    def _events(self) -> tuple[dict[Place, int], list[Row]]:
        """What the read models have that is new, and up to where."""
        written = checkpoints(self._connection, "core", MODEL_SET, self._sources.log)
        new = {p: (self._at[self._sources.log, p], end) for p, end in written.items() if end > self._at[self._sources.log, p]}
        most = BATCH // max(1, len(new))
        stretches = {p: (begin, min(end, begin + most)) for p, (begin, end) in new.items()}
        if not stretches:
            return {}, []
        found = counted(self._connection, stretches, self._clock() - self._limits.ttl_ms)
        return {(self._sources.log, p): end for p, (_, end) in stretches.items()}, rows_of(found)

    def _sweep(self) -> None:
        """Take out what is kept of those who were forgotten meanwhile: after what was read of them just now."""
        if time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + SWEEP_S
        new = self._sources.gone() - self._swept
        if new:
            count = self._store.forget(new)
            self._swept |= new
            if count:
                log.info("%d rows of %d forgotten subjects are gone from the episodes", count, len(new))


def _opened(sources: Sources, store: Store, limits: Limits, clock: Clock) -> dict[Place, int]:
    """Where the store stands; an empty one begins where what is young enough begins."""
    ends: Mapping[Place, int] = {
        (topic, p): end for topic in (sources.log, sources.notes) for p, end in end_offsets(sources.bootstrap, topic).items()
    }
    at = store.checkpoints()
    if at.keys() == ends.keys() and all(at[place] <= end for place, end in ends.items()):
        return at
    since = max(0, clock() - limits.ttl_ms)
    begin = {
        (topic, p): offset
        for topic in (sources.log, sources.notes)
        for p, offset in offsets_after(sources.bootstrap, topic, since).items()
    }
    log.info("episodes are made anew from what is younger than %.1f days", limits.ttl_ms / 86_400_000)
    store.begin(begin)
    return begin


class Follower:
    """The follower of one process, for its own thread."""

    def __init__(self, sources: Sources, store: Store, limits: Limits, clock: Clock = now_ms) -> None:
        self._sources, self._store, self._limits, self._clock = sources, store, limits, clock
        self.trouble = ""
        """What keeps episodes from being kept up; "" while nothing does."""

    def run(self, stop: threading.Event) -> None:
        """Until told to stop."""
        delay = 0.2
        while not stop.is_set():
            connection: Connection | None = None
            try:
                connection = connect(self._sources.dsn)
                lease = Leases(f"episodes {self._sources.notes}", [0])
                while not lease.renew(connection) and not stop.is_set():
                    stop.wait(1.0)
                with Reading(self._sources, self._store, self._limits, connection, self._clock) as reading:
                    while not stop.is_set():
                        read = reading.step(0.0)
                        self.trouble, delay = "", 0.2
                        if read < BATCH // 2:  # what comes meanwhile is one transaction: nobody is in a hurry for it
                            stop.wait(LOOK_S if read < BUSY else BUSY_LOOK_S)
            except (Moved, CheckpointAhead) as moved:
                log.info("%s; going on with what is", moved)
                stop.wait(delay)
            except (KafkaUnavailable, ReadFailed, MemoryAway, psycopg.Error) as error:
                said = str(error).splitlines()[0]
                if said != self.trouble:
                    log.warning("episodes: %s; starting over from their checkpoints, every %.1f s and later", said, delay)
                self.trouble = said
                stop.wait(delay)
                delay = min(delay * 2, LONGEST_PAUSE_S)
            finally:
                if connection is not None:
                    connection.close()
                self._store.close()


def catch_up(sources: Sources, store: Store, limits: Limits, clock: Clock = now_ms) -> int:
    """Bring a store that nobody else writes up to what there is; how many records and notes were read. Raises as `Reading`."""
    done = 0
    with connect(sources.dsn) as connection, Reading(sources, store, limits, connection, clock) as reading:
        while reading.behind():
            done += reading.step()
    return done
