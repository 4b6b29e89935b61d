"""`chimera.notes` as memory: opened, embedded, kept, and forgotten with whoever is forgotten. No fold.

The rules not to break: notes and checkpoint move together, so a crash repeats and loses nothing; what cannot be opened any more is
neither kept nor left.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import psycopg

from chimera import failpoints
from chimera.eventlog.read import Reader, end_offsets
from chimera.eventlog.topics import KafkaUnavailable
from chimera.events.notes import TOPIC, BadNote, decode
from chimera.events.raw import RawRecord
from chimera.events.sealed import Forgotten, KeysAtHand, SubjectKeys, unseal
from chimera.memory.builds import SCHEMA, Build, live, opened, unfinished
from chimera.memory.contract import MemoryAway
from chimera.memory.embedding import Embedder
from chimera.memory.store import Row, Store
from chimera.projections.batch import Stretch
from chimera.projections.checkpoints import connect, open_checkpoints
from chimera.projections.leases import Leases
from chimera.projections.write import Connection, Moved, move_checkpoints

log = logging.getLogger(__name__)

BATCH = 256
"""Notes in one transaction: embedding so many takes about a second."""
GATHER_MS = 1_000
"""Remembering is in no hurry: what comes within so long after a batch is one transaction, which costs more than its notes do."""
SWEEP_S = 2.0
"""How often whoever was forgotten is looked for."""
LONGEST_PAUSE_S = 30.0
Gone = Callable[[], set[str]]
"""The subjects whose keys were destroyed, as `subject_key` names them."""


class Made(NamedTuple):
    """Records as what is kept."""

    stretches: list[Stretch]
    rows: list[Row]


def made_of(raws: Sequence[RawRecord], embedder: Embedder, keys: SubjectKeys) -> Made:
    """Rows of records in order. What nobody can read is counted; what nobody may open any more is passed over."""
    stretches: dict[int, Stretch] = {}
    opened_notes = []
    at_hand = KeysAtHand(keys)
    for raw in raws:
        stretch = stretches.get(raw.partition)
        if stretch is None:
            stretch = stretches[raw.partition] = Stretch(raw.topic, raw.partition, raw.offset, raw.offset)
        stretch.end, stretch.last_append_ts, stretch.records = raw.offset + 1, raw.append_ts, stretch.records + 1
        try:
            note = decode(raw.key, raw.value)
            uuid.UUID(note.id)  # what stores know it by
            opened_notes.append((note, unseal(at_hand, note.text), (raw.partition, raw.offset)))
        except Forgotten:
            continue
        except (BadNote, ValueError) as error:
            stretch.unreadable += 1
            log.warning("%s[%d]%d is no note: %s", raw.topic, raw.partition, raw.offset, error)
    vectors = embedder.embed([text for _, text, _ in opened_notes])
    rows = [
        Row(note, f"{note.source.title if note.source is not None else ''} {text}".replace("\0", ""), vector, at)
        for (note, text, at), vector in zip(opened_notes, vectors, strict=True)
    ]
    return Made([stretches[p] for p in sorted(stretches)], rows)


def write(connection: Connection, store: Store, build: Build, made: Made, keys: SubjectKeys, *, held: bool = True) -> None:
    """Keep what was read, with the checkpoints. Raises `Moved` where somebody else did, or another build is live by now."""
    with connection.transaction():
        if held and live(connection, hold=True) != build:
            raise Moved(f"build {build.number} of memory is not the live one any more")
        move_checkpoints(connection, SCHEMA, build.model_set, made.stretches).check()
        failpoints.here("memory.moved", psycopg.OperationalError)
        # Looked at once more: whoever was forgotten while this was embedded was swept before it was there.
        there = {subject for subject in {row.note.text.subject for row in made.rows} if keys.known_key(subject) is not None}
        store.put(connection, build.number, [row for row in made.rows if row.note.text.subject in there])
        failpoints.here("memory.put", psycopg.OperationalError)


class Follower:
    """The follower of one process, for its own thread.

    Args:
        gone: the subjects whose keys were destroyed.
    """

    def __init__(
        self,
        bootstrap: str,
        dsn: str,
        store: Store,
        embedder: Callable[[], Embedder],
        keys: SubjectKeys,
        gone: Gone,
        *,
        topic: str = TOPIC,
    ) -> None:
        self._bootstrap, self._dsn, self._topic = bootstrap, dsn, topic
        self._store, self._embedder, self._keys, self._gone = store, embedder, keys, gone
        self.trouble = ""
        """What keeps agents from remembering; "" while nothing does."""
        self._swept: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Until told to stop. Trouble is answered by reading on from the checkpoints, later each time."""
        _stand_back()
        delay = 0.2
        while not stop.is_set():
            connection: Connection | None = None
            try:
                embedder = self._embedder()
                connection = connect(self._dsn)
                build = opened(connection, self._store, embedder)
                lease = Leases(f"{SCHEMA} {self._topic}", [0])
                while not lease.renew(connection) and not stop.is_set():
                    stop.wait(1.0)
                self._follow(connection, build, embedder, stop)
                delay = 0.2
            except Moved as moved:
                log.info("%s: %s; going on with what is", self._topic, moved)
            except (KafkaUnavailable, MemoryAway, psycopg.Error) as error:
                said = str(error).splitlines()[0]
                if said != self.trouble:
                    log.warning("%s: %s; starting over from the checkpoints, every %.1f s and later", self._topic, said, delay)
                self.trouble = said
                stop.wait(delay)
                delay = min(delay * 2, LONGEST_PAUSE_S)
            finally:
                if connection is not None:
                    connection.close()

    def _follow(self, connection: Connection, build: Build, embedder: Embedder, stop: threading.Event) -> None:
        ends = end_offsets(self._bootstrap, self._topic)
        start = open_checkpoints(connection, SCHEMA, build.model_set, self._topic, ends)
        self._swept = set()
        self.trouble = ""
        with Reader(self._bootstrap, self._topic, start, client_id="chimera-projector-notes", gather_ms=GATHER_MS) as reader:
            while not stop.is_set():
                raws = reader.read(BATCH, SWEEP_S)
                if raws:
                    write(connection, self._store, build, made_of(raws, embedder, self._keys), self._keys)
                elif live(connection) != build:
                    raise Moved(f"build {build.number} of memory is not the live one any more")
                else:
                    self._store.kinds(build.number, "", "")  # a store that is away is noticed before there is something to keep
                self._swept = sweep(connection, self._store, every(connection, build), self._gone, self._swept)


