"""The leaf of a record in its partition's tree: a pure function of what Kafka holds.

The one rule: it names the exact bytes by their hashes and holds none of them, so keys can be destroyed and proofs stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import orjson

from chimera.events.raw import RawRecord

VERSION = 1
_ABSENT = (-1).to_bytes(4, "big", signed=True)


def headers_sha256(headers: Iterable[tuple[str, bytes | None]]) -> str:
    """SHA-256 over the header list in wire order: each name and value with its length (4 bytes, big endian) before; absent: -1."""
    pieces: list[bytes] = []
    for name, value in headers:
        if value is None:
            pieces += (_named(name), _ABSENT)
        else:
            pieces += (_named(name), len(value).to_bytes(4, "big"), value)
    return hashlib.sha256(b"".join(pieces)).hexdigest()


@lru_cache(maxsize=256)
def _named(name: str) -> bytes:
    """A header's name with its length before. A log has few names, millions of times."""
    raw = name.encode("utf-8", "surrogateescape")
    return len(raw).to_bytes(4, "big") + raw


def leaf_of(raw: RawRecord, digest: str | None = None) -> bytes:
    """The leaf of a record: compact JSON, members in this order, less than 1 KiB for all of Chimera's own records.

    `digest`: SHA-256 of its value in hex, where the caller has it already.
    """
    named = {name: value for name, value in raw.headers if name in ("ce_id", "ce_type")}
    return orjson.dumps(
        {
            "v": VERSION,
            "offset": raw.offset,
            "appended": raw.append_ts,
            "id": _text(named.get("ce_id")),
            "type": _text(named.get("ce_type")),
            "key": _text(raw.key),
            "sha256": None if raw.value is None else digest or hashlib.sha256(raw.value).hexdigest(),
            "length": None if raw.value is None else len(raw.value),
            "headers": headers_sha256(raw.headers),
        }
    )


def _text(raw: bytes | None) -> str | None:
    """At most 200 signs; bytes that are no text are told as hexadecimal."""
    if raw is None:
        return None
    try:
        return raw.decode()[:200]
    except UnicodeDecodeError:
        return "0x" + raw[:100].hex()
