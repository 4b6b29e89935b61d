"""Posting hours: the first moment at or after a time at which a platform may be posted to, by the clock of the policy's zone.

The rule not to break: a day is what the zone's calendar says it is, also where clocks are put forward or back.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from chimera.policy.boardkit import WEEKDAYS, PostingHours


def opens_at(hours: PostingHours | None, at_ms: int) -> int:
    """Milliseconds since 1970: `at_ms` itself while the hours are open, else when they open next."""
    if hours is None:
        return at_ms
    zone = ZoneInfo(hours.zone)
    day = datetime.fromtimestamp(at_ms / 1000, zone).date() - timedelta(days=1)  # hours that began yesterday may run past midnight
    for _ in range(17):  # yesterday, a week, and another where clocks jump over the only hours
        if WEEKDAYS[day.weekday()] in hours.days:
            begin, end = _moment(day, hours.start, zone), _moment(day, hours.end, zone)
            if hours.end <= hours.start:
                end = _moment(day + timedelta(days=1), hours.end, zone)
            if begin < end and at_ms < end:  # clocks that are put forward can swallow short hours whole
                return max(at_ms, begin)
        day += timedelta(days=1)
    raise AssertionError("hours with a day open within two weeks")


def _moment(day: date, clock: time, zone: ZoneInfo) -> int:
    """When the clock shows this; where it jumps over it, when it has jumped; where it shows it twice, the first time."""
    local = datetime.combine(day, clock, zone)
    return int(local.astimezone(UTC).timestamp() * 1000)
