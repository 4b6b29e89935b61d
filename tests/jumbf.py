"""A second reader of content credentials in PNG and MP4: JUMBF boxes, COSE, hashes, by the C2PA specification alone.

The rule not to break: it shares no code with what signs. It knows Ed25519 and SHA-256, which is what is used here.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass
class Box:
    """A JUMBF superbox: its label, what is hashed of it, its content boxes and the superboxes inside."""

    label: str
    payload: bytes
    content: dict[str, bytes] = field(default_factory=dict)
    inside: dict[str, Box] = field(default_factory=dict)


@dataclass
class Found:
    """What a file states, when everything was right."""

    claim: dict[str, Any]
    assertions: dict[str, Any]
    subject: str


MANIFEST = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""The UUID of the top-level box of an MP4 that holds C2PA data (specification 2.1, A.5)."""


def read_png(body: bytes) -> Found:
    """Check signature, assertion hashes and the hash of the file. Raises AssertionError, cryptography's InvalidSignature."""
    return _read(_box(_chunk(body, b"caBX")), lambda told: _hash_of_ranges(body, told["c2pa.hash.data"]))


def read_mp4(body: bytes) -> Found:
    """The same of a film: its hash is over its top-level boxes, each behind its place in the file (specification 2.1, 18.7)."""
    named = (body[at + 8 : at + size] for at, size, kind in _tops(body) if kind == "uuid")
    holds = next(box for box in named if box.startswith(MANIFEST))
    purpose, _, rest = holds[20:].partition(b"\0")  # behind version and flags
    assert purpose == b"manifest"
    return _read(_box(rest[8:]), lambda told: _hash_of_boxes(body, told["c2pa.hash.bmff.v3"]))


def _read(store: Box, check: Callable[[dict[str, Any]], None]) -> Found:
    (manifest,) = store.inside.values()
    claim_bytes = manifest.inside["c2pa.claim.v2"].content["cbor"]
    claim = cbor2.loads(claim_bytes)
    certificate = _signed(manifest.inside["c2pa.signature"].content["cbor"], claim_bytes)
    boxes = manifest.inside["c2pa.assertions"].inside
    for named in claim["created_assertions"]:
        box = boxes[named["url"].rpartition("/")[2]]
        assert hashlib.sha256(box.payload).digest() == named["hash"], box.label
    told = {label: cbor2.loads(box.content["cbor"]) for label, box in boxes.items() if "cbor" in box.content}
    check(told)
    return Found(claim, told, certificate.subject.rfc4514_string())


def _hash_of_ranges(body: bytes, bound: dict[str, Any]) -> None:
    rest, at = hashlib.sha256(), 0
    for left_out in bound["exclusions"]:
        rest.update(body[at : left_out["start"]])
        at = left_out["start"] + left_out["length"]
    rest.update(body[at:])
    assert rest.digest() == bound["hash"], "the picture is not the one that was signed"


def _hash_of_boxes(body: bytes, bound: dict[str, Any]) -> None:
    rest = hashlib.sha256()
    for at, size, kind in _tops(body):
        box = body[at : at + size]
        if not any(_left_out(box, kind, each) for each in bound["exclusions"]):
            rest.update(struct.pack(">Q", at) + box)
    assert rest.digest() == bound["hash"], "the film is not the one that was signed"


def _left_out(box: bytes, kind: str, told: dict[str, Any]) -> bool:
    """Only whole top-level boxes are left out here, some by what stands in them."""
    held = told.get("data") or []
    return told["xpath"] == f"/{kind}" and all(box[each["offset"] :].startswith(each["value"]) for each in held)


def _tops(body: bytes) -> Iterator[tuple[int, int, str]]:
    """(place, bytes, type) of a film's top-level boxes."""
    at = 0
    while at < len(body):
        size, kind = struct.unpack(">I4s", body[at : at + 8])
        assert size >= 8, "no box of more than 4 GB is read here"
        yield at, size, kind.decode("ascii")
        at += size


def _signed(cose: bytes, claim: bytes) -> x509.Certificate:
    protected, unprotected, payload, signature = cbor2.loads(cose).value
    assert payload is None, "the claim is signed where it stands"
    headers = cbor2.loads(protected)
    chain = headers.get(33) or unprotected[33]
    first, above = (x509.load_der_x509_certificate(each) for each in chain[:2])
    first.verify_directly_issued_by(above)
    key = first.public_key()
    assert isinstance(key, Ed25519PublicKey)
    key.verify(signature, cbor2.dumps(["Signature1", protected, b"", claim]))
    return first


def _chunk(body: bytes, wanted: bytes) -> bytes:
    at = 8
    while at < len(body):
        length, kind = struct.unpack(">I4s", body[at : at + 8])
        if kind == wanted:
            return body[at + 8 : at + 8 + length]
        at += 12 + length
    raise AssertionError(f"no chunk {wanted!r}")


def _boxes(body: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(body):
        length, kind = struct.unpack(">I4s", body[at : at + 8])
        yield kind.decode("ascii"), body[at + 8 : at + length]
        at += length


def _box(body: bytes) -> Box:
    """The superbox at the beginning of these bytes."""
    kind, payload = next(_boxes(body))  # an MP4 may fill up behind it
    assert kind == "jumb"
    return _superbox(payload)


def _superbox(payload: bytes) -> Box:
    parts = list(_boxes(payload))
    assert parts[0][0] == "jumd"
    box = Box(parts[0][1][17:].partition(b"\0")[0].decode(), payload)
    for kind, body in parts[1:]:
        if kind == "jumb":
            inner = _superbox(body)
            box.inside[inner.label] = inner
        else:
            box.content[kind] = body
    return box
