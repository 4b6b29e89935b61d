"""The schedule: what went out in the last seven days and what goes out in the next seven, by the days of a time zone.

The rule not to break: what has no time of its own yet is listed as that; no time is made up for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.commands.telling import moment
from chimera.control.accounts import Login
from chimera.control.place import Place, Row, allowed, route, rows, seen

DAYS = 7
_LONGEST = timedelta(days=366 * 100)
"""A window may be longer than any calendar; nothing was claimed before the log began."""
MOST = 500
OFTEN = (
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/Los_Angeles",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Australia/Sydney",
)
_POSTS = f"""SELECT p.tenant, p.agent, p.campaign, p.ordinal, p.platform, p.account, p.text, p.mode, p.published_at
  FROM analytics_v1.posts p WHERE {seen("p")} AND p.published_at >= %(since)s AND (%(agent)s = '' OR p.agent = %(agent)s)
  ORDER BY p.published_at DESC LIMIT %(most)s"""
_WAITING = f"""SELECT e.tenant, e.agent, e.agent_id, e.campaign, e.ordinal, e.attempt, e.platform, e.account, e.status,
    coalesce(e.arguments ->> 'text', e.arguments ->> 'caption', e.tool) AS text, e.proposed_at
  FROM analytics_v1.effects e WHERE e.status IN ('proposed', 'people', 'approved', 'claimed', 'submitted')
  AND {seen("e")} AND (%(agent)s = '' OR e.agent = %(agent)s) ORDER BY e.proposed_at LIMIT %(most)s"""
_PLANNED = f"""SELECT q.tenant, q.agent, q.agent_id, q.campaign, q.ordinal, q.kind, q.title, q.status FROM analytics_v1.task_queue q
  WHERE q.status IN ('planned', 'open', 'started') AND {seen("q")} AND (%(agent)s = '' OR q.agent = %(agent)s)
  ORDER BY q.since LIMIT %(most)s"""
_PROPOSED = """SELECT e.stream, e.campaign, e.ordinal, e.attempt, (e.data -> 'effect' ->> 'not_before')::bigint AS not_before
  FROM analytics_v1.events e WHERE e.stream = ANY(%(streams)s) AND e.type IN ('ArtifactProduced', 'HumanEdited')
  AND e.outcome = 'applied' AND jsonb_typeof(e.data -> 'effect') = 'object' ORDER BY e."offset\""""
_PLANS = """SELECT e.stream, e.campaign, r.ordinal, r.not_before, r.wait_ms, r.depends_on, r.reads
  FROM analytics_v1.events e, jsonb_to_recordset(e.data -> 'rows')
    AS r(ordinal int, not_before bigint, wait_ms bigint, depends_on jsonb, reads jsonb)
  WHERE e.stream = ANY(%(streams)s) AND e.type = 'PlanDrafted' AND e.outcome = 'applied'"""
_DONE = """SELECT t.agent_id, t.campaign, t.ordinal, t.finished_at FROM analytics_v1.tasks t
  WHERE t.agent_id = ANY(%(streams)s) AND t.finished_at IS NOT NULL"""
_WINDOWS = f"""SELECT a.tenant, a.agent, c.platform, c.account, (f.value ->> 'claims')::int AS claims,
    (f.value ->> 'window_ms')::bigint / 1000 AS window_s
  FROM analytics_v1.accounts c JOIN analytics_v1.agents a ON a.agent_id = c.agent_id
  JOIN analytics_v1.policies p ON p.agent_id = a.agent_id AND p.edition = a.policy_edition
  CROSS JOIN LATERAL jsonb_each(p.inline -> 'frequency') f
  WHERE a.agent_id = ANY(%(streams)s) AND c.status = 'linked' AND f.key = c.platform AND {seen("a")}
  ORDER BY a.agent, c.platform LIMIT 50"""
_CLAIMED = """SELECT e.agent, e.platform, e.account, e.claimed_at FROM analytics_v1.effects e
  WHERE e.agent_id = ANY(%(streams)s) AND e.claimed_at >= %(since)s"""


class Entry(NamedTuple):
    """One thing of one day. `at`: its time; None where it has none yet. `earliest`: `at` is not when, but from when."""

    at: datetime | None
    earliest: bool
    row: Row
    words: str
    status: str


class Day(NamedTuple):
    """One day of the zone, with what lies in it in order."""

    day: date
    entries: Sequence[Entry]


def routes(place: Place) -> list[Route]:
    """The schedule's address."""
    return [route(place, "/schedule", schedule_page)]


