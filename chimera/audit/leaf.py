"""The leaf of a record in its partition's tree: a pure function of what Kafka holds.

The one rule: it names the exact bytes by their hashes and holds none of them, so keys can be destroyed and proofs stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import orjson

from chimera.events.raw import RawRecord

VERSION = 1
_ABSENT = (-1).to_bytes(4, "big", signed=True)


def headers_sha256(headers: Iterable[tuple[str, bytes | None]]) -> str:
    """SHA-256 over the header list in wire order: each name and value with its length (4 bytes, big endian) before; absent: -1."""
    pieces: list[bytes] = []
    for name, value in headers:
        raw, body = name.encode("utf-8", "surrogateescape"), value or b""
        pieces += (len(raw).to_bytes(4, "big"), raw, _ABSENT if value is None else len(body).to_bytes(4, "big"), body)
    return hashlib.sha256(b"".join(pieces)).hexdigest()


def leaf_of(raw: RawRecord) -> bytes:
    """The leaf of a record: compact JSON, members in this order, less than 1 KiB for all of Chimera's own records."""
    named = {name: value for name, value in raw.headers if name in ("ce_id", "ce_type")}
    return orjson.dumps(
        {
            "v": VERSION,
            "offset": raw.offset,
            "appended": raw.append_ts,
            "id": _text(named.get("ce_id")),
            "type": _text(named.get("ce_type")),
            "key": _text(raw.key),
            "sha256": None if raw.value is None else hashlib.sha256(raw.value).hexdigest(),
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
