#!/usr/bin/env python3
"""Checks an export of Chimera's log: `python3 verify.py DIR [--key PUBLIC] [--root ID] [--previous DIR] [--json]`.

One file that needs Python 3.11 and the package `cryptography`, and nothing else of Chimera; a copy lies in each export.
The rule not to break: nothing is believed that can be computed, no silence passes for agreement: what is not checked says so.
Exit codes: 0 all that was checked holds, 1 damage, 2 usage.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "chimera-export/2"
MANIFEST, ENVELOPE, SUMS = "manifest.json", "manifest.dsse.json", "SHA256SUMS"
SECURITY = "security.ocsf.jsonl"
PAYLOAD_TYPE = "application/vnd.chimera.export+json"
HASH, WIDTH = 32, 256
HOLDS, BROKEN, UNCHECKED = "holds", "BROKEN", "NOT CHECKED"
MANY = 200_000
"""Leaves from which on partitions are checked side by side."""
CHECKS = {
    "manifest": "the manifest is signed by the notary",
    "key": "the notary's key is one that you trust",
    "root": "the root key is the one that you trust",
    "files": "every file is there with its hash, and no other is",
    "checkpoints": "size and root of every tree are signed by the notary",
    "tiles": "every tree has the root that was signed",
    "records": "every record is the leaf at its place in the tree, byte for byte",
    "complete": "no record is missing but those that are counted as withheld",
    "counts": "the counts are those of the manifest",
    "signatures": "every signature by a key of the law holds",
    "outcomes": "every ruling and state version is the one in the signed outcome tree",
    "rulings": "folding again gives the same ruling and state version for every record",
    "cells": "every cell of the Parquet files is that of its line",
    "security": "the security events (OCSF) are those that follow from the records shown",
    "previous": "this log begins with the one of the previous export",
}
FOLD = "needs the fold: `chimera audit verify` does it"
CELLS = "needs a reader of Parquet: `chimera audit verify` does it, and VERIFY.sql"


class Damage(NamedTuple):
    """One thing that does not hold, and where: file, and which record of its partition (-1: the file as a whole)."""

    check: str
    file: str
    record: int
    text: str


@dataclass
class Report:
    """What was checked, how often, what did not hold, and what was not looked at and why."""

    checked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKS, 0))
    damages: list[Damage] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """What the export says of itself: signer, root, software, ranges."""
    manifest: dict[str, Any] | None = None
    """The manifest that was signed; where no signature holds, what there is in its place."""

    @property
    def intact(self) -> bool:
        return not self.damages

    def state(self, check: str) -> str:
        """The verdict on one claim."""
        if any(damage.check == check for damage in self.damages):
            return BROKEN
        return UNCHECKED if check in self.skipped else HOLDS

    def expect(self, check: str, holds: bool, file: str, record: int, text: str) -> bool:
        """Count one assertion; note the damage where it does not hold."""
        self.checked[check] += 1
        if not holds:
            self.damages.append(Damage(check, file, record, text))
        return holds

    def fault(self, check: str, file: str, record: int, text: str) -> None:
        """Note a damage of an assertion that was counted."""
        self.damages.append(Damage(check, file, record, text))

    def add(self, other: Report) -> None:
        """Take over what another part found."""
        for check, count in other.checked.items():
            self.checked[check] += count
        self.damages += other.damages
        self.skipped |= other.skipped

    def data(self) -> dict[str, Any]:
        """As JSON values."""
        rows = [
            {"check": c, "verdict": self.state(c), "checked": self.checked[c], "claim": text, "why": self.skipped.get(c, "")}
            for c, text in CHECKS.items()
        ]
        return {"intact": self.intact, **self.facts, "checks": rows, "damages": [damage._asdict() for damage in self.damages]}


# --- trees (RFC 6962, C2SP tlog-tiles, signed-note) ------------------------------------------------------------------


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def subtree_root(hashes: list[bytes]) -> bytes:
    """The root over 2^n hashes."""
    sha = hashlib.sha256
    while len(hashes) > 1:
        hashes = [sha(b"\x01" + hashes[i] + hashes[i + 1]).digest() for i in range(0, len(hashes), 2)]
    return hashes[0]


def tile_path(level: int, number: int, width: int) -> str:
    """A tile's file below its tree's directory, as tlog-tiles names it."""
    name, rest = f"{number % 1000:03d}", number // 1000
    while rest:
        name, rest = f"x{rest % 1000:03d}/{name}", rest // 1000
    return f"tile/{level}/{name}" + ("" if width == WIDTH else f".p/{width}")


def split_hashes(raw: bytes) -> list[bytes]:
    """A tile as its hashes."""
    return [raw[at : at + HASH] for at in range(0, len(raw), HASH)]


def check_tree(directory: Path, name: str, size: int, root: bytes, report: Report) -> None:
    """Do the tiles below `directory` make the root that was signed? Each tile that contradicts those below it is named."""
    below: list[bytes] = []
    tails: list[list[bytes]] = []
    level, count = 0, size
    while count:
        above: list[bytes] = []
        for number in range(-(-count // WIDTH)):
            width = min(WIDTH, count - number * WIDTH)
            path = tile_path(level, number, width)
            hashes = split_hashes(_content(directory / path))
            fits = len(hashes) == width and len(hashes[-1]) == HASH
            if report.expect("tiles", fits, f"{name}/{path}", -1, f"missing, or not {width} hashes") and level:
                same = hashes == below[number * WIDTH : number * WIDTH + width]
                report.expect("tiles", same, f"{name}/{path}", -1, "does not follow from the tiles below it")
            hashes = hashes if fits else [bytes(HASH)] * width
            if width == WIDTH:
                above.append(subtree_root(hashes))
            else:
                tails.append(hashes)
        if count % WIDTH == 0:
            tails.append([])
        below, level, count = above, level + 1, count >> 8
    report.expect("tiles", joined(tails) == root, name, -1, "the tiles have another root than the one that was signed")


def joined(tails: list[list[bytes]]) -> bytes:
    """The root from the unfinished tiles of all levels, lowest first."""
    pieces: list[bytes] = []
    for tail in reversed(tails):
        low = 0
        while low < len(tail):
            step = 1 << (len(tail) - low).bit_length() - 1
            pieces.append(subtree_root(tail[low : low + step]))
            low += step
    if not pieces:
        return hashlib.sha256(b"").digest()
    found = pieces.pop()
    while pieces:
        found = hashlib.sha256(b"\x01" + pieces.pop() + found).digest()
    return found


def prefix_root(directory: Path, size: int) -> bytes:
    """The root of the first `size` leaves, from the lowest tiles of a tree that may be larger. Raises `OSError`."""
    tails: list[list[bytes]] = []
    for number in range(-(-size // WIDTH)):
        width = min(WIDTH, size - number * WIDTH)
        path = directory / tile_path(0, number, WIDTH)
        partial = [int(each.name) for each in path.with_name(path.name + ".p").glob("*")]
        found = path if path.exists() or not partial else path.with_name(path.name + ".p") / str(max(partial))
        tails.append(split_hashes(found.read_bytes())[:width])
    full = [subtree_root(each) for each in tails if len(each) == WIDTH]
    rest = tails[-1] if size % WIDTH else []
    return _root_of_pieces(full, rest)


def _root_of_pieces(full: list[bytes], rest: list[bytes]) -> bytes:
    """The root over roots of 256 leaves each and the leaves after them."""
    levels, count, current = [rest], len(full), full
    while count:
        cut = count - count % WIDTH
        levels.append(current[cut:])
        current = [subtree_root(current[at : at + WIDTH]) for at in range(0, cut, WIDTH)]
        count = len(current)
    return joined(levels)


def open_note(note: bytes, origin: str, keys: list[bytes]) -> tuple[int, bytes] | str:
    """Size and root of a checkpoint that one of `keys` signed under its origin, or what is wrong with it."""
    text, _, signatures = note.rpartition(b"\n\n")
    text += b"\n"
    lines = text.decode(errors="replace").split("\n")
    if len(lines) != 4 or lines[0] != origin or not lines[1].isdigit() or not signatures.endswith(b"\n"):
        return f"no checkpoint of {origin}"
    known = {hashlib.sha256(origin.encode() + b"\n\x01" + key).digest()[:4]: key for key in keys}
    signed = False
    try:
        for line in signatures.decode().splitlines():
            dash, name, encoded = line.split(" ")
            raw = _unbase64(encoded)
            if dash != "\u2014":
                return "a signature line that is none"
            if name == origin and raw[:4] in known:
                Ed25519PublicKey.from_public_bytes(known[raw[:4]]).verify(raw[4:], text)
                signed = True
        root = _unbase64(lines[2])
    except InvalidSignature:
        return "its signature does not hold"
    except ValueError as error:
        return f"it cannot be read: {error}"
    if len(root) != HASH or str(int(lines[1])) != lines[1]:
        return "its root or size is none"
    return (int(lines[1]), root) if signed else "none of the notary's keys signed it"


# --- records ---------------------------------------------------------------------------------------------------------

ATTRIBUTES = (
    *("ce_id", "ce_source", "ce_specversion", "ce_type", "ce_time", "ce_subject", "ce_tenant", "ce_schemaversion", "ce_actor"),
    *("ce_causationid", "ce_correlationid", "traceparent", "ce_keyid", "ce_signature"),
)
"""Headers that are members of a line (without `ce_`), in the order in which they stand in the record."""
OWN = (
    "partition",
    "offset",
    "appendtime",
    "ruling",
    "rulingreason",
    "stateversion",
    "valuesha256",
    "wire",
    "datacontenttype",
    "data_base64",
)
_MEMBERS = {name.removeprefix("ce_"): name for name in ATTRIBUTES}
_ALLOWED = frozenset((*_MEMBERS, *OWN))
_DATA = b',"data":'
UNREADABLE = "chimera.unreadable"


class Line(NamedTuple):
    """A record as its line tells it: the bytes of the record, and the line's members."""

    offset: int
    appended: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, Any]]
    members: dict[str, Any]
    digest: str
    """SHA-256 of the value, hex; of nothing where there is none."""


