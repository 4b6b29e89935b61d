"""CloudEvents 1.0 in Kafka's binary mode: one encoder, one signer, one decoder on the raw header list, for all.

The rule not to break: decoding never raises. Bytes that cannot be read become a `Record` with a `defect`, which the law rules on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from binascii import a2b_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from chimera.events.hashes import digest
from chimera.events.headers import NEEDED, READ, REQUIRED, Claim, any_headers, plain_headers, signature, text_of
from chimera.events.raw import Headers, RawRecord
from chimera.events.records import ArtifactProduced, Data, EffectProposal, HumanEdited
from chimera.events.signatures import holds
from chimera.events.upcasters import TYPES, UPCASTERS, upcast

_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * 19
"""Looked for where all digits read 0: several times faster than a regular expression over every value."""
SOURCE = "chimera"
LAW_KEY_PREFIX = "law/"
_VERSIONS = {str(number): number for number in range(1, 10)}
"""Almost every version that is written: finding one is faster than reading it."""
ALIKE = frozenset(("PolicyAdopted", "SoulAdopted"))
"""Types whose values many streams hold byte for byte."""


class NewRecord(NamedTuple):
    """A record about to be appended. `key` is the stream key (`agent/<uuid>`), `time` RFC 3339 (information only)."""

    key: str
    data: Data
    tenant: str
    actor: str
    time: str
    id: str
    causation: str = ""
    correlation: str = ""
    traceparent: str = ""


class Wire(NamedTuple):
    """What goes to Kafka."""

    key: str
    value: bytes
    headers: Headers


@dataclass(slots=True)
class Record:
    """A decoded record. `data` is None where the type is unknown or something is wrong (`defect` says what).

    Nobody changes one: it is shared by all who read it. (`frozen` would cost a tenth of all decoding.)
    """

    topic: str
    partition: int
    offset: int
    append_ts: int
    key: str
    id: str
    type: str
    version: int
    tenant: str
    actor: str
    time: str
    causation: str
    correlation: str
    data: Data | None
    defect: str | None = None
    """Why the bytes could not be read; the law says void(unreadable)."""
    signed_by: str | None = None
    """Key id whose signature over this record was verified; None = unsigned or not verifying."""
    hash_ok: bool = True
    """False where content, artifact hash and effect hash of the record disagree; the law says void(wrong_hash)."""
    value: bytes = field(default=b"", repr=False)


class SigningKey:
    """A role's Ed25519 key. Its id is the first 16 hex digits of SHA-256 of the public key: self-certifying."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        raw = private.public_key().public_bytes_raw()
        self.public = base64.b64encode(raw).decode()
        self.id = key_id(self.public)

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, raw: bytes) -> SigningKey:
        """From the 32 private bytes."""
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    def private_bytes(self) -> bytes:
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> str:
        return base64.b64encode(self._private.sign(message)).decode()


def key_id(public: str) -> str:
    """Id of a public key (base64): first 16 hex digits of SHA-256 of its bytes."""
    return hashlib.sha256(base64.b64decode(public)).hexdigest()[:16]


def record_id(cause: str, type_: str, ordinal: int = 0) -> str:
    """Deterministic id of a record caused by another: uuid5 over (cause, type, ordinal)."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"chimera:{cause}:{type_}:{ordinal}"))


def dump(data: Data) -> bytes:
    """Value bytes of a record: compact JSON, Decimal as text, NaN as null."""
    return orjson.dumps(data.model_dump(mode="json"))


def signed_message(key: str, id_: str, type_: str, version: str, tenant: str, actor: str, value: bytes) -> bytes:
    """What a signature covers: stream key, id, type, version, tenant, actor and the value's SHA-256 (numbers lie in the value)."""
    return f"chimera/1\n{key}\n{id_}\n{type_}\n{version}\n{tenant}\n{actor}\n{hashlib.sha256(value).hexdigest()}".encode()


