"""Analytics: files that spreadsheets do not obey, months that end where calendars say, tenants that a login has."""

from __future__ import annotations

from datetime import date

import pytest

from chimera.control.access import Principal
from chimera.control.accounts import Login
from chimera.control.analytics import as_csv, cell, within
from chimera.control.statement import month_of


@pytest.mark.parametrize("text", ["=1+1", "+49", "-2", "@sum", "\t=1"])
def test_a_cell_that_a_spreadsheet_would_obey_is_text(text: str) -> None:
    assert cell(text) == f"'{text}"


def test_numbers_stay_numbers_and_no_rows_still_have_heads() -> None:
    assert cell(-2) == -2
    assert bytes(as_csv("a.csv", [{"n": -2, "what": "a, b"}]).body) == b'n,what\r\n-2,"a, b"\r\n'
    assert bytes(as_csv("a.csv", [], ("n", "what")).body) == b"n,what\r\n"


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2026-11", date(2026, 11, 1), date(2026, 12, 1)),
        ("2026-12", date(2026, 12, 1), date(2027, 1, 1)),
        ("", date(2026, 2, 1), date(2026, 3, 1)),
    ],
)
def test_a_month_goes_from_its_first_day_to_the_next_one_s(text: str, begin: date, end: date) -> None:
    assert month_of(text, date(2026, 2, 28)) == (begin, end)


@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-00", "26-01", "2026-11-01"])
def test_what_is_no_month_is_said_so(text: str) -> None:
    with pytest.raises(LookupError, match="write 2026-11"):
        month_of(text, date(2026, 2, 28))


def test_a_login_is_shown_its_own_tenants_and_never_one_that_it_only_names() -> None:
    mine = Login(Principal("vic", {"acme": ["viewer"], "bolt": ["viewer"]}), "")
    everything = Login(Principal("ada", {"*": ["admin"]}), "")
    assert within(mine, "") == ["acme", "bolt"]
    assert within(mine, "bolt") == ["bolt"]
    assert within(mine, "canary") == []
    assert within(everything, "") is None
    assert within(everything, "canary") == ["canary"]