class BadLine(Exception):
    """A line that is not what an export writes; says why."""


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def compact(value: Any) -> bytes:
    """JSON without spaces, in the order of its members."""
    return _ENCODER.encode(value).encode()


def read_line(text: bytes) -> Line:
    """A line, without its line break. Raises `BadLine`."""
    at = text.find(_DATA)
    value: bytes | None = None
    head = text
    if at >= 0:
        if not text.endswith(b"}"):
            raise BadLine("it is cut off")
        head, value = text[:at] + b"}", text[at + len(_DATA) : -1]
    try:
        members = json.loads(head)
        if compact(members) != head:
            raise BadLine("it is not written as an export writes it")
        if "data_base64" in members:
            value = _unbase64(members["data_base64"])
        if members.get("datacontenttype", "application/json") != "application/json" or ("datacontenttype" in members) != (at >= 0):
            raise BadLine("datacontenttype stands where there is data, and says application/json")
        strange = members.keys() - _ALLOWED
        if strange and (strange != {"defect"} or not isinstance(members["defect"], str)):
            raise BadLine(f"member {min(strange)!r} is none that an export writes")
        key, headers = _wire(members)
        when = datetime.fromisoformat(members["appendtime"])
        appended = round(when.timestamp() * 1000)
        if when.isoformat(timespec="milliseconds") != members["appendtime"] or when.utcoffset() is None:
            raise BadLine("appendtime is not written as an export writes it")
        if type(members["offset"]) is not int or type(members["partition"]) is not int:
            raise BadLine("partition and offset are numbers")
    except UnicodeDecodeError as error:
        raise BadLine("it is no text") from error
    except KeyError as error:
        raise BadLine(f"member {error} is missing") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadLine(f"not a line of an export: {error}") from error
    return Line(members["offset"], appended, key, value, headers, members, hashlib.sha256(value or b"").hexdigest())


