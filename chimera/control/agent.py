"""One agent: who it is, where it stands, what it is at, every record of it; pausing it, and looking at what it was.

The rule not to break: a past state is the fold's own, from the log (`chimera.replay.look`); the page's lists are the read models'.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import quote

import orjson
import yaml
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.commands.keys import LOG, load_installation
from chimera.control import charts, web
from chimera.control.access import authorize
from chimera.control.accounts import Login
from chimera.control.place import (
    Connection,
    Place,
    Row,
    address,
    agent_named,
    number,
    one,
    route,
    rows,
    split,
    until_visible,
    words,
)
from chimera.errors import ChimeraError
from chimera.replay import look
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

RECORDS = 60
CHANGES = {"pause": "agent.pause", "resume": "agent.resume", "retire": "agent.retire", "release": "agent.release"}
LOOKS_AT_ONCE = 2
_FRONT = re.compile(r"\A---\n(.*?)\n---\n(.*)\Z", re.DOTALL)
_CAMPAIGNS = "SELECT * FROM analytics_v1.campaigns WHERE agent_id = %(id)s ORDER BY campaign DESC LIMIT 50"
_OPEN = "SELECT * FROM analytics_v1.task_queue WHERE agent_id = %(id)s ORDER BY campaign, ordinal LIMIT 200"
_TASKS = "SELECT * FROM analytics_v1.tasks WHERE agent_id = %(id)s AND campaign = %(campaign)s ORDER BY ordinal LIMIT 200"
_WAITS = "SELECT ordinal, depends_on FROM analytics_v1.task_dependencies WHERE agent_id = %(id)s AND campaign = %(campaign)s"
_POSTS = "SELECT * FROM analytics_v1.posts WHERE agent_id = %(id)s ORDER BY published_at DESC LIMIT 5"
_ACCOUNTS = "SELECT platform, account, status FROM analytics_v1.accounts WHERE agent_id = %(id)s ORDER BY platform"
_LAST = """SELECT e.data, e.partition, e."offset" FROM analytics_v1.events e WHERE e.stream = %(id)s AND e.type = %(type)s
  AND e.outcome = 'applied' ORDER BY e.created_at DESC LIMIT 1"""
_SPENT = """SELECT coalesce(sum(c.cost_usd), 0) AS usd FROM analytics_v1.tool_calls c
  WHERE c.agent_id = %(id)s AND c.created_at >= now() - make_interval(secs => least(%(window)s, 3e9))"""
_TIMELINE = """SELECT e.type, e.outcome, e.reason, e.actor, e.agent, e.state_version, e.campaign, e.ordinal, e.attempt,
    e.created_at, e.partition, e."offset" FROM analytics_v1.events e
  WHERE e.stream = %(id)s AND (%(ruling)s = '' OR e.outcome = %(ruling)s)
    AND (%(upto)s::bigint IS NULL OR e.state_version <= %(upto)s)
  ORDER BY e.created_at DESC, e."offset" DESC OFFSET %(from)s LIMIT %(most)s"""


def routes(place: Place) -> list[Route]:
    """The agent's addresses."""
    past = Past(place)
    return [
        route(place, "/agent/{name}", agent_page),
        route(place, "/agent/{name}/status", change, "POST"),
        route(place, "/agent/{name}/past", past.shown),
    ]


async def agent_page(request: Request, login: Login, place: Place) -> Response:
    """The agent as it is now. Raises `LookupError`."""
    asked = request.query_params
    ruling = asked.get("ruling", "") if asked.get("ruling") in ("applied", "rejected", "void") else ""
    first = number(asked.get("from"), 0, most=1_000_000)
    async with place.reading() as connection:
        agent = await agent_named(connection, request.path_params["name"], login, asked.get("tenant", ""))
        given: dict[str, Any] = {"id": agent["agent_id"], "ruling": ruling, "from": first, "most": RECORDS + 1}
        given["upto"] = number(asked.get("upto"), 0) or None
        campaigns = await rows(connection, _CAMPAIGNS, given)
        chosen = number(asked.get("campaign"), campaigns[0]["campaign"] if campaigns else 0)
        picture = await dag(connection, agent, chosen) if campaigns else None
        timeline, more = split(await rows(connection, _TIMELINE, given), RECORDS)
        shown = {
            "campaigns": campaigns,
            "tasks": await rows(connection, _OPEN, given),
            "posts": await rows(connection, _POSTS, given),
            "accounts": await rows(connection, _ACCOUNTS, given),
            "soul": _persona(await one(connection, _LAST, given | {"type": "SoulAdopted"})),
            "allowance": await _allowance(connection, given),
        }
    return place.page(
        "agent.html",
        login,
        agent=agent,
        picture=picture,
        chosen=chosen,
        timeline=timeline,
        more=more,
        first=first,
        at_once=RECORDS,
        asked={"ruling": ruling, "campaign": asked.get("campaign", ""), "upto": given["upto"] or ""},
        may_operate=authorize(login.principal, "operate", agent["tenant"]),
        done=asked.get("done", ""),
        **shown,
    )


