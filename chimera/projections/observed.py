"""Records of `chimera.metrics` as the bytes of two COPYs in PostgreSQL's binary format. Pure: no connection, no clock.

The rule not to break: what stands in the bytes is what `chimera.events.metrics.decode` says, but for U+0000, which no text of
Postgres holds. Binary, because a number and a moment cost the server and this process several times as much as text.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from operator import attrgetter
from struct import Struct
from typing import Any, NamedTuple

from chimera.events.metrics import BadObservation, decode
from chimera.events.raw import RawRecord
from chimera.projections.batch import Stretch

log = logging.getLogger(__name__)

COLUMNS = (
    "agent_id", "platform", "source", "platform_id", "observed_at", "created_at", "partition", "offset", "metric", "n", "value",
)  # fmt: skip
"""Of `engagement_metrics`, in the order of `Made.rows`: first what all numbers of a record have in common."""
LAST = (
    "agent_id", "platform", "platform_id", "day", "metrics", "numbers", "observed_at", "partition", "offset", "newest",
)  # fmt: skip
"""Of what is staged for the rollups, in the order of `Made.last`."""

_BEGIN, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"  # signature, no flags, no extension; and no more rows
_EPOCH_MS, _EPOCH_DAY = 946_684_800_000, 10_957  # Postgres counts from 2000-01-01
_LATEST_MS = 253_402_300_799_000
_DAY_MS = 86_400_000
_ROW = Struct(">h").pack(len(COLUMNS))
_LAST_ROW = Struct(">h").pack(len(LAST))
_length = Struct(">i").pack
_placed = Struct(">iqiqihiq").pack
"""observed_at, created_at, partition, offset."""
_named_n = Struct(">ihi").pack
_ended = Struct(">iqihiqi?").pack
"""observed_at, partition, offset, newest."""
_array_head = Struct(">iiiiii").pack
_TEXT, _FLOAT8 = 25, 701  # types of the elements of arrays

Values = tuple[float, ...]
Told = tuple[bytes, bytes]
"""Agent, platform and post as fields of a row, and the sorted names of the numbers that were told together as another."""
Last = tuple[int, int, int, tuple[str, ...], Values]
"""The greatest of one key, compared by its first three: observed at (ms), offset, partition; names and numbers as told."""


class Made(NamedTuple):
    """Records as what is written: `rows` and `last` are one COPY each, `days` those that the rows were appended on."""

    stretches: list[Stretch]
    rows: bytes
    last: bytes
    days: frozenset[date]


def made_of(raws: Sequence[RawRecord]) -> Made:
    """Rows and last values of records in order. What nobody can read is counted where the checkpoint moves past it."""
    rows = [_BEGIN]
    last: dict[tuple[Told, int], Last] = {}
    days: set[int] = set()
    unreadable: Counter[int] = Counter()
    at, created = -1, 0
    for raw in raws:
        partition, offset = raw.partition, raw.offset
        try:
            agent, platform, platform_id, ms, values, source = decode(raw.key, raw.value)
        except BadObservation as error:
            unreadable[partition] += 1
            log.warning("%s[%d]%d: %s", raw.topic, partition, offset, error)
            continue
        if raw.append_ts != at:
            at = raw.append_ts
            held = min(max(at, 0), _LATEST_MS)
            created = (held - _EPOCH_MS) * 1000
            days.add(held // _DAY_MS)
        who, begun = _begun(agent, platform, source)
        post = _text(platform_id)
        head = begun + post + _placed(8, (ms - _EPOCH_MS) * 1000, 8, created, 2, partition, 8, offset)
        names, numbers = tuple(values), tuple(values.values())
        shape, pack, named = _lines(names, len(head))
        line: list[Any] = shape.copy()
        line[::3], line[2::3] = [head] * len(numbers), numbers
        rows.append(pack(*line))
        key = (who + post, named), ms // _DAY_MS
        old = last.get(key)
        if old is None or (ms, offset, partition) > old[:3]:
            last[key] = ms, offset, partition, names, numbers
    rows.append(_END)
    return Made(_stretches(raws, unreadable), b"".join(rows), _last_rows(last), frozenset(map(_date, days)))


def _stretches(raws: Sequence[RawRecord], unreadable: Mapping[int, int]) -> list[Stretch]:
    """What was read of each partition."""
    begins, ends = {raw.partition: raw for raw in reversed(raws)}, {raw.partition: raw for raw in raws}
    return [
        Stretch(
            ends[p].topic, p, begins[p].offset, ends[p].offset + 1,
            last_append_ts=ends[p].append_ts, records=count, unreadable=unreadable.get(p, 0),
        )
        for p, count in sorted(Counter(map(attrgetter("partition"), raws)).items())
    ]  # fmt: skip


def _last_rows(last: Mapping[tuple[Told, int], Last]) -> bytes:
    """In one order of the keys: neighbours in an index are written side by side. `newest`: of all days of this batch."""
    newest: dict[Told, int] = {}
    for told, day in last:
        if day > newest.get(told, -1):
            newest[told] = day
    rows = []
    for (told, day), (ms, offset, partition, names, numbers) in last.items():
        post, named = told
        order, shape, pack = _ordered(names)
        line: list[Any] = shape.copy()
        line[2::2] = [numbers[n] for n in order]
        ended = _ended(8, (ms - _EPOCH_MS) * 1000, 2, partition, 8, offset, 1, day == newest[told])
        rows.append(b"%b%b\0\0\0\4%b%b%b%b" % (_LAST_ROW, post, _length(day - _EPOCH_DAY), named, pack(*line), ended))
    rows.sort()
    return b"".join([_BEGIN, *rows, _END])


def _text(text: str) -> bytes:
    """A text as a field of a row."""
    said = text.encode()
    if 0 in said:
        said = text.replace("\0", "\ufffd").encode()
    return _length(len(said)) + said


@lru_cache(maxsize=16_384)
def _begun(agent: str, platform: str, source: str) -> tuple[bytes, bytes]:
    """Agent and platform as fields, and the beginning of a row of `COLUMNS`: the same few come again and again."""
    who = _text(agent) + _text(platform)
    return who, _ROW + who + _text(source)


@lru_cache(maxsize=4096)
def _lines(names: tuple[str, ...], head: int) -> tuple[list[bytes], Callable[..., bytes], bytes]:
    """The rows of numbers told together as what `pack` takes, with places for the head (of so many bytes) and for each number;
    and the sorted names as a field."""
    ends = [_text(name) + _named_n(2, n, 8) for n, name in enumerate(names)]
    pack = Struct(">" + "".join(f"{head}s{len(end)}sd" for end in ends)).pack
    named = b"".join(map(_text, sorted(names)))
    return [part for end in ends for part in (b"", end, b"")], pack, _array(_TEXT, len(names), len(named)) + named


@lru_cache(maxsize=4096)
def _ordered(names: tuple[str, ...]) -> tuple[list[int], list[bytes], Callable[..., bytes]]:
    """Where each of the sorted names stands among `names`, and their numbers as a field: as in `_lines`."""
    order = sorted(range(len(names)), key=names.__getitem__)
    begun, eight = _array(_FLOAT8, len(names), 12 * len(names)), _length(8)
    shape = [begun, *[part for _ in order for part in (eight, b"")]]
    return order, shape, Struct(f">{len(begun)}s" + "4sd" * len(names)).pack


def _array(kind: int, count: int, size: int) -> bytes:
    """The beginning of a field that holds an array of one dimension without nulls, of `count` elements in `size` bytes."""
    return _array_head(20 + size, 1, 0, kind, count, 1)


@lru_cache(maxsize=4096)
def _date(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=number)
