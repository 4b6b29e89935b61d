"""The sealed fields of records, and the keys of people that an export discloses.

The rule not to break: nothing is opened here. A key that was destroyed or is withheld is in no export.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from chimera.audit.source import Redaction
from chimera.commands.subjects import KEYS, SubjectKeyFiles

DISCLOSED = "keys.jsonl"
PSEUDONYM = re.compile(r"person/[0-9a-f]{32}")


def disclosed_keys(home: Path, redaction: Redaction, subjects: Iterable[str]) -> tuple[bytes, int]:
    """`keys.jsonl`, and how many keys are in it: of those who are shown, there, and not withheld."""
    store = SubjectKeyFiles(home / KEYS)
    lines = []
    for subject in sorted(set(subjects)):
        key = None if redaction.withholds(subject) else store.known_key(subject)
        if key is not None:
            told = {"subject": subject, "key": base64.b64encode(key).decode(), "key_commitment": hashlib.sha256(key).hexdigest()}
            lines.append(orjson.dumps(told) + b"\n")
    return b"".join(lines), len(lines)


def sealed_in(value: bytes) -> Iterator[dict[str, Any]]:
    """The sealed fields anywhere in a record's value; none where it is no JSON."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return
    yield from _walk([found])


def _walk(values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for value in values:
        if isinstance(value, dict):
            if {"subject", "nonce", "ciphertext", "key_commitment"} <= value.keys():
                yield value
            else:
                yield from _walk(value.values())
        elif isinstance(value, list):
            yield from _walk(value)
