"""A record as the broker holds it: bytes and coordinates, before anything is believed about it.

The rule not to break: nothing here interprets a byte; decoding has one place, `chimera.events.envelope`.
"""

from __future__ import annotations

from typing import NamedTuple

Headers = list[tuple[str, bytes]]
"""Raw header list in wire order, duplicates kept (a duplicate makes a record unreadable)."""


class RawRecord(NamedTuple):
    """One Kafka record: coordinates, broker append time in milliseconds since the epoch (LogAppendTime), bytes."""

    topic: str
    partition: int
    offset: int
    append_ts: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Position(NamedTuple):
    """Where an appended record lies: the broker's answer to an append."""

    topic: str
    partition: int
    offset: int
    append_ts: int
