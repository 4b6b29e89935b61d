"""Recalling over a store: candidates by meaning and by word, opened with the keys that are still there, ranked.

The rule not to break: what cannot be opened any more is not recalled, so somebody forgotten is gone at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg

from chimera.events.notes import Kind
from chimera.events.sealed import Forgotten, Sealed, SubjectKeys, unseal
from chimera.memory.builds import Build, live, mismatch
from chimera.memory.contract import Found, MemoryAway, Query, Remembered, ranked
from chimera.memory.embedding import Embedder
from chimera.memory.store import Store
from chimera.projections.checkpoints import NOTICE_ABSENCE

CANDIDATES = 24
"""How many of each way are ranked."""
LOOK_S = 5.0
"""How often it is looked which build is live."""


class Recall:
    """`chimera.memory.contract.Memory`. Safe for several threads. `embedder` is made when it is first needed."""

    def __init__(
        self, dsn: str, store: Store, embedder: Callable[[], Embedder], keys: SubjectKeys, clock: Callable[[], float] = time.time
    ) -> None:
        self._dsn, self._store, self._make, self._keys, self._clock = dsn, store, embedder, keys, clock
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._build: Build | None = None
        self._looked = 0.0

    def recall(self, tenant: str, query: Query) -> list[Remembered]:
        """See `Memory.recall`."""
        with self._lock:
            if self._embedder is None:
                self._embedder = self._make()
        build = self._live(self._embedder.name)
        [vector] = self._embedder.embed([query.text])
        found = self._store.candidates(build.number, tenant, query, vector, CANDIDATES)
        return ranked(query, self._opened(found), int(self._clock() * 1000))

    def kinds(self, tenant: str, agent: str) -> frozenset[Kind]:
        """See `Memory.kinds`. No model is needed for it."""
        build = self._live(None)
        return self._store.kinds(build.number, tenant, agent)

    def show(self, tenant: str, note: str) -> Remembered | None:
        """One note of a tenant by its id; None where there is none that can be opened."""
        found = self._store.get(self._live(None).number, tenant, note)
        return next((Remembered(each, text, 1.0, {}) for each, text in self._opened([found] if found is not None else [])), None)

    def close(self) -> None:
        """Let the store's connections go."""
        self._store.close()

    def _opened(self, found: list[Found]) -> list[tuple[Found, str]]:
        opened = []
        for note in found:
            try:
                opened.append((note, unseal(self._keys, Sealed.model_validate(note.sealed))))
            except Forgotten:
                continue
        return opened

    def _live(self, embedder: str | None) -> Build:
        with self._lock:
            if self._build is None or time.monotonic() - self._looked > LOOK_S:
                try:
                    with psycopg.connect(self._dsn, autocommit=True, **NOTICE_ABSENCE) as connection:
                        self._build = live(connection)
                except psycopg.Error as error:
                    raise MemoryAway(f"PostgreSQL does not answer: {str(error).splitlines()[0]}") from error
                self._looked = time.monotonic()
            build = self._build
        if build is None:
            raise MemoryAway("nothing is remembered yet: the projector makes memory when it runs")
        if build.store != self._store.kind or embedder not in (None, build.embedder):
            raise mismatch(build, self._store.kind, embedder or build.embedder)
        return build