def encode(new: NewRecord, signer: SigningKey | None = None) -> Wire:
    """Wire form of a record, signed where a key is given."""
    value = dump(new.data)
    version = str(new.data.VERSION)
    headers: list[tuple[str, str]] = [
        ("ce_id", new.id),
        ("ce_source", SOURCE),
        ("ce_specversion", "1.0"),
        ("ce_type", new.data.TYPE),
        ("ce_time", new.time),
        ("ce_subject", new.key),
        ("ce_tenant", new.tenant),
        ("ce_schemaversion", version),
        ("ce_actor", new.actor),
        ("ce_causationid", new.causation),
        ("ce_correlationid", new.correlation),
        ("traceparent", new.traceparent),
    ]
    if signer is not None:
        message = signed_message(new.key, new.id, new.data.TYPE, version, new.tenant, new.actor, value)
        headers += [("ce_keyid", signer.id), ("ce_signature", signer.sign(message))]
    return Wire(new.key, value, [(name, text.encode()) for name, text in headers if text])


def decode(raw: RawRecord) -> Record:
    """Read one record. Never raises; the signature is not looked at here (`verified`)."""
    return decode_claimed(raw)[0]


def decode_claimed(raw: RawRecord) -> tuple[Record, Claim | None]:
    """`decode`, and the signature that a readable record claims (`signature`)."""
    topic, partition, offset, append_ts, raw_key, value, headers = raw
    texts, defect = plain_headers(headers), None
    if texts is None:
        texts, defect = _unusual_headers(headers, keyed=bool(text_of(raw_key)))
    subject, specversion, version, id_, type_, tenant, actor, time, causation, correlation, keyid, signed = texts
    # The key is what the subject says, almost always: to compare bytes is faster than to read them.
    key = subject if subject.encode() == raw_key else text_of(raw_key)
    if not key:
        key, defect = "", defect or "no usable key"
    elif defect is None and subject != key:
        defect = "ce_subject differs from the key"
    elif defect is None and specversion != "1.0":
        defect = "ce_specversion is not 1.0"
    number = _VERSIONS.get(version) or (int(version) if version.isascii() and version.isdigit() and len(version) < 6 else 0)
    if defect is None and number < 1:
        defect = "ce_schemaversion is not a positive integer"
    data, hash_ok = None, True
    if defect is None:
        if value is None:
            defect = "no value"
        else:
            data, defect = _read_shared(type_, number, value) if type_ in ALIKE else _read_value(type_, number, value)
        if data is not None and type_ in _HASHED:
            try:
                hash_ok = _hashes_agree(data)
            except orjson.JSONEncodeError as error:
                data, defect = None, f"value has no canonical form: {error}"
    # By place: naming so many fields costs as much as making the record.
    record = Record(
        topic, partition, offset, append_ts, key, id_, type_, number, tenant, actor, time, causation, correlation,
        data, defect, None, hash_ok, value or b"",
    )  # fmt: skip
    return record, (keyid, signed) if keyid and signed else None


def _unusual_headers(headers: Headers, keyed: bool) -> tuple[tuple[str, ...], str | None]:
    """The texts of `READ` and the first thing wrong, of headers that are not as this code writes them.

    What is missing is said of records with a usable key alone (`keyed`): without one that is what is wrong.
    """
    found, defect = any_headers(headers)
    if defect is None and keyed and not found.keys() >= NEEDED:
        defect = f"missing header {next(name for name in REQUIRED if name not in found)!r}"
    return tuple([found.get(name, "") for name in READ]), defect


def verify(record: Record, raw: RawRecord, public: str) -> bool:
    """True if the record's signature verifies under the public key (base64)."""
    claimed = signature(raw)
    return claimed is not None and record.defect is None and verified(record, claimed[1], public)


def verified(record: Record, signed: str, public: str) -> bool:
    """True if `signed`, the signature (base64) that a readable record claims, is one over it under the public key (base64)."""
    message = signed_message(record.key, record.id, record.type, str(record.version), record.tenant, record.actor, record.value)
    try:
        return holds(_bytes_of(public), a2b_base64(signed), message)
    except ValueError:  # no base64
        return False


