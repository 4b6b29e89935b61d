"""The fleet: totals, groups and one page of agents, as quick at ten thousand agents as at ten.

The rule not to break: pages go by key, never by a count of rows to skip, and what costs something per agent is asked for those of
one page only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.control.accounts import Login
from chimera.control.place import Place, Row, allowed, one, route, rows, seen

AT_ONCE = 100
MOST_GROUPS = 40
FILTERS = {
    "all": "true",
    "active": "a.status = 'active'",
    "paused": "a.status = 'paused'",
    "retired": "a.status = 'retired'",
    "quarantined": "a.quarantined",
    "busy": "a.open_tasks > 0",
    "waiting": "a.agent_id IN (SELECT q.agent_id FROM analytics_v1.review_queue q)",
}
"""Which agents, by name: conditions on the view `agents`."""
_MATCHING = f"""{seen("a")} AND (%(name)s = '' OR strpos(lower(a.agent), %(name)s) > 0)
  AND (%(group)s = '' OR a.agent_id IN (SELECT m.agent_id FROM analytics_v1.members m
    WHERE m.status = 'joined' AND %(group)s = ANY(m.groups)))"""
_COLUMNS = "a.tenant, a.agent, a.agent_id, a.status, a.quarantined, a.state_version, a.open_tasks, a.open_campaigns, a.updated_at"
_AFTER = "(%(agent)s = '' OR (a.agent, a.tenant) > (%(agent)s, %(tenant)s)) ORDER BY a.agent, a.tenant LIMIT %(most)s"
_BEFORE = "(a.agent, a.tenant) < (%(agent)s, %(tenant)s) ORDER BY a.agent DESC, a.tenant DESC LIMIT %(most)s"
COUNTS = f"""SELECT count(*) AS "all", count(*) FILTER (WHERE a.status = 'active') AS active,
    count(*) FILTER (WHERE a.status = 'paused') AS paused, count(*) FILTER (WHERE a.status = 'retired') AS retired,
    count(*) FILTER (WHERE a.quarantined) AS quarantined, count(*) FILTER (WHERE a.open_tasks > 0) AS busy,
    coalesce(sum(a.open_tasks), 0) AS open_tasks
  FROM analytics_v1.agents a WHERE {_MATCHING}"""
WAITING = f"""SELECT count(DISTINCT q.agent_id) AS agents, count(*) AS cards FROM analytics_v1.review_queue q
  JOIN analytics_v1.agents a ON a.agent_id = q.agent_id WHERE {_MATCHING}"""
GROUPS = f"""SELECT g.name, count(*) AS agents FROM analytics_v1.members m, unnest(m.groups) AS g(name)
  WHERE m.status = 'joined' AND {seen("m")} GROUP BY g.name ORDER BY agents DESC, g.name LIMIT %(groups)s"""
CARDS = """SELECT q.agent_id, count(*) AS n FROM analytics_v1.review_queue q WHERE q.agent_id = ANY(%(ids)s) GROUP BY q.agent_id"""
POSTS = """SELECT e.agent_id, count(*) AS n FROM analytics_v1.effects e WHERE e.agent_id = ANY(%(ids)s) AND e.status = 'executed'
  AND e.effect_class = 'publish' GROUP BY e.agent_id"""


def routes(place: Place) -> list[Route]:
    """The fleet's address."""
    return [route(place, "/fleet", fleet_page)]


def asked_for(asked: Mapping[str, str], tenants: list[str] | None) -> tuple[dict[str, Any], str]:
    """The values and the statement of one page: what an address asks for, within these tenants."""
    back = "before" in asked
    agent, _, tenant = (asked.get("before") or asked.get("after") or "").partition("|")
    given: dict[str, Any] = {
        "tenants": tenants,
        "name": asked.get("name", "").strip().lower(),
        "group": asked.get("group", ""),
        "agent": agent,
        "tenant": tenant,
        "most": AT_ONCE + 1,
        "groups": MOST_GROUPS,
    }
    which = f"{_MATCHING} AND ({FILTERS[_kind(asked)]}) AND {_BEFORE if back else _AFTER}"
    return given, f"SELECT {_COLUMNS} FROM analytics_v1.agents a WHERE {which}"


def _kind(asked: Mapping[str, str]) -> str:
    return asked.get("is", "all") if asked.get("is", "all") in FILTERS else "all"


async def fleet_page(request: Request, login: Login, place: Place) -> Response:
    """One page of agents, by name. htmx is given the list alone."""
    asked = request.query_params
    kind, back = _kind(asked), "before" in asked
    given, statement = asked_for(asked, allowed(login))
    async with place.reading() as connection:
        found = await rows(connection, statement, given)
        more, found = len(found) > AT_ONCE, found[:AT_ONCE]
        if back:
            found.reverse()
        ids = {"ids": [row["agent_id"] for row in found]}
        cards = {row["agent_id"]: row["n"] for row in await rows(connection, CARDS, ids)}
        posts = {row["agent_id"]: row["n"] for row in await rows(connection, POSTS, ids)}
        counts = await one(connection, COUNTS, given) or {}
        waiting = await one(connection, WAITING, given) or {}
        groups = await rows(connection, GROUPS, given)
    counts["waiting"] = waiting["agents"]
    return place.page(
        "_fleet.html" if request.headers.get("hx-target") == "agents" else "fleet.html",
        login,
        agents=[row | {"waiting": cards.get(row["agent_id"], 0), "posts": posts.get(row["agent_id"], 0)} for row in found],
        counts=counts,
        cards=waiting["cards"],
        groups=groups,
        filters=FILTERS,
        kind=kind,
        asked={"name": asked.get("name", ""), "group": given["group"], "is": "" if kind == "all" else kind},
        before=_key(found[0]) if found and (more if back else bool(given["agent"])) else "",
        after=_key(found[-1]) if found and (more or back) else "",
    )


def _key(row: Row) -> str:
    return f"{row['agent']}|{row['tenant']}"
