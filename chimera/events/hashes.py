"""The hashes that records name each other by: canonical JSON, artifact, effect, commit and text fingerprints.

The rule not to break: a hash function here is a storage contract. A different byte in canonical form is a different hash for ever.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache
from typing import Any

import orjson

_WORD = re.compile(r"\w+", re.UNICODE)


def _plain(value: object) -> object:
    """Decimal and the like have one canonical text; anything else unknown to JSON is a programming error."""
    from decimal import Decimal

    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    raise TypeError(f"cannot be hashed canonically: {type(value).__name__}")


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8: the one form that is hashed and signed."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SORT_KEYS)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value)).hexdigest()


def sha256(data: bytes) -> str:
    """SHA-256 (hex) of exact bytes."""
    return hashlib.sha256(data).hexdigest()


def commit_hash(agent: str, task_id: str, input_state_version: int, artifact_hash: str, effect_hash: str | None) -> str:
    """What a commit binds: the artifact and its metadata, at the version that was read (design section 5)."""
    text = f"{agent}|{task_id}|{input_state_version}|{artifact_hash}|{effect_hash or '-'}"
    return hashlib.sha256(text.encode()).hexdigest()


def normal_words(text: str) -> list[str]:
    """Words of a text as fingerprints see it: NFKC, case-folded, no punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@lru_cache(maxsize=4096)  # as often as `simhash`
def text_hash(text: str) -> str:
    """First 16 hex digits of SHA-256 over the normalised words: equal for texts that differ in case or punctuation only.

    "" for a text without words: it is like nothing else."""
    words = normal_words(text)
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16] if words else ""


@lru_cache(maxsize=4096)  # one text is drafted, proposed and judged twice
def simhash(text: str) -> int:
    """64-bit SimHash over word trigrams (single words for short texts): near-duplicates differ in few bits."""
    words = normal_words(text)
    grams = [" ".join(words[i : i + 3]) for i in range(len(words) - 2)] if len(words) >= 6 else words
    if not grams:
        return 0
    votes = [0] * 8
    for gram in grams:
        for place, byte in enumerate(hashlib.blake2b(gram.encode(), digest_size=8).digest()):
            votes[place] += _SPREAD[byte]
    majority = len(grams) // 2
    return int.from_bytes(bytes(sum(1 << bit for bit in range(8) if vote >> 32 * bit & _LANE > majority) for vote in votes), "big")


_LANE = 2**32 - 1
_SPREAD = [sum((byte >> bit & 1) << 32 * bit for bit in range(8)) for byte in range(256)]
"""Byte -> its bits, each in a lane of 32 bits: the votes of a whole byte are counted by one addition."""


def distance(a: int, b: int) -> int:
    """Number of differing bits of two SimHashes (0 = same, about 32 = unrelated)."""
    return (a ^ b).bit_count()