def _wire(members: dict[str, Any]) -> tuple[bytes | None, list[tuple[str, Any]]]:
    wire = members.get("wire")
    if wire is None:
        return members["subject"].encode(), [(_MEMBERS[m], members[m].encode()) for m in members if m in _MEMBERS]
    key = None if wire["key"] is None else _unbase64(wire["key"])
    headers = [(name, None if value is None else _unbase64(value)) for name, value in wire["headers"]]
    told = {name: value.decode(errors="replace") for name, value in headers if name in ATTRIBUTES and value is not None}
    told = told if "defect" not in members else {}
    for member, name in _MEMBERS.items():
        if member in members or name in told:
            right = members[member] in ((told[name],) if name in told else _made_up(member, members))
            if not right:
                raise BadLine(f"member {member!r} is not what the record's headers say")
    return key, headers


def _made_up(member: str, members: dict[str, Any]) -> tuple[str, ...]:
    """What an export writes for a member that an event must have and the record lacks."""
    place = f"/{members['partition']}/{members['offset']}"
    if member == "id":
        return (members["id"],) if members["id"].endswith(place) else ()
    return {"source": ("chimera",), "specversion": ("1.0",), "type": (UNREADABLE,)}.get(member, ())


def leaf_of(line: Line) -> bytes:
    """The leaf of a record: a pure function of its bytes, place and append time."""
    id_ = type_ = None
    pieces: list[bytes] = []
    for name, value in line.headers:
        if name == "ce_id":
            id_ = value
        elif name == "ce_type":
            type_ = value
        raw = name.encode("utf-8", "surrogateescape")
        body = value or b""
        pieces += (len(raw).to_bytes(4, "big"), raw, b"\xff" * 4 if value is None else len(body).to_bytes(4, "big"), body)
    return compact(
        {
            "v": 1,
            "offset": line.offset,
            "appended": line.appended,
            "id": _told(id_),
            "type": _told(type_),
            "key": _told(line.key),
            "sha256": None if line.value is None else line.digest,
            "length": None if line.value is None else len(line.value),
            "headers": hashlib.sha256(b"".join(pieces)).hexdigest(),
        }
    )


def _told(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    try:
        return raw.decode()[:200]
    except UnicodeDecodeError:
        return "0x" + raw[:100].hex()


def outcome_of(offset: int, hash_: bytes, ruling: Any, reason: Any, version: Any) -> bytes:
    """The leaf of the outcome tree: what was ruled, bound by the hash of the record's leaf to what it was ruled about."""
    told = {"v": 1, "offset": offset, "record": hash_.hex(), "ruling": ruling, "reason": reason, "version": version}
    return compact(told)


def signed_message(line: Line) -> bytes:
    """What a record's signature covers."""
    m = line.members
    names = ("subject", "id", "type", "schemaversion", "tenant", "actor")
    return "\n".join(("chimera/1", *(m[name] for name in names), line.digest)).encode()


class LawKeys:
    """The keys of the law in one partition, as its LawAdopted records list them, each signed by the root key."""

    def __init__(self, root_public: str) -> None:
        self.root = base64.b64decode(root_public)
        self.known = {key_id(self.root): self.root}
        self.checked = 0

    def check(self, line: Line) -> str | None:
        """What is wrong with the line's signature; None where it holds, is none, or the law saw it and said so."""
        m = line.members
        if m["type"] == UNREADABLE or m.get("rulingreason") == "unreadable":
            return None
        law = m["type"] == "LawAdopted" and m.get("ruling") == "applied"
        key = self.known.get(m.get("keyid", ""))
        if key is None or "signature" not in m:
            return "the law that is adopted here is not signed by the root key" if law else None
        self.checked += 1
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(m["signature"]), signed_message(line))
        except (InvalidSignature, ValueError, KeyError):
            return None if m.get("rulingreason") == "forged" else f"the signature by {m['keyid']} over {m['type']} does not hold"
        if law and key == self.root:
            for publics in json.loads(line.value or b"{}")["keys"].values():
                self.known |= {key_id(raw): raw for raw in map(base64.b64decode, publics)}
        return None


