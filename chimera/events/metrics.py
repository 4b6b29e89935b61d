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
_NUMBERS = (int, float)  # and no bool, which is an int to isinstance
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
    if not isinstance(said, dict):
        raise BadObservation("it is not a JSON object")
    try:
        agent = (key or b"").decode()
    except UnicodeDecodeError:
        raise BadObservation("its key is no stream key") from None
    return observed(agent, said)


def observed(agent: str, said: Mapping[str, Any]) -> EngagementObserved:
    """Check the fields of one observation. Raises `BadObservation`, which names the field and what it should be."""
    if not agent.startswith("agent/") or len(agent) > 100:
        raise BadObservation(f"agent is {agent[:60]!r}: a stream key, agent/<uuid>")
    platform, platform_id, at, values = said.get("platform"), said.get("platform_id"), said.get("observed_at"), said.get("values")
    if not isinstance(platform, str) or not 0 < len(platform) <= 200:
        raise BadObservation(f"platform is {_shown(platform)}: a text of 1 to 200 signs")
    if not isinstance(platform_id, str) or not 0 < len(platform_id) <= 200:
        raise BadObservation(f"platform_id is {_shown(platform_id)}: a text of 1 to 200 signs")
    if not isinstance(at, int) or isinstance(at, bool) or not _EARLIEST_MS <= at <= _LATEST_MS:
        raise BadObservation(f"observed_at is {_shown(at)}: milliseconds since 1970, between the years 2000 and 2099")
    if not isinstance(values, dict) or not 0 < len(values) <= MOST:
        raise BadObservation(f"values is {_shown(values)}: 1 to {MOST} named numbers")
    wrong = _misnamed(tuple(values))
    if wrong is not None:
        raise BadObservation(f"metric {wrong[:60]!r}: small letters, digits and _, beginning with a letter")
    for name, value in values.items():
        if type(value) not in _NUMBERS or not 0 <= value < 2**63:  # what is not a number or infinite is not below either
            raise BadObservation(f"{name} is {_shown(value)}: a number from 0 on")
    source = said.get("source")
    return EngagementObserved(agent, platform, platform_id, at, values, source[:200] if isinstance(source, str) else "")


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
