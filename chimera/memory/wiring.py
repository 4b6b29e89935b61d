"""Settings in, memory out: the one place where store, embedding and keys come together.

The rule not to break: nothing is loaded before it is needed. A process that never recalls holds no model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from urllib.parse import urlsplit

from chimera.commands.subjects import KEYS, SubjectKeyFiles
from chimera.memory.contract import MemoryAway
from chimera.memory.embedding import Embedder, embedder
from chimera.memory.pgvector import PgVector
from chimera.memory.projector import Follower
from chimera.memory.recall import Recall
from chimera.memory.store import Store
from chimera.memory.weaviate import Place, Weaviate
from chimera.settings import Settings
from chimera.stack.weaviate import KEY, address_in


def store_in(settings: Settings, dsn: str) -> Store | None:
    """Where notes lie; None where the settings say that nothing is to be remembered."""
    return None if settings.memory == "off" else store_called(settings.memory, settings, dsn)


def store_called(kind: str, settings: Settings, dsn: str) -> Store:
    """The store of that kind, whether notes are to lie there now or lay there once."""
    return Weaviate(partial(_place, settings)) if kind == "weaviate" else PgVector(dsn)


def _place(settings: Settings) -> Place:
    """Where Weaviate is. Raises `MemoryAway` where neither the settings nor a local server say so."""
    if settings.weaviate is not None:
        host = urlsplit(settings.weaviate).hostname
        return Place(settings.weaviate, settings.weaviate_grpc or f"{host}:50051", settings.weaviate_key_file)
    local = address_in(settings.home)
    if local is None:
        raise MemoryAway("memory is to lie in Weaviate and none is known: `chimera stack add weaviate`, or set CHIMERA_WEAVIATE")
    return Place(*local, settings.home / KEY)


Make = Callable[[], Embedder]
"""Brings the embedder of the setting `endpoint`: who wires a process that may reach it hands it in. Raises `MemoryAway`."""


def follower(settings: Settings, bootstrap: str, dsn: str, make: Make | None = None) -> Follower | None:
    """What keeps notes, for the projector."""
    store = store_in(settings, dsn)
    keys = SubjectKeyFiles(settings.home / KEYS)
    return None if store is None else Follower(bootstrap, dsn, store, embedder_of(settings, make), keys, keys.gone)


def recall(settings: Settings, dsn: str, make: Make | None = None) -> Recall | None:
    """What recalls, for whoever asks."""
    store = store_in(settings, dsn)
    keys = SubjectKeyFiles(settings.home / KEYS)
    return None if store is None else Recall(dsn, store, embedder_of(settings, make), keys)


def embedder_of(settings: Settings, make: Make | None = None) -> Make:
    """How this process makes its vectors, once."""
    return cache(make) if settings.embedding == "endpoint" and make is not None else partial(_embedder, settings.embedding)


@cache
def _embedder(name: str) -> Embedder:
    """One for each process: a model takes 300 MB. A failure is not kept."""
    return embedder(name)
