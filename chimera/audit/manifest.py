"""The manifest of an export: what it holds, so that anything added, cut or changed shows; and its signature (DSSE).

The rule not to break: it is a pure function of log, selection, keys and code version. No clock, no host, no path in it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError

from chimera.audit.source import Redaction, Selection
from chimera.audit.standalone import ENVELOPE, FORMAT, MANIFEST, PAYLOAD_TYPE, SUMS, key_id
from chimera.errors import ChimeraError

__all__ = ["ENVELOPE", "MANIFEST", "PLAN", "SUMS", "Manifest", "ManifestTrouble", "Part", "Plan", "TopicPart", "Totals"]

PLAN = "export.plan.json"


class ManifestTrouble(ChimeraError):
    """A manifest or plan that is missing or cannot be read."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Frozen):
    """One partition. `size` leaves are signed; the records [first, size) are in the stretch of time that was asked for.

    `count` of them are shown (and the law's records before `first`), `withheld` are not. Rulings are counted among the shown.
    """

    partition: int
    size: int
    first: int
    count: int
    withheld: int
    applied: int
    rejected: int
    void: int
    first_appended: int | None
    """Append time of record `first` and of the last one, ms since the epoch."""
    last_appended: int | None
    gaps: list[list[int]] = []
    """Stretches of offsets that Kafka does not hold. Always none: an export stops at a hole."""
    root: str
    """Of the tree over the records' bytes, hex."""
    outcomes: str
    """Of the tree over rulings and state versions, hex; empty where nothing is ruled."""


class TopicPart(_Frozen):
    """One topic. `ruled`: the law rules on its records."""

    topic: str
    ruled: bool
    partitions: list[Part]


class Totals(_Frozen):
    """Over all partitions."""

    size: int
    count: int
    withheld: int
    applied: int
    rejected: int
    void: int


class About(_Frozen):
    """Of what, by what, and of which selection: what an export knows when it begins and tells when it is done."""

    format: str = FORMAT
    software: str
    law: int
    installation: str
    root: str
    """Key id of the root key: compare it with what the installation published."""
    root_public: str
    notary: list[str]
    """Public keys of the notary that sign it (base64)."""
    selection: Selection
    formats: list[str]


class Plan(About):
    """What an export set out to do: written first, so that an interrupted one can be resumed."""

    redaction: Redaction
    ends: dict[str, dict[int, int]]
    """Topic -> partition -> end offset when the export began."""


class Manifest(About):
    """What an export holds."""

    redaction: str
    """Whose keys are withheld: `all`, `none`, or those of people who are `listed` elsewhere."""
    disclosed: int
    """How many people's keys are in `keys.jsonl`."""
    clock: str = "append times are the broker's clock when it appended (LogAppendTime), ms since the epoch, UTC"
    topics: list[TopicPart]
    totals: Totals
    types: dict[str, int]
    """Type and schema version -> how many records are shown."""
    security: int = 0
    """How many security events are in `security.ocsf.jsonl`; exports of earlier versions have none."""
    keys: dict[str, list[str]]
    """Role -> ids of the keys that the law has listed for it."""
    policies: list[str]
    """Digests of the policy editions that were published or adopted, up to the end of the export."""
    sums: str
    """SHA-256 of the list of files."""


@cache
def software() -> str:
    """Name and version of this code."""
    try:
        return f"chimera-swarm@{version('chimera-swarm').replace('+', '~')}"
    except PackageNotFoundError:
        return "chimera-swarm@unknown"


def totals(parts: Iterable[Part]) -> Totals:
    """The sums."""
    found = list(parts)
    return Totals(**{name: sum(getattr(part, name) for part in found) for name in Totals.model_fields})


def dump(model: BaseModel) -> bytes:
    """Indented JSON with sorted keys: the same bytes for the same content."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(model.model_dump(mode="json"), option=option)


def envelope(payload: bytes, signers: Sequence[Ed25519PrivateKey]) -> bytes:
    """A DSSE envelope over the payload."""
    message = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    signatures = [
        {"keyid": key_id(key.public_key().public_bytes_raw()), "sig": base64.b64encode(key.sign(message)).decode()}
        for key in signers
    ]
    told = {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
    return orjson.dumps(told) + b"\n"


def load_manifest(directory: Path) -> Manifest:
    """The manifest of an export. Raises `ManifestTrouble`."""
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        unfinished = (directory / PLAN).exists()
        way_out = "finish it with `chimera audit export --out`" if unfinished else "name the directory of an export"
        raise ManifestTrouble(f"{path} is missing: {way_out}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ManifestTrouble(f"{path}: {where}: {first['msg']}") from error
