"""Analytics: charts from the analysts' views, each with its SQL, and its rows as CSV.

The rule not to break: the SQL that a page shows is the SQL that made its chart, with the login's tenants written out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup
from psycopg import sql
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.control import charts
from chimera.control.accounts import Login
from chimera.control.campaigns import by_day
from chimera.control.place import Connection, Place, Row, allowed, analysing, number, route, rows

DAYS = 30
CSV = "text/csv; charset=utf-8"


class Chart(NamedTuple):
    """One chart. `statement` has `{mine}` where tenants are restricted, `{days}` for how far back; `draw` makes it of rows."""

    title: str
    about: str
    statement: str
    draw: Callable[[str, Sequence[Row]], Markup]


def routes(place: Place) -> list[Route]:
    """Their addresses."""
    return [route(place, "/analytics", shown), route(place, "/analytics/{chart}.csv", download)]


async def shown(request: Request, login: Login, place: Place) -> Response:
    """All charts."""
    days, tenant = number(request.query_params.get("days"), DAYS, least=1, most=366), request.query_params.get("tenant", "")
    tenants = within(login, tenant)
    made = []
    async with analysing(place) as connection:
        for name, chart in CHARTS.items():
            found, statement = await _asked(connection, chart, tenants, days)
            made.append(
                {"name": name, "chart": chart, "sql": statement, "picture": chart.draw(chart.title, found), "rows": len(found)}
            )
    return place.page("analytics.html", login, made=made, days=days, tenant=tenant)


async def download(request: Request, login: Login, place: Place) -> Response:
    """A chart's rows. Raises `LookupError`."""
    name = request.path_params["chart"]
    if name not in CHARTS:
        raise LookupError(f"no chart '{name}': there are {', '.join(CHARTS)}")
    days = number(request.query_params.get("days"), DAYS, least=1, most=366)
    async with analysing(place) as connection:
        found, _ = await _asked(connection, CHARTS[name], within(login, request.query_params.get("tenant", "")), days)
    return as_csv(f"{name}.csv", found)


def within(login: Login, tenant: str) -> list[str] | None:
    """The tenants that are asked about: those of the login, or the one of them that is named."""
    mine = allowed(login)
    if not tenant:
        return mine
    return [tenant] if mine is None or tenant in mine else []


