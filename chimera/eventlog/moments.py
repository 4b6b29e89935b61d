"""Moments of the log: a time with its zone or the place of a record, and where each partition stood then.

The rule not to break: a moment cuts every partition at a prefix; what the broker appended later than it is never behind the cut.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its stubs leave it out of __all__

from chimera.errors import ChimeraError
from chimera.eventlog.offsets import offsets_of
from chimera.eventlog.read import begin_offsets, end_offsets, read_until

_PLACE = re.compile(r"(\d{1,5}):(\d{1,18})")


class BadMoment(ChimeraError):
    """Words that name no moment, or one that this log does not have. The message says what to write instead."""


class Cut(NamedTuple):
    """Where the log stood: per partition the first offset that was not there yet, and the moment (ms, broker time)."""

    ts: int
    upto: Mapping[int, int]

    @property
    def records(self) -> int:
        """How many records lie before the cut."""
        return sum(self.upto.values())


def parse_time(text: str) -> int:
    """Broker time in ms of an ISO 8601 time that names its zone. Raises `BadMoment`."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadMoment(f"'{text}' is no time: write it as 2026-11-22T10:00Z, 2026-11-22T10:00:30.5+01:00") from None
    if found.tzinfo is None:
        raise BadMoment(
            f"'{text}' names no time zone, and the log knows no local time: write {found.isoformat()}Z for UTC, or its offset "
            f"as in {found.isoformat()}+01:00"
        )
    return int(found.timestamp() * 1000)


def parse_place(text: str) -> tuple[int, int] | None:
    """(partition, offset) of `<partition>:<offset>`; None where the words are something else."""
    found = _PLACE.fullmatch(text.strip())
    return (int(found[1]), int(found[2])) if found else None


def moment(bootstrap: str, topic: str, text: str) -> Cut:
    """The cut at a time (all that was appended up to it) or at a record `<partition>:<offset>` (it and all that came before it).

    Records of other partitions are ordered to that one by broker time, the only clock there is. Raises `BadMoment`, and what
    reading raises.
    """
    place = parse_place(text)
    if place is None:
        return at_time(bootstrap, topic, parse_time(text))
    partition, offset = place
    ends = end_offsets(bootstrap, topic)
    if partition not in ends:
        raise BadMoment(f"'{text}': {topic} has the partitions 0 to {len(ends) - 1}")
    if offset >= ends[partition]:
        last = f"its last record is {partition}:{ends[partition] - 1}" if ends[partition] else "it holds no record"
        raise BadMoment(f"'{text}' is beyond the end of partition {partition}: {last}")
    begin = begin_offsets(bootstrap, topic, [partition])[partition]
    if offset < begin:
        raise BadMoment(f"'{text}' is not there any more: partition {partition} begins at {partition}:{begin}")
    (raw,) = next(read_until(bootstrap, topic, [partition], {partition: offset}, {partition: offset + 1}))
    return Cut(raw.append_ts, {**offsets_after(bootstrap, topic, raw.append_ts), partition: offset + 1})


def at_time(bootstrap: str, topic: str, ts: int) -> Cut:
    """The cut at a time (ms). Raises `BadMoment` for one that is still to come, or before the first record."""
    if ts > int(time.time() * 1000):
        raise BadMoment(f"{said(ts)} is still to come, so the log of that moment is not written yet: name an earlier one")
    cut = Cut(ts, offsets_after(bootstrap, topic, ts))
    if not cut.records:
        ends = end_offsets(bootstrap, topic)
        firsts = [batch[0].append_ts for p in ends if ends[p] for batch in read_until(bootstrap, topic, [p], {p: 0}, {p: 1})]
        began = f"the log begins at {said(min(firsts))}" if firsts else "the log is empty"
        raise BadMoment(f"nothing was appended up to {said(ts)}: {began}")
    return cut


def offsets_after(
    bootstrap: str, topic: str, ts: int, partitions: Iterable[int] | None = None, timeout_s: float = 10.0
) -> dict[int, int]:
    """Per partition the first offset that was appended later than `ts` (ms); else its end. Raises what reading raises."""
    ends = end_offsets(bootstrap, topic, partitions, timeout_s)
    later = OffsetSpec.for_timestamp(ts + 1)
    found = offsets_of(bootstrap, topic, ends, later, timeout_s)
    return {p: found[p] if 0 <= found[p] < end else end for p, end in ends.items()}


def said(ts: int) -> str:
    """A broker time (ms) in words, in UTC with its zone."""
    return datetime.fromtimestamp(ts / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
