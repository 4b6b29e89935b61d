"""Settings in, episodes out: the one place where server, limits and keys come together.

The rule not to break: without a server nothing is kept and nothing is missed: whoever asks is told that there is none.
"""

from __future__ import annotations

from chimera.commands.keys import load_installation
from chimera.commands.subjects import KEYS, SubjectKeyFiles
from chimera.memory.episodes.contract import Episodes, Limits
from chimera.memory.episodes.projector import Follower, Sources
from chimera.memory.episodes.valkey import Server, Valkey
from chimera.settings import Settings
from chimera.stack.valkey import KEY, address_in

OFF = "off"


def limits_in(settings: Settings) -> Limits:
    """How much is kept."""
    return Limits(settings.cache_last, int(settings.cache_days * 86_400_000))


def server_in(settings: Settings) -> Server | None:
    """Where episodes lie; None where they are off, or the settings name no server and the local stack has none."""
    if settings.cache == OFF:
        return None
    space = f"chimera:{load_installation(settings.home).installation}"
    if settings.cache is not None:
        return Server(settings.cache, settings.cache_key_file, space)
    local = address_in(settings.home)
    return None if local is None else Server(local, settings.home / KEY, space)


def follower(settings: Settings, bootstrap: str, dsn: str) -> Follower | None:
    """What keeps episodes, for the projector."""
    server, limits = server_in(settings), limits_in(settings)
    if server is None:
        return None
    keys = SubjectKeyFiles(settings.home / KEYS)
    return Follower(Sources(bootstrap, dsn, keys, keys.gone), Valkey(server, limits), limits)


def episodes(settings: Settings) -> Episodes | None:
    """What is asked."""
    server = server_in(settings)
    return None if server is None else Episodes(Valkey(server, limits_in(settings)), SubjectKeyFiles(settings.home / KEYS))
