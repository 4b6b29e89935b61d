"""When a platform may be posted to: hours, days, midnight, zones, and the two nights on which clocks change."""

from __future__ import annotations

from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.policy.boardkit import WEEKDAYS, PostingHours
from chimera.policy.documents import DocumentError, parse_yaml
from chimera.policy.hours import opens_at

OFFICE = PostingHours.model_validate({"zone": "Europe/Berlin", "days": ["mon", "tue"], "start": "08:00", "end": "20:00"})
NIGHT = PostingHours.model_validate({"zone": "Europe/Berlin", "days": ["sat"], "start": "22:00", "end": "02:00"})


def ms(text: str, zone: str = "Europe/Berlin") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("hours", "at", "opens"),
    [
        (OFFICE, "2026-11-23T08:00", "2026-11-23T08:00"),
        (OFFICE, "2026-11-23T07:59:59.999", "2026-11-23T08:00"),
        (OFFICE, "2026-11-23T19:59:59.999", "2026-11-23T19:59:59.999"),
        (OFFICE, "2026-11-23T20:00", "2026-11-24T08:00"),
        (OFFICE, "2026-11-24T20:00", "2026-11-30T08:00"),
        (NIGHT, "2026-11-28T21:59", "2026-11-28T22:00"),
        (NIGHT, "2026-11-29T01:59:59", "2026-11-29T01:59:59"),
        (NIGHT, "2026-11-29T02:00", "2026-12-05T22:00"),
        (NIGHT, "2026-10-25T01:30", "2026-10-25T01:30"),  # the night on which the clock shows 2:30 twice
    ],
)
def test_it_opens_to_the_millisecond_by_the_clock_of_its_zone(hours: PostingHours, at: str, opens: str) -> None:
    assert opens_at(hours, ms(at)) == ms(opens)


def test_hours_follow_the_clock_when_it_is_put_forward() -> None:
    spring = PostingHours.model_validate({"zone": "Europe/Berlin", "start": "08:00", "end": "09:00"})
    before, after = opens_at(spring, ms("2026-03-28T08:00")), opens_at(spring, ms("2026-03-28T10:00"))
    assert after - before == 23 * 3_600_000


def test_without_hours_it_is_always_open() -> None:
    assert opens_at(None, 12_345) == 12_345
    assert opens_at(PostingHours(), 1_790_000_000_123) == 1_790_000_000_123


MINUTES = st.times().map(lambda clock: clock.replace(second=0, microsecond=0))


@given(
    at=st.integers(min_value=0, max_value=4_000_000_000_000),
    days=st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True),
    start=MINUTES,
    end=MINUTES,
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_what_opens_is_open_and_never_earlier_and_soon(at: int, days: list[str], start: object, end: object, zone: str) -> None:
    hours = PostingHours.model_validate({"zone": zone, "days": days, "start": start, "end": end})
    opens = opens_at(hours, at)
    assert at <= opens <= at + 15 * 86_400_000 + 7_200_000  # eight days; a week more where clocks jump over the only hours
    assert opens_at(hours, opens) == opens


def test_hours_that_the_clocks_jump_over_open_on_the_next_day() -> None:
    """On 28 March 2027 Berlin has no 02:30, and 03:10 comes before what 02:30 would be."""
    hours = PostingHours.model_validate({"zone": "Europe/Berlin", "start": time(2, 30), "end": time(3, 10)})
    berlin = ZoneInfo("Europe/Berlin")
    midnight = int(datetime(2027, 3, 28, tzinfo=berlin).timestamp() * 1000)
    assert opens_at(hours, midnight) == int(datetime(2027, 3, 29, 2, 30, tzinfo=berlin).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "field"),
    [("zone: Berlin", "zone"), ("days: []", "days|day"), ("start: '25:00'", "start"), ("start: '08:00:30'", "minute")],
)
def test_hours_that_cannot_be_meant_are_refused_by_name(text: str, field: str) -> None:
    with pytest.raises(DocumentError, match=field):
        parse_yaml(PostingHours, text, "AGENTS.md")
