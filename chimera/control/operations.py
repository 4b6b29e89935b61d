"""Operations at a glance: processes with lag and throughput, quarantined agents, what is closed or parked; and money and calls.

The rule not to break: what the processes tell of themselves says nothing of single tenants, so everybody here may see it; counts of
agents, money and calls are those of the login's tenants.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.commands import verbs
from chimera.commands.client import CommandFailed, NoService
from chimera.commands.decision import Refused
from chimera.control import charts
from chimera.control.accounts import Login
from chimera.control.campaigns import by_day
from chimera.control.place import Place, Row, allowed, analysing, number, route, rows, seen
from chimera.control.switches import Board, named
from chimera.observe.doctor import lives, statuses
from chimera.observe.findings import COMMAND, ROLES

LATELY_S = 60.0
"""A look that is older than this makes no rate with the next one."""
DAYS, HOURS = 30, 24
_QUARANTINED = f"""SELECT a.tenant, a.agent, a.updated_at, a.partition, a."offset" FROM analytics_v1.agents a
  WHERE a.quarantined AND {seen("a")} ORDER BY a.updated_at DESC LIMIT 100"""
_FRESH = """SELECT f.model_set, sum(f.parked) AS parked, max(f.unmoved_for) AS unmoved, max(f.last_append_at) AS newest,
    string_agg(f.stopped, '; ') AS stopped FROM analytics_v1.freshness f GROUP BY f.model_set ORDER BY f.model_set"""
_GUARDED = """SELECT s.created_at, s.tenant, s.what, s.outcome, s.who, s.door, s.origin, s.action, s.resource, s.reason, s.count
  FROM analytics_v1.security_events s ORDER BY s.created_at DESC, s."offset" DESC LIMIT 20"""
_QUEUES = f"""SELECT q.status, count(*) AS tasks, max(now() - q.since) AS oldest FROM analytics_v1.task_queue q
  WHERE {seen("q")} GROUP BY q.status ORDER BY q.status"""
_WAIT = f"""SELECT sum(h.depth) AS cards, max(h.oldest_age) AS oldest FROM analytics_v1.hitl_queue h WHERE {seen("h")}"""
_BUDGETED = f"SELECT DISTINCT b.tenant FROM analytics_v1.budgets b WHERE {seen('b')} ORDER BY b.tenant LIMIT 20"
_SPEND = f"""SELECT s.day, s.capability, sum(s.cost_usd) AS usd FROM analytics_v1.spend s
  WHERE {seen("s")} AND s.day > current_date - %(days)s::int GROUP BY s.day, s.capability ORDER BY s.day"""
_LEDGER = f"""SELECT l.day, l.entry, sum(l.amount_usd) AS usd FROM analytics_v1.ledger l
  WHERE {seen("l")} AND l.day > current_date - %(days)s::int AND l.entry = 'settled' GROUP BY l.day, l.entry ORDER BY l.day"""
_DEAREST = f"""SELECT s.agent, s.tenant, sum(s.cost_usd) AS usd, sum(s.calls) AS calls FROM analytics_v1.spend s
  WHERE {seen("s")} AND s.day > current_date - %(days)s::int GROUP BY s.agent, s.tenant ORDER BY usd DESC, s.agent LIMIT 15"""
_PROFILES = f"""SELECT c.profile, c.capability, c.tool, c.mode, count(*) AS calls,
    count(*) FILTER (WHERE c.result_class NOT IN ('ok', 'submitted')) AS failed,
    count(*) FILTER (WHERE c.result_class = 'unknown') AS unknown, sum(c.cost_usd) AS usd,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY c.latency_ms) AS p50,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY c.latency_ms) AS p95
  FROM analytics_v1.tool_calls c WHERE {seen("c")} AND c.created_at >= now() - make_interval(hours => %(hours)s)
  GROUP BY c.profile, c.capability, c.tool, c.mode ORDER BY failed DESC, calls DESC"""
_BY_HOUR = f"""SELECT date_trunc('hour', c.created_at) AS hour, c.result_class, count(*) AS calls FROM analytics_v1.tool_calls c
  WHERE {seen("c")} AND c.created_at >= now() - make_interval(hours => %(hours)s) GROUP BY hour, c.result_class ORDER BY hour"""
_FAILED = f"""SELECT c.created_at, c.agent, c.profile, c.tool, c.account, c.result_class, c.reason, c.latency_ms
  FROM analytics_v1.tool_calls c WHERE {seen("c")} AND c.created_at >= now() - make_interval(hours => %(hours)s)
  AND c.result_class NOT IN ('ok', 'submitted') ORDER BY c.created_at DESC LIMIT 50"""


def routes(place: Place, board: Board) -> list[Route]:
    """Their addresses."""
    return [route(place, "/operations", Overview(board).shown), route(place, "/money", money), route(place, "/calls", calls)]


class Overview:
    """The whole at a glance; the table of processes asks again by itself. Two looks make a rate, whoever took the first."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._before: tuple[float, list[dict[str, Any]]] | None = None

    async def shown(self, request: Request, login: Login, place: Place) -> Response:
        """The page, or the table of processes alone."""
        now, told = time.monotonic(), [s for s in await asyncio.to_thread(statuses, place.home) if lives(int(s["pid"]))]
        then, before = self._before if self._before is not None and now - self._before[0] < LATELY_S else (now, told)
        if now - then > 1 or self._before is None:
            self._before = now, told
        processes = with_rates(told, before, now - then)
        missing = [role for role in (*ROLES, COMMAND) if role not in {process["role"] for process in processes}]
        if request.headers.get("hx-target") == "processes":
            return place.page("_processes.html", login, processes=processes, missing=missing)
        given = {"tenants": allowed(login)}
        async with place.reading() as connection:
            shown = {
                "quarantined": await rows(connection, _QUARANTINED, given),
                "fresh": await rows(connection, _FRESH, given),
                "queues": await rows(connection, _QUEUES, given),
                "waiting": (await rows(connection, _WAIT, given))[0],
                # Log-ins and refusals are the installation's: for who may look at every tenant.
                "guarded": await rows(connection, _GUARDED, {}) if given["tenants"] is None else None,
            }
            try:
                turned = (await self._board.told(place))["switches"]
                scopes = [switch["scope"] for switch in turned if switch["closed"]]
                closed = [known["words"] for scope in scopes if (known := await named(connection, login, scope)) is not None]
            except (NoService, CommandFailed):
                closed = None  # the table of processes says who is missing
        return place.page("operations.html", login, processes=processes, missing=missing, closed=closed, **shown)


