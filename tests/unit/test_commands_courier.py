"""The courier's patience: a debt whose record does not count is held longer each time, and forgotten when it is paid."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from chimera.commands.courier import FIRST_HOLD_S, LONGEST_HOLD_S, Courier, Debt

DEBT = Debt("agent/a", "copy", "tenant/t", 1)


def folded_to(offset: int) -> Any:
    """A command service that has folded partition 3 up to `offset`."""
    return SimpleNamespace(offsets={3: offset})


def test_a_debt_whose_record_was_void_is_held_twice_as_long_each_time_up_to_half_a_minute() -> None:
    courier, delays = Courier(), []
    for _ in range(10):
        courier._under[DEBT] = (3, 7)
        courier._settle(folded_to(8), {DEBT: None})  # folded, and still owed
        delays.append(courier._holds[DEBT].delay_s)
    assert delays[:3] == [FIRST_HOLD_S, 2 * FIRST_HOLD_S, 4 * FIRST_HOLD_S]
    assert delays[-1] == LONGEST_HOLD_S


def test_what_is_not_folded_yet_is_neither_held_nor_written_again() -> None:
    courier = Courier()
    courier._under[DEBT] = (3, 7)
    courier._settle(folded_to(7), {DEBT: None})
    assert DEBT in courier._under
    assert courier._holds == {}


def test_a_debt_that_is_paid_is_forgotten_with_its_hold() -> None:
    courier = Courier()
    courier._hold(DEBT, "its record does not read")
    courier._under[DEBT] = (3, 7)
    courier._settle(folded_to(8), {})
    assert (courier._under, courier._holds) == ({}, {})