_bytes_of = lru_cache(maxsize=256)(base64.b64decode)
"""Bytes of a public key; a fleet has a few."""


def holds_nul(value: Any) -> bool:
    """Does a JSON value hold U+0000 anywhere?"""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(holds_nul(key) or holds_nul(content) for key, content in value.items())
    return isinstance(value, list) and any(holds_nul(item) for item in value)


@lru_cache(maxsize=128)
def _read_shared(type_: str, version: int, value: bytes) -> tuple[Data | None, str | None]:
    """The same bytes are the same value: a fleet adopts a few policies and personas, each once per agent."""
    return _read_value(type_, version, value)


_CURRENT: dict[str, tuple[int, Callable[[bytes], Data]]] = {
    name: (model.VERSION, model.__pydantic_validator__.validate_json) for name, model in TYPES.items()
}
"""Type -> the version that is written now, and what reads its value: what `model_validate_json` calls, without its looking at
arguments that nobody gives. (Asking a model for its version takes longer than finding both here.)"""


def _read_value(type_: str, version: int, value: bytes) -> tuple[Data | None, str | None]:
    # One byte is looked for several times faster than a word, and most values hold no backslash at all.
    if b"\\" in value and b"\\u0000" in value and _nul_inside(value):
        return None, "value holds U+0000"
    if _LONG_NUMBER in value.translate(_DIGITS_ALIKE) and _beyond_64_bits(value):
        return None, "value holds a number beyond 64 bits"
    current = _CURRENT.get(type_)
    if current is None or version > current[0]:
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError as error:
            return None, f"value is not JSON: {error}"
        return None, None  # well-formed, unknown to this code: the law says unknown_type
    try:
        if version == current[0]:
            return current[1](value), None
        body: Any = orjson.loads(value)
        if not isinstance(body, dict):
            return None, "value is not a JSON object"
        return TYPES[type_].model_validate(upcast(type_, version, body, UPCASTERS)), None
    except (ValidationError, orjson.JSONDecodeError) as error:
        return None, f"value does not fit {type_} {version}: {_first_problem(error)}"


def _beyond_64_bits(value: bytes) -> bool:
    """Numbers that JSON can say and no store of ours can keep."""

    def walk(found: Any) -> bool:
        if isinstance(found, dict):
            return any(walk(content) for content in found.values())
        if isinstance(found, list):
            return any(walk(item) for item in found)
        return isinstance(found, int) and not -(2**63) <= found < 2**63

    try:
        return walk(json.loads(value))
    except (ValueError, RecursionError):
        return False  # not JSON: said by whoever parses it next


def _nul_inside(value: bytes) -> bool:
    try:
        return holds_nul(orjson.loads(value))
    except orjson.JSONDecodeError:
        return False  # not JSON at all: said by whoever parses it next


def _first_problem(error: ValidationError | orjson.JSONDecodeError) -> str:
    """Where and why, without the content."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['type']}"
    return "not JSON"


def _hashes_agree(data: Data) -> bool:
    """Content, artifact hash and effect hash of one record must agree before anyone votes on the hash. Of types of `_HASHED`."""
    assert isinstance(data, (ArtifactProduced, HumanEdited))
    effect = data.effect
    return digest(data.content) == data.artifact_hash and (effect is None or digest(_as_read(effect)) == effect.effect_hash)


_HASHED = frozenset((ArtifactProduced.TYPE, HumanEdited.TYPE))
"""Types whose records carry content and its hashes."""


def _as_read(effect: EffectProposal) -> dict[str, Any]:
    """`effect_body` of what was read from JSON, whose values are JSON but for the amount: much faster than dumping it."""
    body = dict(effect.__dict__)
    del body["effect_hash"]
    body["max_cost_usd"] = str(effect.max_cost_usd)
    return body