def as_csv(name: str, found: Sequence[Row], names: Iterable[str] | None = None) -> Response:
    """Rows as a file to keep."""
    text = io.StringIO()
    heads = list(names or (found[0] if found else ()))
    out = csv.writer(text)
    out.writerow(heads)
    out.writerows([cell(row[head]) for head in heads] for row in found)
    return Response(text.getvalue(), media_type=CSV, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


async def _asked(connection: Connection, chart: Chart, tenants: list[str] | None, days: int) -> tuple[list[Row], str]:
    """The rows, and the statement as it was asked."""
    mine: sql.Composable = sql.SQL("true")
    if tenants is not None:
        mine = sql.SQL("tenant = ANY({})").format(sql.Literal(tenants))
    statement = sql.SQL(chart.statement).format(mine=mine, days=sql.Literal(days))
    asked = statement.as_string(connection)
    return await rows(connection, asked.replace("%", "%%"), {}), asked


# --- the charts ------------------------------------------------------------------------------------------------------


def _days_of(name: str, value: str, unit: str = "") -> Callable[[str, Sequence[Row]], Markup]:
    return lambda title, found: charts.bars(title, *by_day(found, name, value), unit)


def _columns(label: str, names: Mapping[str, str], unit: str = "", **more: Any) -> Callable[[str, Sequence[Row]], Markup]:
    """A line for each column, in the order of the rows."""

    def draw(title: str, found: Sequence[Row]) -> Markup:
        series = [charts.Series(words, [None if row[c] is None else float(row[c]) for row in found]) for c, words in names.items()]
        return charts.lines(title, [_label(row[label]) for row in found], series, unit, **more)

    return draw


def _label(value: Any) -> str:
    return f"{value:%d %b}" if hasattr(value, "strftime") else f"{float(value):.1f}"


CHARTS: Mapping[str, Chart] = {
    "engagement": Chart(
        "Engagement gained by day",
        "What all posts together gained on each day, by the platforms' own numbers; impressions and watch time left out.",
        """SELECT day, metric, sum(gained) AS gained
FROM analytics_v1.engagement_daily
WHERE {mine} AND day > (now() AT TIME ZONE 'UTC')::date - {days}
  AND metric IN ('likes', 'replies', 'reposts', 'quotes', 'shares', 'saves', 'comments')
GROUP BY day, metric
ORDER BY day, metric""",
        _days_of("metric", "gained"),
    ),
    "reach": Chart(
        "Views gained by day",
        "Views, or impressions where a platform counts those.",
        """SELECT day, metric, sum(gained) AS gained
FROM analytics_v1.engagement_daily
WHERE {mine} AND day > (now() AT TIME ZONE 'UTC')::date - {days} AND metric IN ('views', 'impressions', 'reach')
GROUP BY day, metric
ORDER BY day, metric""",
        _days_of("metric", "gained"),
    ),
    "cost": Chart(
        "Cost of calls by day",
        "What calls cost, by what they were for.",
        """SELECT day, capability, sum(calls) AS calls, sum(cost_usd) AS usd
FROM analytics_v1.spend
WHERE {mine} AND day > (now() AT TIME ZONE 'UTC')::date - {days}
GROUP BY day, capability
ORDER BY day, capability""",
        _days_of("capability", "usd", "USD"),
    ),
    "override_rate": Chart(
        "Override rate by day",
        "Of the decisions that counted, the share that edited or rejected what the swarm proposed.",
        """SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS decisions,
       round(count(*) FILTER (WHERE decision <> 'approved')::numeric / count(*), 4) AS override_rate
FROM analytics_v1.decisions
WHERE {mine} AND ruling = 'applied' AND (created_at AT TIME ZONE 'UTC')::date > (now() AT TIME ZONE 'UTC')::date - {days}
GROUP BY day
ORDER BY day""",
        _columns("day", {"override_rate": "override rate"}, top=1.0),
    ),
    "time_to_decision": Chart(
        "Time to decision by day",
        "Minutes from asking people to their decision: the middle one, and the one that 5 of 100 exceed.",
        """SELECT (opened_at AT TIME ZONE 'UTC')::date AS day, count(*) AS cards,
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM took)) / 60)::numeric, 2) AS p50_min,
       round((percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM took)) / 60)::numeric, 2) AS p95_min
FROM analytics_v1.reviews
WHERE {mine} AND decided_at IS NOT NULL AND (opened_at AT TIME ZONE 'UTC')::date > (now() AT TIME ZONE 'UTC')::date - {days}
GROUP BY day
ORDER BY day""",
        _columns("day", {"p50_min": "half are decided within", "p95_min": "95 of 100 within"}, "min"),
    ),
    "calibration": Chart(
        "Calibration of the content judge",
        "Of what people decided, the share that they approved as it stood, by the judge's raw confidence. On the dashed line "
        "the judge is as sure as it should be.",
        """SELECT tenth, sum(votes) AS votes, sum(decided) AS decided,
       round((sum(confidence * votes) / sum(votes))::numeric, 3) AS stated,
       round(sum(approved) / nullif(sum(decided), 0), 3) AS approved_share
FROM analytics_v1.judge_calibration
WHERE {mine} AND judge = 'content'
GROUP BY tenth
ORDER BY tenth""",
        lambda title, found: charts.lines(
            title,
            [f"{n / 10:.1f}" for n in range(11)],
            [
                charts.Series(words, [_at(found, n, column) for n in range(11)])
                for column, words in (("stated", "stated, calibrated"), ("approved_share", "approved by people"))
            ],
            top=1.0,
            diagonal=True,
        ),
    ),
}
"""Charts by name."""


def _at(found: Sequence[Row], tenth: int, column: str) -> float | None:
    value = next((row[column] for row in found if round(float(row["tenth"]) * 10) == tenth), None)
    return None if value is None else float(value)
