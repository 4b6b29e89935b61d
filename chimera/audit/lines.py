"""One record as one line: CloudEvents 1.0 in JSON, from which the record's exact bytes come back.

The rule not to break: `data` is the last member and its text *is* the record's value, byte for byte; where that cannot be
(no JSON, a line break in it), `data_base64` holds the value. Where key and headers do not follow from the attributes,
`wire` holds them.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from chimera.audit.leaf import Seen
from chimera.audit.standalone import ATTRIBUTES, UNREADABLE, BadLine, read_line
from chimera.events.envelope import Record
from chimera.events.raw import RawRecord
from chimera.events.state import Ruling

__all__ = ["ATTRIBUTES", "UNREADABLE", "BadLine", "line", "parse"]


_KNOWN = frozenset(ATTRIBUTES)
_MEMBERS = tuple((name, name.removeprefix("ce_")) for name in ATTRIBUTES)

_LINE = b'{%b,"partition":%d,"offset":%d,"appendtime":"%b"%b,"valuesha256":"%b","datacontenttype":"application/json","data":%b}'


def line(seen: Seen, record: Record | None, ruling: Ruling | None) -> bytes:
    """The line of a record, without line break: the same bytes for the same record, ruling and code version.

    `record` and `ruling` None: of a topic where nothing is ruled; what its records lack of an event is made up from their place.
    """
    raw, shape = seen.raw, seen.shape
    if shape is None or raw.value is None or (record is not None and record.defect is not None) or not _embeds(raw.value):
        return _any_line(seen, record, ruling)
    ruled = b"" if ruling is None else b"%b%d" % (_ruled(ruling.outcome, ruling.reason), ruling.version)
    # The members of `_any_line`, of texts that no encoder would change: a third of what encoding them costs.
    told = (shape.members % seen.contents, raw.partition, raw.offset, _when(raw.append_ts), ruled, seen.digest.encode(), raw.value)
    return _LINE % told


def _any_line(seen: Seen, record: Record | None, ruling: Ruling | None) -> bytes:
    raw = seen.raw
    attributes, faithful = _attributes(raw)
    missing = {"id": f"{raw.topic}/{raw.partition}/{raw.offset}", "source": "chimera", "specversion": "1.0", "type": UNREADABLE}
    out: dict[str, Any]
    if record is not None and record.defect is not None:
        faithful = False
        out = missing | {"defect": record.defect}
    else:
        out = {member: attributes[name] for name, member in _MEMBERS if name in attributes}
        if not out.keys() >= missing.keys():
            faithful, out = False, missing | out
    out |= {"partition": raw.partition, "offset": raw.offset, "appendtime": _when(raw.append_ts).decode()}
    if ruling is not None:
        out |= {"ruling": ruling.outcome, "rulingreason": ruling.reason, "stateversion": ruling.version}
    out["valuesha256"] = seen.digest
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


def _when(append_ts: int) -> bytes:
    """ISO 8601 with milliseconds and zone, of milliseconds since the epoch."""
    seconds, rest = divmod(append_ts, 1000)
    return b"%b.%03d+00:00" % (_second(seconds), rest)


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19].encode()


@lru_cache(maxsize=256)
def _ruled(outcome: str, reason: str) -> bytes:
    """The members that say how a record was ruled, up to the number of the version."""
    return b',"ruling":%b,"rulingreason":%b,"stateversion":' % (orjson.dumps(outcome), orjson.dumps(reason))


def parse(text: bytes, topic: str) -> tuple[RawRecord, dict[str, Any]]:
    """The record's bytes and the line's members. Raises `BadLine`."""
    found = read_line(text)
    raw = RawRecord(topic, found.members["partition"], found.offset, found.appended, found.key, found.value, found.headers)
    return raw, found.members


def _attributes(raw: RawRecord) -> tuple[dict[str, str], bool]:
    """Attributes by header name, and whether key and header list follow from them alone."""
    headers = raw.headers
    if _in_order(tuple([name for name, _ in headers])):
        try:
            found = {name: value.decode() for name, value in headers}
        except (UnicodeDecodeError, AttributeError):  # AttributeError: a header may be null
            pass
        else:
            return found, raw.key == found.get("ce_subject", "").encode()
    return {n: v.decode(errors="replace") for n, v in headers if n in _KNOWN and v is not None}, False


@lru_cache(maxsize=256)
def _in_order(names: tuple[str, ...]) -> bool:
    """Are these headers as the encoder writes them: none unknown, none twice, in its order?"""
    return names == tuple(name for name in ATTRIBUTES if name in names)


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
