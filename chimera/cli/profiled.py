"""The profiles of this installation for verbs: read, picked by name, and their servers asked what they list.

The rule not to break: what is launched to be asked lives in a folder of its own and ends with the question; no tool is called.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from chimera.cli import output
from chimera.errors import ChimeraError
from chimera.mcp.profiles import PROFILES_DIR, Profile, Profiles, load_profiles
from chimera.mcp.spec import ProfileError
from chimera.settings import Settings
from chimera.stack import addresses as stack_addresses


def profiles_of(settings: Settings) -> Profiles:
    """All profiles, with the providers that the settings choose. Raises ChimeraError."""
    try:
        return load_profiles(settings.profiles or PROFILES_DIR, providers=settings.providers)
    except ProfileError as error:
        raise ChimeraError(str(error)) from error


def one(profiles: Profiles, name: str) -> Profile:
    """The profile of that name, or a word on how to call it."""
    if name not in profiles.by_name:
        raise output.usage(f"there is no profile '{name}': use one of {', '.join(sorted(profiles.by_name))}")
    return profiles.by_name[name]


def path_of(settings: Settings, name: str) -> Path:
    """The file of a profile."""
    return (settings.profiles or PROFILES_DIR) / f"{name}.yaml"


def named(settings: Settings, names: list[str] | None) -> list[str]:
    """The profiles that were named; else those that this installation uses."""
    profiles = profiles_of(settings)
    for name in names or []:
        one(profiles, name)
    played = set(profiles.chosen.values()) | {"x", "feeds", "writer", "instagram"}
    played |= {"embeddings"} if settings.embedding == "endpoint" else set()
    return names or sorted(played & set(profiles.by_name))


def addresses(settings: Settings) -> dict[str, str]:
    """`NAME_url` -> where the MCP servers of this installation are: those that run here, and those that the settings name."""
    running = stack_addresses.running_stack(settings.home).get("mcp", {})
    return {f"{name}_url": url for name, url in {**running, **stack_addresses.mcp_overrides(settings)}.items()}


def asked(ask: Callable[[Path, Path], Coroutine[Any, Any, Any]], settings: Settings, name: str) -> Any:
    """What a profile's server says. What is launched for it lives in a folder of its own. Raises ChimeraError."""
    one(profiles_of(settings), name)
    with tempfile.TemporaryDirectory() as home:
        try:
            return asyncio.run(ask(path_of(settings, name), Path(home)))
        except ProfileError as error:
            raise ChimeraError(str(error)) from error
