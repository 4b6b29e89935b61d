"""The schedule: into which day of which zone things fall, from when they may go out, how much of a window is used."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from chimera.commands.telling import when
from chimera.control.schedule import Entry, Slots, by_days, used

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
MINUTE_MS = 60_000


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def plan(ordinal: int, after: list[int], wait_ms: int = 0, not_before: int = 0, reads: list[str] | None = None) -> dict[str, Any]:
    return {
        "stream": "agent/a", "campaign": 1, "ordinal": ordinal, "depends_on": after, "wait_ms": wait_ms, "not_before": not_before,
        "reads": reads or [],
    }  # fmt: skip


def task(ordinal: int, **more: Any) -> dict[str, Any]:
    return {
        "agent_id": "agent/a",
        "campaign": 1,
        "ordinal": ordinal,
        "title": f"task {ordinal}",
        "kind": "publish",
        "status": "planned",
        **more,
    }


def test_a_post_falls_into_the_day_that_its_zone_s_calendar_says() -> None:
    late = Entry(datetime(2026, 11, 22, 23, 30, tzinfo=UTC), False, {}, "", "published")
    in_utc, _, _ = by_days([late], ZoneInfo("UTC"), date(2026, 11, 23))
    in_tokyo, coming, _ = by_days([late], ZoneInfo("Asia/Tokyo"), date(2026, 11, 23))
    assert [day.day for day in in_utc if day.entries] == [date(2026, 11, 22)]
    assert [day.day for day in in_tokyo if day.entries] == []
    assert [day.day for day in coming if day.entries] == [date(2026, 11, 23)]


def test_what_has_no_time_is_listed_as_that_and_an_open_slot_is_today_s() -> None:
    timeless = Entry(None, True, {}, "", "people")
    overdue = Entry(NOW - timedelta(days=2), True, {}, "", "approved")
    past, coming, without = by_days([timeless, overdue], ZoneInfo("UTC"), NOW.date())
    assert without == [timeless]
    assert not any(day.entries for day in past)
    assert coming[0].entries == [overdue]


def test_days_are_seven_back_and_today_with_seven_to_come() -> None:
    past, coming, _ = by_days([], ZoneInfo("Europe/Berlin"), date(2026, 10, 25))  # clocks go back on this day
    assert [day.day for day in past] == [date(2026, 10, 24) - timedelta(days=n) for n in range(7)]
    assert [day.day for day in coming] == [date(2026, 10, 25) + timedelta(days=n) for n in range(8)]


def test_a_slot_of_the_plan_is_from_when_a_post_may_go_out() -> None:
    slots = Slots([], [plan(4, [3], not_before=ms(NOW), reads=["account/x"]), plan(3, [])], [])
    (entry,) = slots.planned([task(4)])
    assert (entry.at, entry.earliest) == (NOW, True)


def test_a_follow_up_opens_so_long_after_what_it_waits_for_was_done() -> None:
    plans = [plan(2, []), plan(3, [2], wait_ms=30 * MINUTE_MS), plan(4, [3], reads=["account/x"])]
    (known,) = Slots([], plans, [{"agent_id": "agent/a", "campaign": 1, "ordinal": 2, "finished_at": NOW}]).planned([task(4)])
    (unknown,) = Slots([], plans, []).planned([task(4)])
    assert known.at == NOW + timedelta(minutes=30)
    assert unknown.at is None


def test_a_task_that_publishes_nothing_is_not_on_the_schedule() -> None:
    assert Slots([], [plan(1, [], reads=["brief/1"])], []).planned([task(1), task(9)]) == []


def test_an_approved_effect_goes_out_now_unless_it_has_a_slot_and_one_before_people_has_no_time() -> None:
    slot = NOW + timedelta(hours=3)
    slots = Slots([{"stream": "agent/a", "campaign": 1, "ordinal": 5, "attempt": 1, "not_before": ms(slot)}], [], [])
    approved, with_slot, asked = slots.waiting(
        [
            task(4, attempt=1, text="", status="approved"),
            task(5, attempt=1, text="", status="approved"),
            task(6, attempt=1, text="", status="people"),
        ],
        NOW,
    )
    assert (approved.at, with_slot.at, asked.at) == (NOW, slot, None)


def test_a_full_window_says_when_its_oldest_claim_leaves_it() -> None:
    window = {"agent": "a", "platform": "x", "account": "a_x", "claims": 2, "window_s": 3600}
    claim = {"agent": "a", "platform": "x", "account": "a_x"}
    claims = [claim | {"claimed_at": NOW - timedelta(minutes=m)} for m in (90, 50, 10)]
    (full,) = used([window], claims, NOW)
    (free,) = used([window | {"claims": 3}], claims, NOW)
    assert (full["used"], full["free_at"]) == (2, NOW + timedelta(minutes=10))
    assert (free["used"], free["free_at"]) == (2, None)


def test_a_slot_and_a_window_beyond_the_calendar_are_shown_and_break_no_page() -> None:
    far = 2**53  # the most that a record's time may be
    (proposed,) = Slots([{"stream": "agent/a", "campaign": 1, "ordinal": 5, "attempt": 1, "not_before": far}], [], []).waiting(
        [task(5, attempt=1, text="", status="approved")], NOW
    )
    (planned,) = Slots([], [plan(4, [], not_before=far, reads=["account/x"])], []).planned([task(4)])
    assert by_days([proposed, planned], ZoneInfo("Pacific/Kiritimati"), NOW.date())[1]
    assert when(far) == when(far - 1) == "9892-03-08 12:26:40"
    window = {"agent": "a", "platform": "x", "account": "a_x", "claims": 1, "window_s": far // 1000}
    (found,) = used([window], [{"agent": "a", "platform": "x", "account": "a_x", "claimed_at": NOW}], NOW)
    assert found["used"] == 1
