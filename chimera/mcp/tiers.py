"""Tier tables: what a call costs by the arguments that would be sent (tier, duration, size), as data of a profile. Pure.

The one rule: a price is that of the exact arguments, so whoever judges or counts a call computes it again from its bytes. What is
in no row has no price, and a call without a price is not made.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_LONGEST_SHOWN = 40


class UnknownTier(LookupError):
    """No row prices these arguments; the text names them and the rows that there are."""


class TierRow(BaseModel):
    """One price. `at`: the values of the table's `by`, in its order; `cost_usd`: US dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: tuple[str | int, ...] = Field(min_length=1)
    cost_usd: str

    @field_validator("cost_usd")
    @classmethod
    def _is_money(cls, written: str) -> str:
        try:
            amount = Decimal(written)
        except InvalidOperation:
            amount = Decimal(-1)
        if not amount.is_finite() or amount < 0:
            raise ValueError(f'cost_usd {written!r} is no amount: write US dollars as "12.50"')
        return written


class TierTable(BaseModel):
    """Prices by arguments. `by`: names of arguments, a dot leads into them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: tuple[str, ...] = Field(min_length=1)
    rows: tuple[TierRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> TierTable:
        seen: set[tuple[str, ...]] = set()
        for row in self.rows:
            if len(row.at) != len(self.by):
                raise ValueError(f"tier {list(row.at)} has {len(row.at)} values, the table is by {', '.join(self.by)}")
            if (key := _key(row.at)) in seen:
                raise ValueError(f"tier {list(row.at)} is priced twice: keep one")
            seen.add(key)
        return self

    def price(self, arguments: Mapping[str, Any]) -> Decimal:
        """US dollars for a call with these rendered arguments. Raises UnknownTier."""
        asked = _key(_value(arguments, path) for path in self.by)
        for row in self.rows:
            if _key(row.at) == asked:
                return Decimal(row.cost_usd)
        named = ", ".join(f"{path} {value[:_LONGEST_SHOWN]!r}" for path, value in zip(self.by, asked, strict=True))
        priced = "; ".join(" ".join(_key(row.at)) for row in self.rows)
        raise UnknownTier(f"there is no price for {named}; priced by {', '.join(self.by)} are: {priced}")


def _key(values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


def _value(arguments: Mapping[str, Any], path: str) -> Any:
    found: Any = arguments
    for step in path.split("."):
        found = found.get(step, "") if isinstance(found, Mapping) else ""
    return found
