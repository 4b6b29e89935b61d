"""Pins: the tools of a server as a person has accepted them, kept beside the profile's file and read anew while processes run."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chimera.mcp.spec import ProfileError

PINS_LOOK_S = 0.5
"""Pins are looked at again no sooner than so many seconds later."""

log = logging.getLogger(__name__)


def tool_sha256(tool: Mapping[str, Any]) -> str:
    """Hash of a tool as listed (`model_dump(by_alias=True, exclude_none=True)`); key order differs by wire era, so sorted."""
    return hashlib.sha256(json.dumps(tool, sort_keys=True).encode()).hexdigest()


def closed(schema: Any) -> Any:
    """The same JSON Schema, with `additionalProperties: false` wherever an object lists its properties and says nothing."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(value) if key not in ("enum", "const", "default", "examples") else value for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type", "object") == "object":
        out.setdefault("additionalProperties", False)
    return out


@dataclass(frozen=True)
class PinnedTool:
    """A tool as it was when a person pinned it."""

    sha256: str
    schema: dict[str, Any]


class Pins(Mapping[str, PinnedTool]):
    """The pinned tools of a profile's file, as they are pinned now: a person may pin anew while processes run.

    Raises ProfileError when it is made of a file that cannot be used; one that becomes unusable later changes nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._looked_at = path, time.monotonic()
        self._stamp = self._stamped()
        self._tools = read_pins(path)

    def __getitem__(self, name: str) -> PinnedTool:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def _now(self) -> Mapping[str, PinnedTool]:
        now = time.monotonic()
        if now - self._looked_at >= PINS_LOOK_S:
            self._looked_at = now
            stamp = self._stamped()
            if stamp not in (None, self._stamp):
                try:
                    self._tools, self._stamp = read_pins(self._path), stamp
                except ProfileError as error:
                    log.warning("the pins are as before: %s", error)
        return self._tools

    def _stamped(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def pins_path(path: Path) -> Path:
    """Where the pins of a profile file are kept."""
    return path.with_suffix(".schemas.json")


def read_pins(path: Path) -> dict[str, PinnedTool]:
    """The pinned tools in a file. Raises ProfileError."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))["tools"]
        return {tool: PinnedTool(sha256=entry["sha256"], schema=entry["schema"]) for tool, entry in raw.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProfileError(f"pins {path}: {error!r}: run `python -m chimera.mcp.pin {path.name.partition('.')[0]}`") from error


def write_pins(path: Path, text: str) -> None:
    """Put pins in the place of those that are there, in one step: processes read them while they run."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
