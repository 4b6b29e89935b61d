"""What may be let go: nothing that is needed, nothing without a rule, nothing that may be on its way into a record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chimera.media.lifecycle import Standing, let_go
from chimera.media.store import Asset

NOW = datetime(2026, 5, 1, tzinfo=UTC)
FILE = Asset("ab" * 32, "png", 10)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def standing(*roles: str, newest: float, needed: bool = False) -> dict[str, Standing]:
    return {FILE.sha256: Standing(frozenset(roles), ago(newest), needed)}


@pytest.mark.parametrize(
    ("put", "known", "why"),
    [
        (8, {}, "no record names it, and it is here for 8 days"),
        (6, {}, None),
        (400, standing("final", newest=400), None),
        (400, standing(newest=400), None),
        (400, standing("render", newest=91), "a render is kept 90 days, and nothing open or standing needs it"),
        (400, standing("render", newest=89), None),
        (89, standing("render", newest=400), None),
        (400, standing("render", newest=400, needed=True), None),
        (400, standing("render", "final", newest=400), None),
        (400, standing("render", "source", newest=100), None),
        (400, standing("render", "source", newest=130), "a render and source is kept 120 days"),
    ],
)
def test_a_file_goes_by_its_rule_or_stays(put: float, known: dict[str, Standing], why: str | None) -> None:
    gone = let_go([(FILE, ago(put))], known, {"render": 90, "source": 120}, NOW)
    assert [each.asset for each in gone] == ([] if why is None else [FILE])
    assert all(each.why.startswith(why or "?") for each in gone)


def test_without_rules_only_what_no_record_names_goes() -> None:
    assert let_go([(FILE, ago(4000))], standing("render", newest=4000), {}, NOW) == []
