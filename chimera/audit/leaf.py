"""The leaf of a record in its partition's tree: a pure function of what Kafka holds.

The one rule: it names the exact bytes by their hashes and holds none of them, so keys can be destroyed and proofs stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import orjson

from chimera.audit.standalone import ATTRIBUTES
from chimera.events.raw import RawRecord

VERSION = 1
LONGEST = 200
"""Signs of id, type and key that a leaf tells."""
_ABSENT = (-1).to_bytes(4, "big", signed=True)
_LENGTHS = tuple(length.to_bytes(4, "big") for length in range(2048))
_PLAIN = bytes(sign for sign in range(0x20, 0x7F) if sign not in b'"\\')
"""Signs that stand in JSON, and in text, as they are."""
_MUST = frozenset(("ce_id", "ce_source", "ce_specversion", "ce_type", "ce_subject"))


class Shape(NamedTuple):
    """What follows from the names of a record's headers alone. A log has a handful of shapes, millions of times."""

    names: tuple[str, ...]
    places: dict[str, int]
    """Where each header stands."""
    id: int
    type: int
    subject: int
    hashed: tuple[bytes, ...]
    """What `headers_sha256` hashes: each name with its length before it, and room for length and value."""
    members: bytes
    """The headers as members of a line of JSON, their values to be filled in."""


class Seen(NamedTuple):
    """A record, looked at once for all that is made of it: leaf, line and row."""

    raw: RawRecord
    digest: str
    """SHA-256 of its value (of nothing where there is none), hex."""
    shape: Shape | None
    """None where anything at all is unusual: headers out of order, missing or null, a sign that JSON escapes, a strange key."""
    contents: tuple[bytes, ...]
    """The headers' values, where there is a shape."""
    leaf: bytes
    hash: bytes
    """The leaf's hash in the tree (RFC 6962)."""


def see(raw: RawRecord) -> Seen:
    """Look at a record."""
    value = raw.value
    digest = hashlib.sha256(value or b"").hexdigest()
    shape, contents = _plain(raw)
    if shape is None or value is None:
        leaf = _any_leaf(raw, digest)
    else:
        pieces = list(shape.hashed)
        pieces[1::3], pieces[2::3] = map(_LENGTHS.__getitem__, map(len, contents)), contents
        headers = hashlib.sha256(b"".join(pieces)).hexdigest()
        # The members of `_any_leaf`, of texts that no encoder would change.
        leaf = b'{"v":1,"offset":%d,"appended":%d,"id":"%b","type":"%b","key":"%b","sha256":"%b","length":%d,"headers":"%b"}' % (
            raw.offset,
            raw.append_ts,
            contents[shape.id],
            contents[shape.type],
            contents[shape.subject],
            digest.encode(),
            len(value),
            headers.encode(),
        )
    return Seen(raw, digest, shape, contents, leaf, hashlib.sha256(b"\x00" + leaf).digest())


def leaf_of(raw: RawRecord) -> bytes:
    """The leaf of a record: compact JSON, members in one order, less than 1 KiB for all of Chimera's own records."""
    return see(raw).leaf


def _plain(raw: RawRecord) -> tuple[Shape | None, tuple[bytes, ...]]:
    """The shape and values of headers that are as the encoder writes them; no shape for any others."""
    if not raw.headers:
        return None, ()
    names, contents = zip(*raw.headers, strict=True)
    shape = shape_of(names)
    if shape is None:
        return None, ()
    try:
        joined = b"".join(contents)
    except TypeError:  # a header may be null
        return None, ()
    if len(joined) >= len(_LENGTHS) or joined.translate(None, _PLAIN):
        return None, ()
    fits = len(contents[shape.id]) <= LONGEST and len(contents[shape.type]) <= LONGEST and raw.key == contents[shape.subject]
    return (shape, contents) if fits and len(raw.key or b"") <= LONGEST else (None, ())


@lru_cache(maxsize=256)
def shape_of(names: tuple[str, ...]) -> Shape | None:
    """The shape of headers so named, in that order; None for any that the encoder does not write."""
    if names != tuple(name for name in ATTRIBUTES if name in names) or not set(names) >= _MUST:
        return None
    places = {name: place for place, name in enumerate(names)}
    members = ",".join(f'"{name.removeprefix("ce_")}":"%b"' for name in names).encode()
    hashed = tuple(chain.from_iterable((_named(name), b"", b"") for name in names))
    return Shape(names, places, places["ce_id"], places["ce_type"], places["ce_subject"], hashed, members)


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
    """A header's name with its length before."""
    raw = name.encode("utf-8", "surrogateescape")
    return len(raw).to_bytes(4, "big") + raw


def _any_leaf(raw: RawRecord, digest: str) -> bytes:
    named = {name: value for name, value in raw.headers if name in ("ce_id", "ce_type")}
    return orjson.dumps(
        {
            "v": VERSION,
            "offset": raw.offset,
            "appended": raw.append_ts,
            "id": _text(named.get("ce_id")),
            "type": _text(named.get("ce_type")),
            "key": _text(raw.key),
            "sha256": None if raw.value is None else digest,
            "length": None if raw.value is None else len(raw.value),
            "headers": headers_sha256(raw.headers),
        }
    )


def _text(raw: bytes | None) -> str | None:
    """At most 200 signs; bytes that are no text are told as hexadecimal."""
    if raw is None:
        return None
    try:
        return raw.decode()[:LONGEST]
    except UnicodeDecodeError:
        return "0x" + raw[:100].hex()