async def schedule_page(request: Request, login: Login, place: Place) -> Response:
    """Past and next seven days."""
    asked = request.query_params
    wanted = asked.get("tz", "UTC")
    known = wanted in available_timezones()
    zone = ZoneInfo(wanted if known else "UTC")
    now = datetime.now(UTC)
    today = now.astimezone(zone).date()
    begin = datetime.combine(today - timedelta(days=DAYS), datetime.min.time(), zone)
    given: dict[str, Any] = {"tenants": allowed(login), "since": begin, "agent": asked.get("agent", ""), "most": MOST}
    async with place.reading() as connection:
        posts = await rows(connection, _POSTS, given)
        waiting = await rows(connection, _WAITING, given)
        planned = await rows(connection, _PLANNED, given)
        given["streams"] = sorted({row["agent_id"] for row in (*waiting, *planned)})
        slots = Slots(
            await rows(connection, _PROPOSED, given), await rows(connection, _PLANS, given), await rows(connection, _DONE, given)
        )
        windows = await rows(connection, _WINDOWS, given)
        claimed = await rows(connection, _CLAIMED, given)
    entries = [Entry(row["published_at"], False, row, row["text"], "published") for row in posts]
    entries += slots.waiting(waiting, now) + slots.planned(planned)
    past, coming, timeless = by_days(entries, zone, today)
    return place.page(
        "schedule.html",
        login,
        zone=zone,
        zones=OFTEN,
        unknown_zone="" if known else wanted,
        today=today,
        past=past,
        coming=coming,
        timeless=timeless,
        windows=used(windows, claimed, now),
        asked={"tz": zone.key, "agent": given["agent"]},
        cut=max(len(posts), len(waiting), len(planned)) == MOST,
    )


class Slots:
    """What records say of times: effects that must not go out before, tasks that open after others."""

    def __init__(self, proposed: Sequence[Row], plans: Sequence[Row], done: Sequence[Row]) -> None:
        self._proposed = {(r["stream"], r["campaign"], r["ordinal"], r["attempt"]): r["not_before"] or 0 for r in proposed}
        self._plans = {(r["stream"], r["campaign"], r["ordinal"]): r for r in plans}
        self._done = {(r["agent_id"], r["campaign"], r["ordinal"]): r["finished_at"] for r in done}

    def waiting(self, found: Sequence[Row], now: datetime) -> list[Entry]:
        """Proposed effects: from their slot on, or, once approved, as soon as the gate comes to it."""
        entries = []
        for row in found:
            slot = self._proposed.get((row["agent_id"], row["campaign"], row["ordinal"], row["attempt"]), 0)
            planned = self._plans.get((row["agent_id"], row["campaign"], row["ordinal"]))
            slot = max(slot, (planned["not_before"] or 0) if planned else 0)
            at = moment(slot) if slot else None
            soon = row["status"] in ("approved", "claimed", "submitted")
            entries.append(Entry(at or (now if soon else None), True, row, row["text"], row["status"]))
        return entries

    def planned(self, found: Sequence[Row]) -> list[Entry]:
        """Tasks that publish and are not made yet."""
        entries = []
        for row in found:
            plan = self._plans.get((row["agent_id"], row["campaign"], row["ordinal"]))
            if plan is None or not any(str(aspect).startswith("account/") for aspect in plan["reads"] or []):
                continue  # it makes nothing that goes out
            ms = self._opens(row["agent_id"], plan)
            at = moment(ms) if ms else None
            entries.append(Entry(at, True, row, row["title"] or row["kind"], row["status"]))
        return entries

    def _opens(self, stream: str, plan: Mapping[str, Any]) -> int:
        """From when it may go out, as far as its own slot and its forerunners' waits say; 0 where they say nothing."""
        opens = int(plan["not_before"] or 0)
        for before in plan["depends_on"] or []:
            earlier = self._plans.get((stream, plan["campaign"], before))
            if earlier is None:
                continue
            opens = max(opens, int(earlier["not_before"] or 0))
            ends = [self._done.get((stream, plan["campaign"], n)) for n in earlier["depends_on"] or []]
            if earlier["wait_ms"] and ends and all(end is not None for end in ends):
                last = max(end for end in ends if end is not None)
                opens = max(opens, int(last.timestamp() * 1000) + int(earlier["wait_ms"]))
        return opens


def by_days(entries: Sequence[Entry], zone: ZoneInfo, today: date) -> tuple[list[Day], list[Day], list[Entry]]:
    """Past days (the newest first), today and the next (in order), and what has no time yet."""
    days: dict[date, list[Entry]] = {today + timedelta(days=n): [] for n in range(-DAYS, DAYS + 1)}
    timeless = []
    for entry in entries:
        if entry.at is None:
            timeless.append(entry)
            continue
        day = entry.at.astimezone(zone).date()
        if entry.status != "published":
            day = max(day, today)  # its slot is open already
        if day in days:
            days[day].append(entry)
    ordered = [Day(day, sorted(found, key=lambda e: e.at or datetime.max.replace(tzinfo=UTC))) for day, found in days.items()]
    return [d for d in reversed(ordered) if d.day < today], [d for d in ordered if d.day >= today], timeless


def used(windows: Sequence[Row], claimed: Sequence[Row], now: datetime) -> list[Row]:
    """How much of each account's window (so many claims within so long) is used, and when the next one is free."""
    found = []
    for window in windows:
        length = min(timedelta(seconds=window["window_s"]), _LONGEST)
        within = sorted(
            row["claimed_at"]
            for row in claimed
            if (row["agent"], row["platform"], row["account"]) == (window["agent"], window["platform"], window["account"])
            and row["claimed_at"] > now - length
        )
        free = within[len(within) - window["claims"]] + length if len(within) >= window["claims"] else None
        found.append(window | {"used": len(within), "free_at": free})
    return found
