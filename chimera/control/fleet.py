"""The fleet and one agent, from the read models."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from starlette.requests import Request
from starlette.responses import Response

from chimera.control import web
from chimera.control.access import tenants_of
from chimera.control.accounts import Login

Reading = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
Page = Callable[..., Response]

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
_AGENT = """SELECT * FROM analytics_v1.agents a WHERE a.agent = %(name)s
  AND (%(tenants)s::text[] IS NULL OR a.tenant = ANY(%(tenants)s)) ORDER BY a.tenant LIMIT 1"""
_TASKS = "SELECT * FROM analytics_v1.task_queue WHERE agent_id = %(id)s ORDER BY campaign, ordinal LIMIT 200"
_POSTS = "SELECT * FROM analytics_v1.posts WHERE agent_id = %(id)s ORDER BY published_at DESC LIMIT 20"
_TIMELINE = """SELECT type, outcome, reason, actor, state_version, campaign, ordinal, attempt, created_at, record_id, partition,
    "offset" FROM analytics_v1.events WHERE stream = %(id)s ORDER BY "offset" DESC LIMIT 60"""


async def fleet_page(request: Request, login: Login, page: Page, reading: Reading) -> Response:
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
    async with reading() as connection, connection.cursor(row_factory=dict_row) as cursor:
        agents = await (await cursor.execute(_FLEET, given)).fetchall()
        counts = await (await cursor.execute(_COUNTS, given)).fetchone()
    return page("fleet.html", login, agents=agents, counts=counts, first=first, most=AT_ONCE, name=asked.get("name", ""))


async def agent_page(request: Request, login: Login, page: Page, reading: Reading) -> Response:
    """One agent: what it is at, what it published, and every record of it with its ruling. Raises `LookupError`."""
    name = request.path_params["name"]
    async with reading() as connection, connection.cursor(row_factory=dict_row) as cursor:
        found = await (await cursor.execute(_AGENT, {"name": name, "tenants": tenants_of(login.principal)})).fetchone()
        if found is None:
            raise LookupError(f"no agent '{name}' here")
        web.demand(login.principal, "read", found["tenant"])
        given = {"id": found["agent_id"]}
        tasks = await (await cursor.execute(_TASKS, given)).fetchall()
        posts = await (await cursor.execute(_POSTS, given)).fetchall()
        timeline = await (await cursor.execute(_TIMELINE, given)).fetchall()
    return page("agent.html", login, agent=found, tasks=tasks, posts=posts, timeline=timeline)