def key_id(public: bytes) -> str:
    """Id of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


# --- security events (OCSF 1.1) --------------------------------------------------------------------------------------

_CREATE, _UPDATE, _DELETE = 1, 3, 4
SECURITY_TYPES = {
    "LawAdopted": (_UPDATE, "keys", "edition"),
    "PolicyPublished": (_UPDATE, "policy", "digest"),
    "PolicyAdopted": (_UPDATE, "policy", "digest"),
    "AccountClaimed": (_CREATE, "account", "platform"),
    "AccountLinked": (_CREATE, "account", "platform"),
    "AccountUnlinked": (_DELETE, "account", "platform"),
    "AccountReleased": (_DELETE, "account", "platform"),
    "AgentStatusSet": (_UPDATE, "agent", "status"),
    "ToolChanged": (_UPDATE, "tool", "tool"),
    "AllowanceSet": (_UPDATE, "allowance", "limit_usd"),
    "BudgetSet": (_UPDATE, "budget", "scope"),
    "PayeeAllowed": (_CREATE, "payee", "payee"),
    "PayeeRemoved": (_DELETE, "payee", "payee"),
    "SubjectForgotten": (_DELETE, "key of a person", "subject"),
    "HumanApproved": (_UPDATE, "payment", "effect_hash"),
}
"""Type of a record -> activity of Entity Management (3004), type of the entity, and the member that names it."""
_PROPOSED = "ArtifactProduced"
NOTED_TOPIC, _NOTED = "chimera.security", "SecurityNoted"
_LOGIN, _ACCOUNT, _ENTITY = 3002, 3001, 3004
_READ, _LOCK, _ATTACH, _REMOVE = 2, 9, 7, 6
NOTED_TYPES = {
    "login_accepted": (_LOGIN, 1, ""),
    "login_refused": (_LOGIN, 1, ""),
    "login_link_used": (_LOGIN, 1, ""),
    "token_refused": (_LOGIN, 1, ""),
    "signed_off": (_LOGIN, 2, ""),
    "locked_out": (_ACCOUNT, _LOCK, ""),
    "account_added": (_ACCOUNT, _CREATE, ""),
    "account_changed": (_ACCOUNT, _ATTACH, ""),
    "account_removed": (_ACCOUNT, _REMOVE, ""),
    "analyst_made": (_ACCOUNT, _CREATE, ""),
    "analyst_changed": (_ACCOUNT, _ATTACH, ""),
    "analyst_removed": (_ACCOUNT, _REMOVE, ""),
    "login_link_made": (_ENTITY, _CREATE, "login link"),
    "token_made": (_ENTITY, _CREATE, "token"),
    "token_revoked": (_ENTITY, _DELETE, "token"),
    "right_refused": (_ENTITY, _READ, "resource"),
    "command_refused": (_ENTITY, _UPDATE, "resource"),
    "card_shown": (_ENTITY, _READ, "card"),
    "switch_closed": (_ENTITY, _UPDATE, "kill switch"),
    "switch_opened": (_ENTITY, _UPDATE, "kill switch"),
    "key_rotated": (_ENTITY, _UPDATE, "key"),
    "key_dropped": (_ENTITY, _DELETE, "key"),
    "key_asked_for": (_ENTITY, _CREATE, "key"),
    "key_asked_no_more": (_ENTITY, _DELETE, "key"),
    "notary_key_made": (_ENTITY, _CREATE, "key of the notary"),
    "notary_key_rotated": (_ENTITY, _UPDATE, "key of the notary"),
    "notary_key_retired": (_ENTITY, _DELETE, "key of the notary"),
    "export_made": (_ENTITY, _READ, "export"),
    "forget_asked": (_ENTITY, _DELETE, "key of a person"),
    "events_lost": (_ENTITY, _DELETE, "security events"),
}
"""What a `SecurityNoted` says -> class (Authentication, Account Change, Entity Management), its activity, type of the entity."""
_LONGEST_NOTED = 16_384
"""Bytes. Ours are shorter, and a reader of JSON must not be sent deeper than its stack."""
_SEVERE = {"refused": 2, "failed": 4}


class Security:
    """The security events of one partition, from the records that are shown, in their order. Approvals: those of money alone."""

    def __init__(self, topic: str, partition: int, software: str) -> None:
        self._topic, self._software, self._noted = topic, software, topic == NOTED_TOPIC
        self.mine = compact({"unmapped": {"topic": topic, "partition": partition}})[:-2] + b","
        """What every event of this partition begins with."""
        self._money: set[tuple[Any, ...]] = set()

    def concerns(self, type_: str, reason: str, value: bytes | None) -> bool:
        """May the record be one, or be needed to tell whether a later one is?"""
        if self._noted:
            return type_ == _NOTED
        return type_ in SECURITY_TYPES or reason == "forged" or (type_ == _PROPOSED and b'"financial"' in (value or b""))

    def event(self, line: Line) -> bytes | None:
        """The event of a record that may be one."""
        if self._noted:
            return self._of_noted(line)
        m = line.members
        ruling, reason = m.get("ruling"), m.get("rulingreason")
        if reason == "forged":
            finding = {"uid": m["id"], "title": f"{m['type']} is not signed by a key that may say it"}
            return self._told(line, 2004, _CREATE, 4, {"finding_info": finding})
        if ruling not in ("applied", "rejected"):
            return None
        try:
            data = json.loads(line.value or b"")
            place = (m["subject"], data.get("campaign"), data.get("ordinal"), data.get("attempt"))
            if m["type"] == _PROPOSED:
                effect = data.get("effect")
                if ruling == "applied" and effect is not None and effect["effect_class"] == "financial":
                    self._money.add(place)
                return None
            if m["type"] == "HumanApproved" and place not in self._money:
                return None
            activity, kind, named = SECURITY_TYPES[m["type"]]
            entity = {"type": kind, "uid": m["subject"], "name": str(data[named]).encode(errors="replace").decode()}
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # no record that the law applied or rejected by its content
        return self._told(line, 3004, activity, 1, {"entity": entity})

    def _of_noted(self, line: Line) -> bytes | None:
        """A record that is a security event by itself; None for one that says nothing known here, whoever wrote it."""
        if line.value is None or len(line.value) > _LONGEST_NOTED:
            return None
        try:
            return self._event_of(line, json.loads(line.value))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def _event_of(self, line: Line, said: dict[str, Any]) -> bytes:
        class_, activity, kind = NOTED_TYPES[said["what"]]
        who, outcome, origin, door, named = (str(said[name]) for name in ("who", "outcome", "origin", "door", "resource"))
        told: dict[str, Any] = {
            "count": int(said["count"]),
            "status_id": 1 if outcome == "done" else 2,
            "status_detail": str(said["reason"]),
            "actor": {"user": {"name": who}},
        }
        if re.fullmatch(r"[0-9a-fA-F.:]*[.:][0-9a-fA-F.:]*", origin):
            told["src_endpoint"] = {"ip": origin}
        if class_ == _LOGIN:
            told |= {"user": {"name": who}, "service": {"name": door}}
        elif class_ == _ACCOUNT:
            told |= {"user": {"name": named}}
        else:
            told |= {"entity": {"type": kind, "uid": named or door, "name": named or door}}
        event = json.loads(self._told(line, class_, activity, _SEVERE.get(outcome, 1), told))
        event["metadata"]["event_code"] = f"{_NOTED}/{said['what']}"
        event["unmapped"] |= {"door": door, "origin": origin, "action": str(said["action"]), "digest": str(said["digest"])}
        event["unmapped"] |= {"at": int(said["at"]), "until": int(said["until"])}
        return compact(event)

    def _told(self, line: Line, class_: int, activity: int, severity: int, more: dict[str, Any]) -> bytes:
        m = line.members
        place = {"topic": self._topic, "partition": m["partition"], "offset": line.offset}
        ruled = {"ruling": m.get("ruling"), "value_sha256": line.digest, "signed_by": m.get("keyid", "")}
        good = m.get("ruling") == "applied"
        told: dict[str, Any] = {
            "unmapped": place | ruled,
            "class_uid": class_,
            "category_uid": class_ // 1000,
            "activity_id": activity,
            "type_uid": class_ * 100 + activity,
            "severity_id": severity,
            "status_id": 1 if good else 2,
            "status_detail": m.get("rulingreason", ""),
            "time": line.appended,
            "actor": {"user": {"name": m.get("actor", "")}},
            "metadata": {
                "uid": m["id"],
                "version": "1.1.0",
                "event_code": m["type"],
                "correlation_uid": m.get("correlationid", ""),
                "tenant_uid": m.get("tenant", ""),
                "product": {"name": "Chimera", "vendor_name": "Chimera", "version": self._software},
            },
        }
        return compact(told | more)


def _check_security(directory: Path, manifest: dict[str, Any], report: Report) -> None:
    """The file as a whole: as many events as the manifest says, each of a partition, partition after partition."""
    begins = [Security(topic["topic"], part["partition"], "").mine for topic in manifest["topics"] for part in topic["partitions"]]
    at = count = 0
    for count, text in enumerate(_lines_of(directory / SECURITY), 1):
        place = next((n for n in range(at, len(begins)) if text.startswith(begins[n])), None)
        if not report.expect("security", place is not None, SECURITY, -1, f"line {count} is of no partition, or out of its order"):
            break
        at = place or at
    else:
        told = manifest["security"]
        report.expect("security", count == told, SECURITY, -1, f"it has {count} events, the manifest says {told}")


def _lines_of(path: Path) -> Iterator[bytes]:
    if path.is_file():
        yield from _lines(path)


# --- the export ------------------------------------------------------------------------------------------------------

Work = tuple[Path, dict[str, Any], dict[str, Any], dict[str, Any], list[bytes]]
"""What it takes to check a partition: directory, manifest, its topic and partition there, the notary's public keys."""
Run = Callable[[list[Work], int], Iterator[tuple[int, "Report"]]]
"""Checks partitions in so many processes: number in the list and what was found, as they are done."""