def every(connection: Connection, build: Build) -> list[Build]:
    """The live build and those of its store that nobody reads: they hold what people said, too."""
    return [build, *(each for each in unfinished(connection) if each.store == build.store)]


def sweep(connection: Connection, store: Store, of: Sequence[Build], gone: Gone, before: set[str]) -> set[str]:
    """Take out of builds what is kept of those who were forgotten since `before`. -> all who are forgotten."""
    now = gone()
    new = now - before
    if new:
        with connection.transaction():
            count = sum(store.forget(connection, build.number, new) for build in of)
        if count:
            log.info("%d notes of %d forgotten subjects are gone from memory", count, len(new))
    return now


def catch_up(
    connection: Connection,
    store: Store,
    build: Build,
    embedder: Embedder,
    keys: SubjectKeys,
    bootstrap: str,
    *,
    topic: str = TOPIC,
    tell: Callable[[int], None] = lambda _: None,
    upto: Mapping[int, int] | None = None,
) -> int:
    """Bring a build that nobody else writes up to the end of the topic as it is now, or to `upto`; how many notes were read.

    `tell` is told how many are left. Raises `MemoryAway`, `KafkaUnavailable` and what Kafka's reader raises.
    """
    ends = dict(upto) if upto is not None else end_offsets(bootstrap, topic)
    start = open_checkpoints(connection, SCHEMA, build.model_set, topic, ends)
    left = sum(ends[p] - start[p] for p in ends)
    done = 0
    with Reader(bootstrap, topic, start, client_id="chimera-memory-build") as reader:
        while any(reader.positions[p] < end for p, end in ends.items()):
            raws = [raw for raw in reader.read(BATCH, 1.0) if raw.offset < ends[raw.partition]]
            if raws:
                write(connection, store, build, made_of(raws, embedder, keys), keys, held=False)
                done += len(raws)
                tell(max(0, left - done))
    return done


def _stand_back() -> None:
    """Remembering is in no hurry: the thread that embeds takes what the others leave of the machine."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    except OSError as error:  # a system that knows no priorities of threads
        log.info("memory is embedded at full priority: %s", error)