def with_rates(now: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]], seconds: float) -> list[Row]:
    """One row for each process that lives: how far behind it is and how many records it took in a second."""
    last = {status["pid"]: _records(status) for status in before}
    return [
        {
            "role": status["role_set"],
            "pid": status["pid"],
            "state": "unwell" if status.get("unwell") else "silent" if time.time() - status.get("at", 0) > 5 else "well",
            "unwell": status.get("unwell", []),
            "partitions": len(status.get("partitions", status.get("offsets", {}))),
            "lag": status.get("lag", {"records": 0, "seconds": 0.0}),
            "per_s": max(0.0, (_records(status) - last.get(status["pid"], _records(status))) / max(seconds, 0.001)),
            "jobs": sum(status.get("jobs_by_role", {}).values()),
            "errors": status.get("job_errors", 0),
            "rss_mb": status.get("rss_mb", 0),
        }
        for status in now
    ]


def _records(status: dict[str, Any]) -> int:
    return sum(status.get("offsets", {}).values())


async def money(request: Request, login: Login, place: Place) -> Response:
    """Budgets with what lies in them, and what was spent on what."""
    given = {"tenants": allowed(login), "days": DAYS}
    async with analysing(place) as connection:
        tenants = [row["tenant"] for row in await rows(connection, _BUDGETED, given)]
        spend = by_day(await rows(connection, _SPEND, given), "capability", "usd")
        settled = by_day(await rows(connection, _LEDGER, given), "entry", "usd")
        dearest = await rows(connection, _DEAREST, given)
    budgets = []
    for tenant in tenants:
        try:
            budgets.append(await place.asking.ask(verbs.TenantShow(tenant=tenant)))
        except Refused:
            continue  # its stream is not folded yet: there is nothing to show of it
    return place.page(
        "money.html",
        login,
        budgets=budgets,
        dearest=dearest,
        days=DAYS,
        spend=charts.bars(f"Cost of calls by day, last {DAYS} days", *spend, "USD"),
        settled=charts.bars(f"Settled in the ledger by day, last {DAYS} days", *settled, "USD"),
    )


async def calls(request: Request, login: Login, place: Place) -> Response:
    """Calls and errors per profile and tool."""
    hours = number(request.query_params.get("hours"), HOURS, least=1, most=24 * 7)
    given = {"tenants": allowed(login), "hours": hours}
    async with analysing(place) as connection:
        profiles = await rows(connection, _PROFILES, given)
        by_hour = await rows(connection, _BY_HOUR, given)
        failed = await rows(connection, _FAILED, given)
    labels = sorted({row["hour"] for row in by_hour})
    known = {(row["hour"], row["result_class"]): float(row["calls"]) for row in by_hour}
    series = [
        charts.Series(name, [known.get((hour, name)) for hour in labels])
        for name in sorted({row["result_class"] for row in by_hour})
    ]
    picture = charts.bars(f"Calls by hour (UTC), last {hours} h", [f"{hour:%d %b %H}h" for hour in labels], series)
    return place.page("calls.html", login, profiles=profiles, failed=failed, picture=picture, hours=hours)
