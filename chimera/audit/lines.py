"""One record as one line: CloudEvents 1.0 in JSON, from which the record's exact bytes come back.

The rule not to break: `data` is the last member and its text *is* the record's value, byte for byte; where that cannot be
(no JSON, a line break in it), `data_base64` holds the value. Where key and headers do not follow from the attributes,
`wire` holds them.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson

from chimera.events.envelope import Record
from chimera.events.raw import Headers, RawRecord
from chimera.events.state import Ruling

ATTRIBUTES = (
    "ce_id",
    "ce_source",
    "ce_specversion",
    "ce_type",
    "ce_time",
    "ce_subject",
    "ce_tenant",
    "ce_schemaversion",
    "ce_actor",
    "ce_causationid",
    "ce_correlationid",
    "traceparent",
    "ce_keyid",
    "ce_signature",
)
"""Headers that are attributes of the line (without `ce_`), in the order in which the encoder writes them."""

UNREADABLE = "chimera.unreadable"
"""Type of a line whose record has no readable envelope."""

_DATA = b',"data":'


class BadLine(Exception):
    """A line that is not what `line` writes; says where and why."""


def line(raw: RawRecord, record: Record, ruling: Ruling) -> bytes:
    """The line of a record, without line break: the same bytes for the same record, ruling and code version."""
    attributes, faithful = _attributes(raw)
    out: dict[str, Any]
    if record.defect is None:
        out = {name.removeprefix("ce_"): attributes[name] for name in ATTRIBUTES if name in attributes}
    else:
        faithful = False
        out = {"id": f"{raw.topic}/{raw.partition}/{raw.offset}", "source": "chimera", "specversion": "1.0", "type": UNREADABLE}
        out["defect"] = record.defect
    out |= {
        "partition": raw.partition,
        "offset": raw.offset,
        "appendtime": datetime.fromtimestamp(raw.append_ts / 1000, UTC).isoformat(timespec="milliseconds"),
        "ruling": ruling.outcome,
        "rulingreason": ruling.reason,
        "stateversion": ruling.version,
        "valuesha256": hashlib.sha256(raw.value or b"").hexdigest(),
    }
    if not faithful:
        key = None if raw.key is None else _b64(raw.key)
        out["wire"] = {"key": key, "headers": [[name, None if value is None else _b64(value)] for name, value in raw.headers]}
    if raw.value is not None:
        if _embeds(raw.value):
            out["datacontenttype"] = "application/json"
            out["data"] = orjson.Fragment(raw.value)
        else:
            out["data_base64"] = _b64(raw.value)
    return orjson.dumps(out)


def parse(text: bytes, topic: str) -> tuple[RawRecord, dict[str, Any]]:
    """The record's bytes and the line's members. Raises `BadLine`."""
    try:
        members = orjson.loads(text)
        if "data" in members:
            value: bytes | None = text[text.index(_DATA) + len(_DATA) : -1]
        elif "data_base64" in members:
            value = base64.b64decode(members["data_base64"], validate=True)
        else:
            value = None
        key, headers = _wire(members)
        append_ts = round(datetime.fromisoformat(members["appendtime"]).timestamp() * 1000)
        partition, offset = members["partition"], members["offset"]
        for name in ("ruling", "rulingreason", "valuesha256"):
            if not isinstance(members[name], str):
                raise BadLine(f"{name} is not text")
        if not (isinstance(partition, int) and isinstance(offset, int) and isinstance(members["stateversion"], int)):
            raise BadLine("partition, offset and stateversion must be integers")
    except orjson.JSONDecodeError as error:
        raise BadLine(f"not JSON ({error.msg} at column {error.colno})") from error
    except KeyError as error:
        raise BadLine(f"member {error} is missing") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BadLine(f"not a line of an export: {error}") from error
    return RawRecord(topic, partition, offset, append_ts, key, value, headers), members


def _attributes(raw: RawRecord) -> tuple[dict[str, str], bool]:
    """Attributes by header name, and whether key and header list follow from them alone."""
    found: dict[str, str] = {}
    for name, value in raw.headers:
        if name in ATTRIBUTES and value is not None:
            found[name] = value.decode(errors="replace")
    rebuilt = [(name, found[name].encode()) for name in ATTRIBUTES if name in found]
    return found, rebuilt == raw.headers and raw.key == found.get("ce_subject", "").encode()


def _wire(members: dict[str, Any]) -> tuple[bytes | None, Headers]:
    headers: list[tuple[str, Any]]  # a header of a stranger may have no value at all
    wire = members.get("wire")
    if wire is None:
        headers = [(name, members[name.removeprefix("ce_")].encode()) for name in ATTRIBUTES if name.removeprefix("ce_") in members]
        return members["subject"].encode(), headers
    key = None if wire["key"] is None else base64.b64decode(wire["key"], validate=True)
    headers = [(name, None if value is None else base64.b64decode(value, validate=True)) for name, value in wire["headers"]]
    return key, headers


def _embeds(value: bytes) -> bool:
    """Whether the value can stand in a line of JSON as it is."""
    if b"\n" in value or b"\r" in value or value[:1] != b"{" or value[-1:] != b"}":
        return False
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
