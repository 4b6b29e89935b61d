"""The fleet and one agent, from the read models."""

from __future__ import annotations

from psycopg.rows import dict_row
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.control.access import tenants_of
from chimera.control.accounts import Login
from chimera.control.place import Place, route

AT_ONCE = 100
_FLEET = """SELECT a.tenant, a.agent, a.status, a.quarantined, a.state_version, a.open_tasks, a.open_campaigns, a.updated_at,
    (SELECT count(*) FROM analytics_v1.review_queue q WHERE q.agent_id = a.agent_id) AS waiting,
    (SELECT count(*) FROM analytics_v1.posts p WHERE p.agent_id = a.agent_id) AS posts
  FROM (SELECT * FROM analytics_v1.agents a WHERE (%(tenants)s::text[] IS NULL OR a.tenant = ANY(%(tenants)s))
    AND (%(name)s = '' OR a.agent LIKE %(name)s || '%%') AND (%(status)s = '' OR a.status = %(status)s)
    ORDER BY a.agent, a.tenant OFFSET %(from)s LIMIT %(most)s) a ORDER BY a.agent, a.tenant"""
_COUNTS = """SELECT count(*) AS agents, count(*) FILTER (WHERE a.status = 'active') AS active,
    count(*) FILTER (WHERE a.status = 'paused') AS paused, count(*) FILTER (WHERE a.quarantined) AS quarantined,
    coalesce(sum(a.open_tasks), 0) AS open_tasks
  FROM analytics_v1.agents a WHERE %(tenants)s::text[] IS NULL OR a.tenant = ANY(%(tenants)s)"""


def routes(place: Place) -> list[Route]:
    """The fleet's address."""
    return [route(place, "/fleet", fleet_page)]


async def fleet_page(request: Request, login: Login, place: Place) -> Response:
    """Agents by name, a page at a time."""
    asked = request.query_params
    first = max(0, int(asked.get("from", "0"))) if asked.get("from", "0").isdigit() else 0
    given = {
        "tenants": tenants_of(login.principal),
        "name": asked.get("name", "").replace("%", "").replace("_", r"\_"),
        "status": asked.get("status", ""),
        "from": first,
        "most": AT_ONCE,
    }
    async with place.reading() as connection, connection.cursor(row_factory=dict_row) as cursor:
        agents = await (await cursor.execute(_FLEET, given)).fetchall()
        counts = await (await cursor.execute(_COUNTS, given)).fetchone()
    return place.page("fleet.html", login, agents=agents, counts=counts, first=first, most=AT_ONCE, name=asked.get("name", ""))
