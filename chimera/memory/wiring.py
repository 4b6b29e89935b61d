"""Settings in, memory out: the one place where store, embedding and keys come together.

The rule not to break: nothing is loaded before it is needed. A process that never recalls holds no model.
"""

from __future__ import annotations

from functools import cache, partial

from chimera.commands.subjects import KEYS, SubjectKeyFiles
from chimera.memory.embedding import Embedder, embedder
from chimera.memory.pgvector import PgVector
from chimera.memory.projector import Follower
from chimera.memory.recall import Recall
from chimera.memory.store import Store
from chimera.settings import Settings


def store_in(settings: Settings, dsn: str) -> Store | None:
    """Where notes lie; None where the settings say that nothing is to be remembered."""
    return None if settings.memory == "off" else PgVector(dsn)


def follower(settings: Settings, bootstrap: str, dsn: str) -> Follower | None:
    """What keeps notes, for the projector."""
    store = store_in(settings, dsn)
    keys = SubjectKeyFiles(settings.home / KEYS)
    return None if store is None else Follower(bootstrap, dsn, store, partial(_embedder, settings.embedding), keys, keys.gone)


def recall(settings: Settings, dsn: str) -> Recall | None:
    """What recalls, for whoever asks."""
    store = store_in(settings, dsn)
    keys = SubjectKeyFiles(settings.home / KEYS)
    return None if store is None else Recall(dsn, store, partial(_embedder, settings.embedding), keys)


@cache
def _embedder(name: str) -> Embedder:
    """One for each process: a model takes 300 MB. A failure is not kept."""
    return embedder(name)
