"""A build of memory beside the live one: made or gone on with, compared, swapped in, gone back to, dropped.

The rules not to break: the live one goes on until the swap; two builds are compared at the same place of the topic, while nobody
writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from chimera.eventlog.read import end_offsets
from chimera.events.hashes import digest
from chimera.events.notes import TOPIC
from chimera.events.sealed import SubjectKeys
from chimera.memory import builds
from chimera.memory.builds import SCHEMA, Build
from chimera.memory.contract import MemoryAway
from chimera.memory.embedding import Embedder
from chimera.memory.projector import Gone, catch_up, sweep
from chimera.memory.store import Store
from chimera.projections.checkpoints import checkpoints
from chimera.projections.write import Connection

PAUSE_S = 0.5
"""How often it is looked whether the live build stands where another does."""
Tell = Callable[[int], None]
"""Is told how many notes are left."""


class Hands(NamedTuple):
    """What builds are made with. `gone`: the subjects whose keys were destroyed."""

    bootstrap: str
    store: Store
    embedder: Embedder
    keys: SubjectKeys
    gone: Gone
    topic: str = TOPIC


class Compared(NamedTuple):
    """What the live build and another hold. `differ`: notes that one lacks or that differ; `first`: ids of some of them."""

    live: int
    build: int
    live_notes: int
    build_notes: int
    differ: int
    first: tuple[str, ...]


def behind(connection: Connection, bootstrap: str, build: Build, topic: str = TOPIC) -> int:
    """Notes that are not in a build yet."""
    row = connection.execute(
        "SELECT coalesce(sum(next_offset), 0)::bigint FROM memory.checkpoints WHERE model_set = %s", (build.model_set,)
    ).fetchone()
    return max(0, sum(end_offsets(bootstrap, topic).values()) - (int(row[0]) if row is not None else 0))


def newest(connection: Connection, hands: Hands) -> Build | None:
    """The build that was begun after the live one and can be gone on with; None where there is none."""
    live = builds.live(connection)
    mine = [b for b in builds.unfinished(connection) if (b.store, b.embedder) == (hands.store.kind, hands.embedder.name)]
    return next((b for b in reversed(mine) if live is None or b.number > live.number), None)


def before(connection: Connection, hands: Hands) -> Build | None:
    """The build that was live before; None where none is kept that these can read."""
    live = builds.live(connection)
    mine = [b for b in builds.unfinished(connection) if (b.store, b.embedder) == (hands.store.kind, hands.embedder.name)]
    return next((b for b in reversed(mine) if live is not None and b.number < live.number), None)


def made(connection: Connection, hands: Hands, tell: Tell = lambda _: None) -> tuple[Build, int]:
    """A build up to where the topic ends now, begun or gone on with; and how many notes were read. Raises `MemoryAway`."""
    build = newest(connection, hands) or builds.begin(connection, hands.store, hands.embedder)
    return build, caught_up(connection, hands, build, tell)


def caught_up(connection: Connection, hands: Hands, build: Build, tell: Tell = lambda _: None) -> int:
    """Bring a build that nobody reads to the topic's end, without those who are forgotten; how many notes were read."""
    # Twice: what came while the first part was read is little.
    done = _read(connection, hands, build, tell) + _read(connection, hands, build)
    sweep(connection, hands.store, [build], hands.gone, set())
    return done


def compared(
    connection: Connection, guard: Connection, hands: Hands, build: Build, *, patience_s: float = 60.0, most: int = 5
) -> Compared:
    """Both at the place of the topic where the live one is, while nobody writes that: `guard`, another connection, sees to it.

    Raises `MemoryAway` where the live one lies elsewhere, or does not come to where the build is in time.
    """
    until = time.monotonic() + patience_s
    while True:
        with guard.transaction():
            guard.execute("LOCK TABLE memory.builds IN EXCLUSIVE MODE")
            live = builds.live(guard)
            if live is None or live.store != hands.store.kind:
                raise MemoryAway("no live memory lies in this store: there is nothing to compare with")
            there, here = (checkpoints(connection, SCHEMA, each.model_set, hands.topic) for each in (live, build))
            if all(offset <= there.get(p, 0) for p, offset in here.items()):
                _read(connection, hands, build, upto=there)
                sweep(connection, hands.store, [live, build], hands.gone, set())
                return _difference(hands.store, live, build, most)
        if time.monotonic() > until:
            missing = behind(connection, hands.bootstrap, live, hands.topic)
            raise MemoryAway(f"the live memory is still {missing} notes behind: does the projector run (`chimera doctor`)?")
        time.sleep(PAUSE_S)


def _read(
    connection: Connection, hands: Hands, build: Build, tell: Tell = lambda _: None, upto: Mapping[int, int] | None = None
) -> int:
    return catch_up(
        connection, hands.store, build, hands.embedder, hands.keys, hands.bootstrap, topic=hands.topic, tell=tell, upto=upto
    )


def _difference(store: Store, live: Build, build: Build, most: int) -> Compared:
    mine, others = ({note.id: digest(repr(note)) for note in store.contents(each.number)} for each in (live, build))
    differ = sorted(note for note in mine.keys() | others.keys() if mine.get(note) != others.get(note))
    return Compared(live.number, build.number, len(mine), len(others), len(differ), tuple(differ[:most]))


def swapped(connection: Connection, hands: Hands, build: Build, tell: Tell = lambda _: None) -> Build | None:
    """Make it the live one, caught up. -> the one before, which stays as it is until it is gone back to or dropped."""
    caught_up(connection, hands, build, tell)
    return builds.swap(connection, build)