async def dag(connection: Connection, agent: Row, campaign: int) -> Any:
    """The picture of a campaign's tasks."""
    given = {"id": agent["agent_id"], "campaign": campaign}
    tasks = await rows(connection, _TASKS, given)
    waits: dict[int, list[int]] = {}
    for row in await rows(connection, _WAITS, given):
        waits.setdefault(row["ordinal"], []).append(row["depends_on"])
    nodes = [
        charts.Node(
            task["ordinal"],
            task["kind"],
            task["title"],
            task["status"],
            f"/task/{quote(agent['agent'], safe='')}/{campaign}.{task['ordinal']}",
            waits.get(task["ordinal"], []),
        )
        for task in tasks
    ]
    return charts.graph(f"Tasks of campaign {campaign} of {agent['agent']}", nodes) if nodes else None


async def change(request: Request, login: Login, place: Place) -> Response:
    """Pause, resume, retire or release it, with a reason. Raises `Forbidden`, `Refused`, `LookupError`."""
    form = await request.form()
    what, reason = words(form, "change"), words(form, "reason")
    async with place.reading() as connection:
        agent = await agent_named(connection, request.path_params["name"], login, words(form, "tenant"))
    web.demand(login.principal, "operate", agent["tenant"])
    if what not in CHANGES:
        raise Refused(f"'{what}' is nothing to do with an agent: use {', '.join(CHANGES)}")
    if not reason:
        raise Refused(f"say why {agent['agent']} is to {what}: the reason is kept in the record")
    wished = verbs.wish(verbs.AgentStatus, login.principal.name, verb=CHANGES[what], names=(agent["agent_id"],), reason=reason)
    (_, answer), *_ = verbs.answers_of(await place.asking.ask(wished))
    if answer.outcome != "applied":
        raise Refused(f"{what} of {agent['agent']}: {answer.outcome}: {answer.reason}")
    await until_visible(place, answer.position)
    done = f"{what}: applied, version {answer.state_version}"
    return RedirectResponse(address(f"/agent/{quote(agent['agent'], safe='')}", tenant=agent["tenant"], done=done), 303)


class Past:
    """Looks at past states; two at a time, since each folds a partition from its beginning."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._room = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def shown(self, request: Request, login: Login, place: Place) -> Response:
        """The state when a version was reached, and what that version changed. Raises `LookupError`."""
        asked = request.query_params
        async with place.reading() as connection:
            agent = await agent_named(connection, request.path_params["name"], login, asked.get("tenant", ""))
        newest = int(agent["state_version"])
        version = number(asked.get("version"), newest, least=1, most=max(newest, 1))
        async with self._room:
            found, changed = await asyncio.to_thread(_look, place, agent["agent_id"], version)
        fragment = "hx-request" in request.headers
        return place.page(
            "_past.html" if fragment else "past.html",
            login,
            agent=agent,
            version=version,
            newest=newest,
            found=found,
            changed=changed,
            body=orjson.dumps(found.state, option=orjson.OPT_INDENT_2).decode(),
        )


def _look(place: Place, key: str, version: int) -> tuple[look.Look, look.Diff | None]:
    settings = Settings(home=place.home)
    try:
        log = look.Log(load_kafka(settings), LOG, load_installation(settings.home).root_public)
        changed = look.between(log, key, version - 1, version) if version > 1 else None
        return look.at_version(log, key, version), changed
    except look.NotThere as error:
        raise LookupError(str(error)) from error
    except ChimeraError as error:
        raise LookupError(f"the log cannot be looked at: {error}") from error


def _persona(found: Row | None) -> Row | None:
    """The persona's front matter and prose, and the record that brought it."""
    if found is None or not isinstance(found["data"], dict):
        return None
    text = str(found["data"].get("soul", ""))
    parts = _FRONT.match(text)
    try:
        front = yaml.safe_load(parts[1]) if parts else {}
    except yaml.YAMLError:
        front = {}
    return {
        "facts": facts_of(front) if isinstance(front, dict) else {},
        "prose": parts[2].strip() if parts else text,
        "partition": found["partition"],
        "offset": found["offset"],
    }


def facts_of(front: Row) -> dict[str, str]:
    """A persona's front matter as lines to read, but its name; what has parts (`voice`, `handles`) has a line for each."""
    facts: dict[str, str] = {}
    for name, value in front.items():
        parts = value if isinstance(value, dict) else {"": value}
        for part, said in parts.items():
            if name != "name":
                facts[f"{name}, {part}".removesuffix(", ").replace("_", " ")] = _plain(said)
    return facts


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " · ".join(_plain(part) for part in value) if isinstance(value, list) else str(value)


async def _allowance(connection: Connection, given: dict[str, Any]) -> Row | None:
    """The limit of metered calls, its window, and what was spent within the last such window."""
    found = await one(connection, _LAST, given | {"type": "AllowanceSet"})
    if found is None:
        return None
    window_s = int(found["data"].get("window_ms", 0)) / 1000
    spent = await one(connection, _SPENT, given | {"window": window_s})
    return {"limit_usd": found["data"].get("limit_usd"), "window_h": window_s / 3600, "spent_usd": spent and spent["usd"]}
