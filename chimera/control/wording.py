"""How numbers, times and addresses are written on pages: the templates' own words.

The rule not to break: every time is UTC unless the page says another zone beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from chimera.control.place import address


def moment(at: datetime | None) -> str:
    """A moment to the second; '-' for none."""
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def figure(value: Any) -> str:
    """A number without needless digits; '-' for none."""
    if value is None:
        return "-"
    number = float(value)
    return f"{number:,.0f}" if number == int(number) or abs(number) >= 100 else f"{number:,.2f}"


def money(value: Decimal | float | None) -> str:
    """US dollars, to the cent where there are cents, further where a call costs less than one."""
    if value is None:
        return "-"
    amount = Decimal(value)
    return f"{amount:,.2f}" if amount == 0 or abs(amount) >= 1 else f"{amount:.5f}".rstrip("0").rstrip(".")


def share(value: Any) -> str:
    """A share of one as per cent; '-' for none."""
    return "-" if value is None else f"{float(value):.0%}"


def asking(path: str, asked: Mapping[str, Any], first: int) -> str:
    """The address of another page of the same list."""
    return address(path, **dict(asked) | {"from": first or ""})


FILTERS: Mapping[str, Callable[..., str]] = {
    "moment": moment,
    "figure": figure,
    "money": money,
    "share": share,
    "asking": asking,
}
"""Filters of the templates, by name."""
