"""The monthly statement of a tenant: what went out, what it cost, who decided, what it brought. To print, and as CSV.

The rule not to break: every figure is one statement on the analysts' views over the month's days in UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.control.access import tenants_of
from chimera.control.accounts import Login
from chimera.control.analytics import as_csv
from chimera.control.place import Place, Row, analysing, route, rows
from chimera.control.web import demand

_MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")
_IN = "{0} >= %(begin)s AND {0} < %(end)s"
_TENANTS = """SELECT DISTINCT a.tenant FROM analytics_v1.agents a
  WHERE %(tenants)s::text[] IS NULL OR a.tenant = ANY(%(tenants)s) ORDER BY a.tenant"""


class Section(NamedTuple):
    """A part of the statement: `statement` gives rows of (what, count, usd), either of which may be null."""

    title: str
    counted: str
    statement: str


SECTIONS = (
    Section(
        "Published",
        "posts",
        f"""SELECT p.platform || ' (' || p.mode || ')' AS what, count(*) AS n, sum(p.cost_usd) AS usd FROM analytics_v1.posts p
        WHERE p.tenant = %(tenant)s AND {_IN.format("p.published_at")} GROUP BY what ORDER BY what""",
    ),
    Section(
        "Calls",
        "calls",
        f"""SELECT c.capability || ' by ' || c.profile AS what, count(*) AS n, sum(c.cost_usd) AS usd FROM analytics_v1.tool_calls c
        WHERE c.tenant = %(tenant)s AND {_IN.format("c.created_at")} GROUP BY what ORDER BY usd DESC, what""",
    ),
    Section(
        "Settled in the ledger, by campaign",
        "entries",
        f"""SELECT coalesce(nullif(l.campaign_id, ''), 'none') AS what, count(*) AS n, sum(l.amount_usd) AS usd
        FROM analytics_v1.ledger l WHERE l.tenant = %(tenant)s AND l.entry = 'settled' AND {_IN.format("l.created_at")}
        GROUP BY what ORDER BY what""",
    ),
    Section(
        "Payments",
        "payments",
        f"""SELECT t.status || ': ' || coalesce(t.asset, t.tool) AS what, count(*) AS n, sum(t.cost_usd) AS usd
        FROM analytics_v1.transactions t WHERE t.tenant = %(tenant)s AND {_IN.format("t.proposed_at")}
        GROUP BY what ORDER BY what""",
    ),
    Section(
        "Decisions of people",
        "decisions",
        f"""SELECT d.reviewer || ' ' || d.decision AS what, count(*) AS n, NULL::numeric AS usd FROM analytics_v1.decisions d
        WHERE d.tenant = %(tenant)s AND d.ruling = 'applied' AND {_IN.format("d.created_at")} GROUP BY what ORDER BY what""",
    ),
    Section(
        "Gained",
        "gained",
        f"""SELECT e.metric || ' on ' || e.platform AS what, sum(e.gained)::bigint AS n, NULL::numeric AS usd
        FROM analytics_v1.engagement_daily e WHERE e.tenant = %(tenant)s AND {_IN.format("e.day")} GROUP BY what ORDER BY what""",
    ),
)


def routes(place: Place) -> list[Route]:
    """Its addresses."""
    return [route(place, "/statement", shown), route(place, "/statement.csv", download)]


async def shown(request: Request, login: Login, place: Place) -> Response:
    """A page that prints well. Raises `LookupError`."""
    tenant, begin, tenants, sections = await _asked(request, login, place)
    return place.page("statement.html", login, tenant=tenant, begin=begin, every=tenants, sections=sections, now=datetime.now(UTC))


async def download(request: Request, login: Login, place: Place) -> Response:
    """The same figures, one row each. Raises `LookupError`."""
    tenant, begin, _, sections = await _asked(request, login, place)
    month = f"{begin:%Y-%m}"
    found = [
        {"tenant": tenant, "month": month, "section": section.title, "what": row["what"], "count": row["n"], "usd": row["usd"]}
        for section, its in sections
        for row in its
    ]
    return as_csv(f"statement-{tenant}-{month}.csv", found, ("tenant", "month", "section", "what", "count", "usd"))


async def _asked(request: Request, login: Login, place: Place) -> tuple[str, date, list[str], list[tuple[Section, list[Row]]]]:
    """Tenant, first day, tenants to choose from, and every section with its rows."""
    asked = request.query_params
    begin, end = month_of(asked.get("month", ""), datetime.now(UTC).date())
    mine = tenants_of(login.principal)
    async with analysing(place) as connection:
        tenants = [row["tenant"] for row in await rows(connection, _TENANTS, {"tenants": None if mine is None else list(mine)})]
        tenant = asked.get("tenant") or next(iter([*tenants, *(mine or ())]), "")
        if not tenant:
            raise LookupError("there is no tenant yet whose statement could be shown")
        demand(login.principal, "read", tenant)
        given: dict[str, Any] = {"tenant": tenant, "begin": begin, "end": end}
        sections = [(section, await rows(connection, section.statement, given)) for section in SECTIONS]
    return tenant, begin, tenants, sections


def month_of(text: str, today: date) -> tuple[date, date]:
    """First day of the month, and of the one after; this month where the text names none. Raises `LookupError`."""
    found = _MONTH.fullmatch(text)
    if text and found is None:
        raise LookupError(f"'{text}' is no month: write 2026-11")
    begin = date(int(found[1]), int(found[2]), 1) if found else today.replace(day=1)
    return begin, date(begin.year + begin.month // 12, begin.month % 12 + 1, 1)
