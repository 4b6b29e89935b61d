"""The manifest of an export: what it holds, so that anything added, cut or changed shows.

The rule not to break: it is a pure function of the log and the code version. No clock, no host, no path in it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from chimera.errors import ChimeraError

FORMAT = "chimera-export/1"
MANIFEST = "manifest.json"
PLAN = "export.plan.json"


class ManifestTrouble(ChimeraError):
    """A manifest or plan that is missing or cannot be read."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartitionPart(_Frozen):
    """One partition's file. `first` and `last` are offsets, None where the partition is empty."""

    partition: int
    file: str
    count: int
    first: int | None
    last: int | None
    bytes: int
    sha256: str
    applied: int
    rejected: int
    void: int


class Plan(_Frozen):
    """What an export set out to do: written first, so that an interrupted one can be resumed."""

    format: str = FORMAT
    software: str
    law: int
    topic: str
    root: str
    root_public: str
    ends: dict[int, int]
    """Partition -> end offset when the export began."""


class Totals(_Frozen):
    """Over all partitions."""

    count: int
    bytes: int
    applied: int
    rejected: int
    void: int


class Manifest(_Frozen):
    """What an export holds."""

    format: str = FORMAT
    software: str
    law: int
    topic: str
    root: str
    """Key id of the root key: compare it with what the installation published."""
    root_public: str
    partitions: list[PartitionPart]
    totals: Totals


def software() -> str:
    """Name and version of this code."""
    try:
        return f"chimera-swarm {version('chimera-swarm')}"
    except PackageNotFoundError:
        return "chimera-swarm (not installed)"


def totals(parts: list[PartitionPart]) -> Totals:
    return Totals(**{name: sum(getattr(part, name) for part in parts) for name in Totals.model_fields})


def dump(model: Manifest | Plan | PartitionPart) -> bytes:
    """Indented JSON with sorted keys: the same bytes for the same content."""
    return orjson.dumps(
        model.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    )


def load_manifest(directory: Path) -> Manifest:
    """The manifest of an export. Raises `ManifestTrouble`."""
    path = directory / MANIFEST
    try:
        found = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        way_out = (
            "finish it with `chimera audit export --out`" if (directory / PLAN).exists() else "name the directory of an export"
        )
        raise ManifestTrouble(f"{path} is missing: {way_out}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ManifestTrouble(f"{path}: {where}: {first['msg']}") from error
    if found.format != FORMAT:
        raise ManifestTrouble(f"{path} is of format {found.format!r}, this code reads {FORMAT!r}: use the version that wrote it")
    return found
