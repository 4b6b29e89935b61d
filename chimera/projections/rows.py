"""What a read model is made of: tables, rows, and the values that a row may hold.

The rule not to break: a row is a pure function of record, ruling and folded state. Every time in it is the broker's append time,
every value fits its column whatever the record says, so that no record can stop a partition.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from chimera.events.envelope import Record
from chimera.events.state import Ruling

Value = str | int | float | bool | Decimal | bytes | list[str] | None
"""A column's value. `bytes` is JSON text (jsonb), `list[str]` a text[]; a time is the text of `ts`."""


@dataclass(frozen=True, eq=False)  # each is itself alone: rows are gathered by table, thousands a second
class Table:
    """A table of a read model. `appended`: rows are inserted once and never changed, in the order of `columns`."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...] = ()
    """Columns of an appended table."""
    once: frozenset[str] = frozenset()
    """Columns that the first Put of a key sets for good."""
    optional: bool = False
    """A Set whose row does not exist is no disagreement (a card that never was)."""
    only_while: tuple[str, Value] | None = None
    """Every Set of this table counts only while the row holds this value in this column; a Put names all that a Set may write."""

    @property
    def appended(self) -> bool:
        return bool(self.columns)

    @property
    def stream_column(self) -> str:
        """Which column says whose row it is."""
        return next((name for name in ("stream", "tenant_id") if name in (*self.key, *self.columns)), "agent_id")


# Four of these are made for each record and taken apart soon after: with slots one costs a third of a named tuple.


@dataclass(slots=True)
class Insert:
    """A new row of an appended table: all of its columns."""

    table: Table
    values: tuple[Value, ...]


@dataclass(slots=True)
class Put:
    """The row at `key` as a record opens it; a row that is there already takes these values.

    `fresh`: none is, since only one record opens a row at this key. Many of those are written faster; being wrong costs time only.
    """

    table: Table
    key: tuple[Value, ...]
    values: dict[str, Value]
    fresh: bool = False


@dataclass(slots=True)
class Set:
    """Some columns of the row at `key`."""

    table: Table
    key: tuple[Value, ...]
    values: dict[str, Value]


Row = Insert | Put | Set
Rows = Callable[[Record, Ruling, Any], list[Row]]
"""Record, ruling, and the state of its stream after it: an `Agent`, a `Tenant`, or None."""
COUNTS = frozenset({"applied"})
ANSWERS = frozenset({"applied", "rejected"})
ANY = frozenset({"applied", "rejected", "void"})


class Model(NamedTuple):
    """One read model: which records it looks at, and the rows that it makes of them."""

    name: str
    tables: tuple[Table, ...]
    rows: Rows
    types: frozenset[str] = frozenset()
    """Record types that it reads; `*` = all."""
    changes: frozenset[str] = frozenset()
    """Changes (`Change.what`) that it reads, whatever the record's type."""
    statuses: frozenset[str] = frozenset()
    """Of those changes, the ones that lead to one of these statuses (all when empty)."""
    outcomes: frozenset[str] = ANSWERS


def stamp(record: Record) -> dict[str, Value]:
    """When a row was last written and by which record: in every row that can change."""
    return {"updated_at": ts(record.append_ts), "partition": record.partition, "offset": record.offset}


@lru_cache(maxsize=4096)
def ts(ms: int) -> str:
    """Milliseconds since the epoch as ISO 8601 in UTC, held between the years 1970 and 9999."""
    return datetime.fromtimestamp(min(max(ms, 0), 253_402_300_799_000) / 1000, UTC).isoformat(timespec="milliseconds")


def clipped(text: str) -> str:
    """A key or id as an indexed column: strangers' bytes may be longer than an index entry can be."""
    return text if len(text) <= 300 else text[:300] + "…"


def small(number: object) -> int | None:
    """A number as Postgres's integer, None where it is none or does not fit."""
    return number if isinstance(number, int) and -(2**31) <= number < 2**31 else None


def big(number: int) -> int:
    """A number held within Postgres's bigint."""
    return min(max(number, -(2**63)), 2**63 - 1)


def real(number: float | None) -> float | None:
    """A finite float, else None: a NaN is a bad value to the law and no value to a reader."""
    return number if number is not None and math.isfinite(number) else None


_NOTHING = Decimal("0E-8")


def money(amount: Decimal) -> Decimal:
    """US dollars with 8 places, held within what numeric(20, 8) takes; rulings see the amount as written."""
    if not amount:  # most amounts, and a third of the time
        return _NOTHING
    if not amount.is_finite() or abs(amount) >= 10**12:
        return Decimal(10**12 - 1).copy_sign(amount)
    return amount.quantize(Decimal("0.00000001")) if amount.adjusted() > -9 else Decimal(0)


def as_json(value: Any) -> bytes:
    """A parsed value as jsonb text. What jsonb cannot hold (NUL, NaN, infinities) becomes U+FFFD or null."""
    if value == {}:  # half of them
        return b"{}"
    try:
        text = orjson.dumps(value, default=str)
    except TypeError:  # integers above 64 bits
        text = json.dumps(_storable(value), default=str, allow_nan=False).encode()
    return text.replace(b"\\u0000", b"\\ufffd") if b"\\u0000" in text else text


def raw_json(value: bytes) -> bytes | None:
    """The value bytes of a record as jsonb text: as they are, but for what jsonb cannot hold; None if they are no JSON at all."""
    # One byte is looked for several times faster than a word, and most values hold none of these.
    if (b"N" in value and b"NaN" in value) or (b"I" in value and b"Infinity" in value) or (b"\\" in value and b"\\u0000" in value):
        return careful_json(value)
    return value


def careful_json(value: bytes) -> bytes | None:
    """JSON parsed and written anew, so that jsonb takes it: numbers beyond a double become null. None if it is no JSON."""
    try:
        return json.dumps(_storable(json.loads(value)), allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(_storable(name)): _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
