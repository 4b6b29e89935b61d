"""EngagementObserved, the record of `chimera.metrics`: what a platform says of a post at a moment. No part of the law.

The rule not to break: values are cumulative, as the platform counts. Who writes them never adds, and who reads them keeps the last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from chimera.errors import ChimeraError

TOPIC = "chimera.metrics"
TYPE = "EngagementObserved"
MOST = 64
"""Numbers in one record."""
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TOO_MUCH = 2.0**63
_EARLIEST_MS, _LATEST_MS = 946_684_800_000, 4_102_444_800_000  # the years 2000 to 2099: what lies outside is no observation


class BadObservation(ChimeraError):
    """It says no number of a post at a moment."""


class EngagementObserved(NamedTuple):
    """Cumulative numbers of one post at `observed_at_ms` (platform's clock, UTC). `source` is the tool that told, or a file."""

    agent: str
    platform: str
    platform_id: str
    observed_at_ms: int
    values: Mapping[str, float]
    source: str


def encode(seen: EngagementObserved) -> bytes:
    """The record's value; its key is `agent`."""
    return orjson.dumps(
        {
            "type": TYPE,
            "schemaversion": 1,
            "agent": seen.agent,
            "platform": seen.platform,
            "platform_id": seen.platform_id,
            "observed_at": seen.observed_at_ms,
            "values": seen.values,
            "source": seen.source,
        }
    )


def decode(key: bytes | None, value: bytes | None) -> EngagementObserved:
    """What a record says. Raises `BadObservation`: whatever bytes it is made of."""
    try:
        said = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        raise BadObservation("it is not JSON") from None
    if type(said) is not dict:
        raise BadObservation("it is not a JSON object")
    return _checked(_stream_key(key), said)


def observed(agent: str, said: Mapping[str, Any]) -> EngagementObserved:
    """Check the fields of one observation. Raises `BadObservation`, which names the field and what it should be."""
    return _checked(_stream(agent), said)


@lru_cache(maxsize=16_384)
def _stream_key(key: bytes | None) -> str:
    try:
        return _stream((key or b"").decode())
    except UnicodeDecodeError:
        raise BadObservation("its key is no stream key") from None


def _stream(agent: str) -> str:
    if not agent.startswith("agent/") or len(agent) > 100:
        raise BadObservation(f"agent is {agent[:60]!r}: a stream key, agent/<uuid>")
    return agent


def _checked(agent: str, said: Mapping[str, Any]) -> EngagementObserved:
    # The way that every number of every platform takes: types are compared, not asked for, and it is one tuple that is made.
    told = said.get
    platform, platform_id, at, values, source = (
        told("platform"),
        told("platform_id"),
        told("observed_at"),
        told("values"),
        told("source"),
    )
    if type(platform) is not str or not 0 < len(platform) <= 200:
        raise BadObservation(f"platform is {_shown(platform)}: a text of 1 to 200 signs")
    if type(platform_id) is not str or not 0 < len(platform_id) <= 200:
        raise BadObservation(f"platform_id is {_shown(platform_id)}: a text of 1 to 200 signs")
    if type(at) is not int or not _EARLIEST_MS <= at <= _LATEST_MS:
        raise BadObservation(f"observed_at is {_shown(at)}: milliseconds since 1970, between the years 2000 and 2099")
    if type(values) is not dict or not 0 < len(values) <= MOST:
        raise BadObservation(f"values is {_shown(values)}: 1 to {MOST} named numbers")
    wrong = _misnamed(tuple(values))
    if wrong is not None:
        raise BadObservation(f"metric {wrong[:60]!r}: small letters, digits and _, beginning with a letter")
    for value in values.values():
        if (type(value) is not float and type(value) is not int) or not 0.0 <= value < _TOO_MUCH:  # infinite is not below either
            name = next(name for name, own in values.items() if own is value)
            raise BadObservation(f"{name} is {_shown(value)}: a number from 0 on")
    if type(source) is not str:
        source = ""
    return tuple.__new__(EngagementObserved, (agent, platform, platform_id, at, values, source[:200]))


@lru_cache(maxsize=4096)
def _misnamed(names: tuple[str, ...]) -> str | None:
    """The first that cannot be a metric's name. Platforms tell the same few sets of names for ever."""
    return next((name for name in names if not _METRIC.fullmatch(name)), None)


def when(text: object) -> int:
    """A moment as files have it, in milliseconds since 1970: a number (seconds or milliseconds) or ISO 8601 with a zone.

    Raises `BadObservation`.
    """
    if isinstance(text, datetime):
        at = text
    elif isinstance(text, int | float) and not isinstance(text, bool) and math.isfinite(text):
        return int(text) if text > 1e11 else int(text * 1000)
    else:
        word = str(text).strip()
        if re.fullmatch(r"\d+(\.\d+)?", word):
            return when(float(word))
        try:
            at = datetime.fromisoformat(word)
        except ValueError:
            raise BadObservation(f"observed_at is {_shown(text)}: ISO 8601 with a zone, or seconds since 1970") from None
    if at.tzinfo is None:
        raise BadObservation(f"observed_at is {_shown(text)}: it lacks its zone (write 2026-11-22T09:00:00Z)")
    return int(at.astimezone(UTC).timestamp() * 1000)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