class Watch(Protocol):
    """Whoever looks at the lines too."""

    def line(self, number: int, text: bytes, line: Line | None) -> None:
        """A line, counted from 1; None where it is none that an export writes."""


class Keys(NamedTuple):
    """The notary's keys that count, and whether the caller named them."""

    publics: list[bytes]
    pinned: bool


def verify(
    directory: Path,
    *,
    keys: list[bytes] | None = None,
    root: str | None = None,
    previous: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    jobs: int = 0,
    run: Run | None = None,
) -> Report:
    """Check everything that an export claims and that needs no code of Chimera. `keys`: the notary's, `root`: the root key's id.

    `run`: checks partitions in another way than `check_partitions` does.
    """
    report = Report(skipped={"rulings": FOLD, "cells": CELLS})
    manifest = report.manifest = _manifest(directory, keys, report)
    if manifest is None:
        report.skipped |= {c: "the manifest cannot be read" for c in CHECKS if c not in ("manifest", "rulings", "cells")}
        return report
    try:
        _verify(
            directory,
            manifest,
            Keys(keys or _publics(manifest), bool(keys)),
            root,
            previous,
            report,
            progress,
            jobs,
            run or check_partitions,
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        report.expect("manifest", False, MANIFEST, -1, f"it is not the manifest of an export: {type(error).__name__}: {error}")
    return report


def _verify(
    directory: Path,
    manifest: dict[str, Any],
    keys: Keys,
    root: str | None,
    previous: Path | None,
    report: Report,
    progress: Callable[[int, int], None],
    jobs: int,
    run: Run,
) -> None:
    own = key_id(base64.b64decode(manifest["root_public"]))
    report.expect("root", own == manifest["root"], MANIFEST, -1, f"root {manifest['root']} is not the id of its public key")
    if root is None:
        report.skipped["root"] = f"give --root: the export says {own}"
    else:
        report.expect("root", own == root, MANIFEST, -1, f"the root key is {own}, asked for {root}")
    _check_files(directory, manifest, report)
    parts = [(topic, part) for topic in manifest["topics"] for part in topic["partitions"]]
    for topic in manifest["topics"]:
        numbers = [part["partition"] for part in topic["partitions"]]
        report.expect("complete", numbers == list(range(len(numbers))), MANIFEST, -1, f"partitions of {topic['topic']}: {numbers}")
    total, done = sum(part["size"] for _, part in parts), 0
    work = [(directory, manifest, topic, part, keys.publics) for topic, part in parts]
    jobs = jobs or (os.cpu_count() or 1 if total >= MANY else 1)
    reports: dict[int, Report] = {}
    for at, found in run(work, jobs):
        reports[at] = found
        done += work[at][3]["size"]
        progress(done, total)
    for at in sorted(reports):
        report.add(reports[at])
    for name in ("size", "count", "withheld", "applied", "rejected", "void"):
        told, summed = manifest["totals"][name], sum(part[name] for _, part in parts)
        report.expect("counts", told == summed, MANIFEST, -1, f"totals: {name} is {told}, the sum is {summed}")
    if "jsonl" not in manifest["formats"]:
        why = "the export holds no JSON lines"
        report.skipped |= dict.fromkeys(("records", "complete", "counts", "signatures", "outcomes", "security"), why)
    elif "security" in manifest:
        _check_security(directory, manifest, report)
    else:
        report.skipped["security"] = "the version that wrote the export told none"
    if previous is None:
        report.skipped["previous"] = "give --previous with the directory of the export before"
    else:
        _check_previous(directory, manifest, previous, keys, report)
    report.facts |= {name: manifest[name] for name in ("installation", "software", "law", "root", "selection", "totals")}


def _publics(manifest: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(text) for text in manifest.get("notary", [])]


def _manifest(directory: Path, keys: list[bytes] | None, report: Report) -> dict[str, Any] | None:
    """The manifest that was signed; where no signature holds, what the file says, so that the rest can be looked at."""
    plain = _content(directory / MANIFEST)
    try:
        envelope = json.loads(_content(directory / ENVELOPE))
        payload = _unbase64(envelope["payload"])
        if compact(envelope) + b"\n" != _content(directory / ENVELOPE) or envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError("not written as an export writes it")
        claimed = json.loads(payload)
        trusted = keys or _publics(claimed)
        pre = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload
        signers = [key for key in trusted if any(_signed(key, each["sig"], pre) for each in envelope["signatures"])]
        mine = {key_id(key) for key in trusted}
        fair = all(_sound(each, trusted, pre) for each in envelope["signatures"] if each["keyid"] in mine)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        report.expect("manifest", False, ENVELOPE, -1, f"it cannot be read: {error}")
        claimed, payload, signers, fair = None, b"", [], True
    else:
        report.expect(
            "manifest", bool(signers) and fair, ENVELOPE, -1, "no signature over it is by a key that counts, or one does not hold"
        )
    report.facts["signed_by"] = [base64.b64encode(key).decode() for key in signers]
    if keys is None:
        told = ", ".join(report.facts["signed_by"]) or "nobody"
        report.skipped["key"] = f"give --key: the export says that it is signed by {told}"
    else:
        report.expect("key", bool(signers), ENVELOPE, -1, "it is not signed by a key that was given")
    report.expect("manifest", plain == payload, MANIFEST, -1, f"it is not what was signed: {_difference(plain, claimed)}")
    for found in (claimed, _parsed(plain)):
        if isinstance(found, dict) and found.get("format") == FORMAT:
            return found
    report.expect("manifest", False, MANIFEST, -1, f"no manifest of format {FORMAT} is there")
    return None


def _signed(key: bytes, signature: str, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(_unbase64(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _sound(signature: dict[str, str], keys: list[bytes], message: bytes) -> bool:
    return any(key_id(key) == signature["keyid"] and _signed(key, signature["sig"], message) for key in keys)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _difference(plain: bytes, signed: Any) -> str:
    """The first member in which the file differs from what was signed."""
    found = _parsed(plain)
    if not isinstance(found, dict) or not isinstance(signed, dict):
        return "one of them cannot be read"

    def walk(a: Any, b: Any, at: str) -> str:
        if isinstance(a, dict) and isinstance(b, dict):
            for name in [*b, *(name for name in a if name not in b)]:
                if a.get(name) != b.get(name) or (name in a) != (name in b):
                    return walk(a.get(name), b.get(name), f"{at}.{name}" if at else name)
        if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            for number, (one, other) in enumerate(zip(a, b, strict=True)):
                if one != other:
                    return walk(one, other, f"{at}[{number}]")
        return f"{at} is {str(a)[:60]!r}, signed was {str(b)[:60]!r}"

    return walk(found, signed, "") if found != signed else "its members are the same, its bytes are not"


def _check_files(directory: Path, manifest: dict[str, Any], report: Report) -> None:
    raw = _content(directory / SUMS)
    right = hashlib.sha256(raw).hexdigest() == manifest["sums"]
    report.expect("files", right, SUMS, -1, "it is not the list of files that the manifest names")
    named: dict[str, str] = {}
    for text in raw.decode(errors="replace").splitlines():
        digest, _, name = text.partition("  ")
        named[name] = digest
    found_there = (p for p in directory.rglob("*") if "__pycache__" not in p.parts)
    there = {str(p.relative_to(directory)) for p in found_there if p.is_symlink() or not p.is_dir()}  # a linked folder is no folder
    there -= {MANIFEST, ENVELOPE, SUMS}
    for name in sorted(there - named.keys()):
        report.expect("files", False, name, -1, "it is not a file of this export")
    for name, digest in named.items():
        if name not in there:
            report.expect("files", False, name, -1, "missing")
            continue
        with (directory / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        report.expect("files", found == digest, name, -1, f"its sha256 is {found}, not {digest[:64]}")


def check_partitions(work: list[Work], jobs: int) -> Iterator[tuple[int, Report]]:
    """Partitions one after the other, or side by side."""
    if jobs == 1:
        yield from enumerate(map(check_partition, work))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from enumerate(pool.map(check_partition, work))


def check_partition(work: Work, watch: Watch | None = None) -> Report:
    """Trees and records of one partition. `watch` is shown each line in passing, so that nobody has to read it again."""
    directory, manifest, topic, part, publics = work
    report = Report()
    name, number, size = topic["topic"], part["partition"], part["size"]
    origin = f"{manifest['installation']}/{name}/{number}"
    trees = [("trees", origin, part["root"])]
    if topic["ruled"]:
        trees.append(("outcomes", f"{origin}/outcomes/law-{manifest['law']}/{manifest['software']}", part["outcomes"]))
    for folder, whose, root in trees:
        below = f"{folder}/{name}/{number}"
        found = open_note(_content(directory / below / "checkpoint"), whose, publics)
        if isinstance(found, str):
            report.expect("checkpoints", False, f"{below}/checkpoint", -1, found)
            found = (size, _hex(root))
        told = (found[0], found[1].hex())
        agreed = told == (size, root)
        report.expect("checkpoints", agreed, f"{below}/checkpoint", -1, f"it signs {told}, the manifest says {(size, root)}")
        check_tree(directory / below, below, *found, report)
    if "jsonl" in manifest["formats"]:
        _check_lines(directory, manifest, topic, part, report, watch)
    return report


def _hex(text: Any) -> bytes:
    try:
        return bytes.fromhex(text)
    except (ValueError, TypeError):
        return b""


class _Leaves:
    """The leaf hashes of one tree, a tile at a time."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory, self._size, self._number, self._raw = directory, size, -1, b""

    def at(self, index: int) -> bytes:
        number = index // WIDTH
        if number != self._number:
            width = min(WIDTH, self._size - number * WIDTH)
            self._number, self._raw = number, _content(self._directory / tile_path(0, number, width))
        place = index % WIDTH * HASH
        return self._raw[place : place + HASH]


def _check_lines(
    directory: Path, manifest: dict[str, Any], topic: dict[str, Any], part: dict[str, Any], report: Report, watch: Watch | None
) -> None:
    name, number, size, ruled = topic["topic"], part["partition"], part["size"], topic["ruled"]
    file = f"records/{name}-{number:02d}.jsonl"
    leaves, outcomes = (_Leaves(directory / f"{folder}/{name}/{number}", size) for folder in ("trees", "outcomes"))
    selection = manifest["selection"]
    whole = not (selection["agents"] or selection["tenants"] or selection["types"])
    since = -(2**63) if selection["from_ms"] is None else selection["from_ms"]
    before = 2**63 if selection["until_ms"] is None else selection["until_ms"]
    law = LawKeys(manifest["root_public"])
    security = Security(name, number, manifest["software"])
    events = (text for text in _lines_of(directory / SECURITY) if text.startswith(security.mine))
    first, due, counts = part["first"], part["first"], {"applied": 0, "rejected": 0, "void": 0}
    count = laws = 0
    told_security = "security" in manifest
    report.expect("counts", 0 <= first <= size, MANIFEST, -1, f"{name}[{number}] is said to begin at {first}")
    if not (directory / file).is_file():
        report.expect("records", False, file, -1, "missing")
        return
    for text in _lines(directory / file):
        count += 1
        try:
            line = read_line(text)
        except BadLine as error:
            report.expect("records", False, file, due, f"line {count}: {error}")
            due += 1
            if watch is not None:
                watch.line(count, text, None)
            continue
        if watch is not None:
            watch.line(count, text, line)
        m, at, was_due = line.members, line.offset, due
        if 0 <= at < first and (line.key or b"").startswith(b"law/"):  # always there: the keys of what follows
            laws += 1
            placed = m["partition"] == number and due == first
        else:
            placed = m["partition"] == number and due <= at < size and (at == due or not whole)
            due = at + 1
        timely = at < first or since <= line.appended < before
        report.checked["complete"] += 1
        if not placed or not timely:
            # Named by the record that was due: of a line that claims an earlier place nothing else tells which one is damaged.
            named = max(at, was_due)
            report.fault("complete", file, named, f"line {count} is record {m['partition']}@{at}, out of its place or time")
        if not 0 <= at < size:
            continue
        leaf = leaf_of(line)
        hash_ = leaf_hash(leaf)
        report.checked["records"] += 1
        if hash_ != leaves.at(at) or m["valuesha256"] != line.digest:
            report.fault("records", file, at, f"line {count}: {_who(m)} is not the record that was signed at {at}")
        report.checked["outcomes"] += 1
        if ruled:
            told = m.get("ruling"), m.get("rulingreason"), m.get("stateversion")
            if leaf_hash(outcome_of(at, hash_, *told)) != outcomes.at(at):
                report.fault("outcomes", file, at, f"line {count}: {told} is not what was ruled on {_who(m)}")
            if told[0] in counts:
                counts[told[0]] += 1
            wrong = law.check(line)
            if wrong is not None:
                report.fault("signatures", file, at, f"line {count}: {wrong}")
        elif m.keys() & {"ruling", "rulingreason", "stateversion"}:
            report.fault("outcomes", file, at, f"line {count}: a ruling where nothing is ruled")
        if told_security and security.concerns(m["type"], m.get("rulingreason", ""), line.value):
            event = security.event(line)
            if event is not None:
                told_security = report.expect(
                    "security", next(events, None) == event, SECURITY, at, f"it does not tell {_who(m)} as the record at {at} does"
                )
    report.checked["signatures"] += law.checked
    if told_security:
        report.expect(
            "security", next(events, None) is None, SECURITY, -1, f"it tells more of {name}[{number}] than its records do"
        )
    if whole:
        report.expect("complete", due == size, file, due, f"it ends at {due} (without), but the tree has {size} leaves")
    found = (count, size - first - (count - laws), *counts.values())
    names = ("count", "withheld", "applied", "rejected", "void")
    claimed = tuple(part[each] for each in names)
    report.expect("counts", found == claimed, file, -1, f"{names} are {found}, the manifest says {claimed}")
    report.expect(
        "complete", not whole or part["withheld"] == 0, file, -1, f"{part['withheld']} records are withheld for no reason given"
    )


def _who(members: dict[str, Any]) -> str:
    return f"{members['type'][:40]} {members['id'][:60]}"


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for text in file:
            yield text.removesuffix(b"\n") if text.endswith(b"\n") else text + b" without a line break"


def _check_previous(directory: Path, manifest: dict[str, Any], previous: Path, keys: Keys, report: Report) -> None:
    """Does each tree begin with that of the export before?"""
    aside = Report()
    before = _manifest(previous, keys.publics, aside)
    if before is None or not aside.intact:
        why = aside.damages[0].text if aside.damages else "no manifest"
        report.expect("previous", False, f"{previous}/{MANIFEST}", -1, f"the export before cannot be relied on: {why}")
        return
    now = {(t["topic"], p["partition"]): p for t in manifest["topics"] for p in t["partitions"]}
    for topic in before["topics"]:
        for part in topic["partitions"]:
            name, number, size = topic["topic"], part["partition"], part["size"]
            below = f"trees/{name}/{number}"
            origin = f"{before['installation']}/{name}/{number}"
            old = open_note(_content(previous / below / "checkpoint"), origin, keys.publics)
            if isinstance(old, str) or before["installation"] != manifest["installation"]:
                why = old if isinstance(old, str) else f"it is of installation {before['installation']}"
                report.expect("previous", False, f"{previous}/{below}/checkpoint", -1, why)
                continue
            mine = now.get((name, number))
            if mine is None or mine["size"] < old[0]:
                have = 0 if mine is None else mine["size"]
                report.expect("previous", False, below, -1, f"the log has {have} records, the export before had {old[0]}")
                continue
            try:
                same = prefix_root(directory / below, old[0]) == old[1]
            except (OSError, IndexError):
                same = False
            report.expect(
                "previous", same, below, -1, f"its first {size} records are not those of the export before: the log was changed"
            )


def _content(path: Path) -> bytes:
    """A file's bytes; none where there is no such file (which is named by the list of files)."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _unbase64(text: str) -> bytes:
    """Exactly one text stands for the bytes. Raises `ValueError`."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("stray bits in base64")
    return raw


# --- the command -----------------------------------------------------------------------------------------------------


def shown(report: Report, most: int = 20) -> Iterator[str]:
    """The report for people, a line each."""
    for check, claim in CHECKS.items():
        state = report.state(check)
        tail = report.skipped[check] if state == UNCHECKED else f"{report.checked[check]} checked"
        yield f"{state:<11} {check:<11} {claim} ({tail})"
    for damage in report.damages[:most]:
        where = damage.file if damage.record < 0 else f"{damage.file}: record {damage.record}"
        yield f"  {where}: {damage.check}: {damage.text}"
    if len(report.damages) > most:
        yield f"  and {len(report.damages) - most} more (--json lists all)"
    if "totals" in report.facts:
        t = report.facts["totals"]
        yield f"{t['count']} records here and {t['withheld']} withheld, of {t['size']} that were signed; {report.facts['software']}"


def main(argv: list[str] | None = None) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "directory", type=Path, nargs="?", default=Path(__file__).parent, help="the export (default: where this file lies)"
    )
    parser.add_argument("--key", action="append", help="a public key of the notary that you trust (base64); may be repeated")
    parser.add_argument("--root", help="id of the root key that you trust")
    parser.add_argument("--previous", type=Path, help="the export before, which this one must extend")
    parser.add_argument("--json", action="store_true", help="the verdicts as JSON")
    given = parser.parse_args(argv)
    for directory in (given.directory, given.previous):
        if directory is not None and not directory.is_dir():
            parser.error(f"{directory} is no directory")
    try:
        keys = [_unbase64(text) for text in given.key] if given.key else None
        assert keys is None or all(len(key) == 32 for key in keys)
    except (ValueError, AssertionError):
        parser.error("--key: a public key is 32 bytes in base64")
    report = verify(given.directory, keys=keys, root=given.root, previous=given.previous)
    print(json.dumps(report.data(), indent=2) if given.json else "\n".join(shown(report)))
    return 0 if report.intact else 1


if __name__ == "__main__":
    sys.exit(main())
