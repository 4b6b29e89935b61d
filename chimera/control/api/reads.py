"""The API's questions, answered from the read models (a card, and what switches hold back, by the command service).

The rule not to break: every statement has the caller's tenants in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from psycopg.rows import dict_row

from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.control import queue
from chimera.control.access import tenants_of
from chimera.control.api import models
from chimera.control.api.calls import Api, Call
from chimera.control.switches import named

SPEND_DAYS = 30
_MINE = "(%(tenants)s::text[] IS NULL OR a.tenant = ANY(%(tenants)s))"
_FLEET = f"""SELECT count(*) AS agents, count(*) FILTER (WHERE a.status = 'active') AS active,
    count(*) FILTER (WHERE a.status = 'paused') AS paused, count(*) FILTER (WHERE a.status = 'retired') AS retired,
    count(*) FILTER (WHERE a.quarantined) AS quarantined, coalesce(sum(a.open_tasks), 0)::int AS open_tasks,
    coalesce(sum(a.open_campaigns), 0)::int AS open_campaigns,
    (SELECT count(*) FROM analytics_v1.review_queue q
      WHERE %(tenants)s::text[] IS NULL OR q.tenant = ANY(%(tenants)s)) AS cards_waiting
  FROM analytics_v1.agents a WHERE {_MINE}"""
_AGENTS = f"""SELECT * FROM (SELECT a.* FROM analytics_v1.agents a WHERE {_MINE} AND starts_with(a.agent, %(prefix)s)
  AND (%(status)s = '' OR a.status = %(status)s) AND a.agent > %(after)s ORDER BY a.agent FETCH FIRST %(limit)s ROWS WITH TIES) a
  ORDER BY a.agent, a.tenant"""
"""A page ends with a name, and with all who are called that: tenants may share one."""
_AGENT = f"""SELECT a.* FROM analytics_v1.agents a WHERE (a.agent = %(name)s OR a.agent_id = %(name)s) AND {_MINE}
  ORDER BY a.tenant LIMIT 1"""
_TASKS = """SELECT campaign, ordinal, kind, status, reason FROM analytics_v1.task_queue WHERE agent_id = %(id)s
  ORDER BY campaign, ordinal LIMIT 500"""
_POSTS = """SELECT card, platform, account, text, url, published_at FROM analytics_v1.posts WHERE agent_id = %(id)s
  ORDER BY published_at DESC LIMIT 20"""
_CAMPAIGNS = f"""SELECT c.tenant, c.campaign_id, max(c.name) AS name, sum(c.parts)::int AS agents, min(c.started_at) AS started_at,
    jsonb_object_agg(c.status, c.parts) AS status
  FROM (SELECT a.tenant, a.campaign_id, a.status, max(a.name) AS name, count(*) AS parts, min(a.created_at) AS started_at
    FROM analytics_v1.campaigns a WHERE {_MINE} AND (%(id)s = '' OR a.campaign_id = %(id)s)
    GROUP BY a.tenant, a.campaign_id, a.status) c
  GROUP BY c.tenant, c.campaign_id HAVING %(status)s = '' OR bool_or(c.status = %(status)s) ORDER BY started_at DESC, c.campaign_id
  LIMIT %(limit)s"""
_SPEND = f"""SELECT a.tenant, a.day, a.profile, a.capability, sum(a.calls)::int AS calls, sum(a.cost_usd) AS cost_usd
  FROM analytics_v1.spend a WHERE a.tenant IS NOT NULL AND {_MINE} AND a.day BETWEEN %(since)s AND %(until)s
  AND (%(agent)s = '' OR a.agent = %(agent)s) GROUP BY a.tenant, a.day, a.profile, a.capability
  ORDER BY a.day DESC, a.tenant, a.profile, a.capability"""


async def me(api: Api, call: Call) -> models.Me:
    """Whose the token is."""
    token = call.bearer.token
    roles = call.principal.grants.get(token.tenant, ())
    return models.Me(
        name=token.name,
        token=token.id,
        label=token.label,
        tenant=token.tenant,
        roles=list(roles),
        until=datetime.fromtimestamp(token.until, UTC),
    )


async def queue_(api: Api, call: Call) -> models.Queue:
    """The cards that wait."""
    asked: models.QueueAsked = call.query
    only = {name: value for name, value in (("platform", asked.platform), ("agent", asked.agent)) if value}
    wanted = queue.Wanted(tenants_of(call.principal), asked.kind, only)
    async with api.reading() as connection:
        found = await queue.queue(connection, wanted)
    cards = [models.QueuedCard(**{**row, "waiting_s": row["waiting"].total_seconds()}) for row in found.cards]
    return models.Queue(cards=cards, total=found.total, counts=dict(found.counts))


async def card(api: Api, call: Call) -> models.Card:
    """One card, as it is now. Raises `LookupError` where nothing waits there."""
    try:
        seen = await api.asking.ask(verbs.CardShow(card=call.card))
    except Refused as refusal:
        raise LookupError(str(refusal)) from None
    call.demand("read", seen["card"]["tenant"])
    held = seen["held"] or {}
    return models.Card(
        card=seen["card"]["card"],
        shown_hash=seen["shown_hash"],
        effect_hash=seen["effect_hash"],
        edit=seen["edit"],
        content=seen["card"],
        score=seen["score"],
        held_by=held.get("by"),
        held_reason=held.get("reason"),
    )


async def fleet(api: Api, call: Call) -> models.Fleet:
    """The fleet, counted."""
    return models.Fleet(**(await _rows(api, call, _FLEET, {}))[0])


async def agents(api: Api, call: Call) -> models.Agents:
    """Agents by name, a page at a time."""
    return models.Agents(agents=[models.AgentRow(**row) for row in await _rows(api, call, _AGENTS, call.query.model_dump())])


async def agent(api: Api, call: Call) -> models.Agent:
    """One agent. Raises `LookupError`."""
    found = await _rows(api, call, _AGENT, {"name": call.path["name"]})
    if not found:
        raise LookupError("there is no such agent here")
    given = {"id": found[0]["agent_id"]}
    tasks = [models.Task(**row) for row in await _rows(api, call, _TASKS, given)]
    posts = [models.Post(**row) for row in await _rows(api, call, _POSTS, given)]
    return models.Agent(**found[0], tasks=tasks, posts=posts)


async def campaigns(api: Api, call: Call) -> models.Campaigns:
    """Campaigns, the newest first."""
    given = {**call.query.model_dump(), "id": ""}
    return models.Campaigns(campaigns=[models.Campaign(**row) for row in await _rows(api, call, _CAMPAIGNS, given)])


async def campaign(api: Api, call: Call) -> models.Campaigns:
    """One campaign, by tenant. Raises `LookupError`."""
    given = {"id": call.path["campaign"], "status": "", "limit": 500}
    found = [models.Campaign(**row) for row in await _rows(api, call, _CAMPAIGNS, given)]
    if not found:
        raise LookupError("there is no such campaign here")
    return models.Campaigns(campaigns=found)


async def switches(api: Api, call: Call) -> models.Switches:
    """Kill switches, the closed ones first."""
    told = (await api.asking.ask(verbs.SwitchList()))["switches"]
    held = Counter(card.scope for card in (await stopped(api, call)).stopped)
    found = []
    async with api.reading() as connection:
        for row in sorted(told, key=lambda row: (not row["closed"], -row["at"])):
            known = await named(connection, call.login, row["scope"])
            if known is not None:
                seen = {name: row[name] for name in ("scope", "closed", "reason", "by")}
                found.append(models.Switch(**seen, told=known["words"], at_ms=row["at"], stopped=held[row["scope"]]))
    return models.Switches(switches=found)


async def stopped(api: Api, call: Call) -> models.StoppedList:
    """What closed switches hold back."""
    held, tenants = (await api.asking.ask(verbs.SwitchStopped()))["stopped"], tenants_of(call.principal)
    return models.StoppedList(stopped=[models.Stopped(**row) for row in held if tenants is None or row["tenant"] in tenants])


async def spend(api: Api, call: Call) -> models.Spend:
    """What calls cost, day by day."""
    asked: models.SpendAsked = call.query
    until = asked.until or datetime.now(UTC).date()
    since = asked.since or until - min(timedelta(days=SPEND_DAYS), until - until.min)
    given = {"since": since, "until": until, "agent": asked.agent}
    rows = [models.SpendRow(**row) for row in await _rows(api, call, _SPEND, given)]
    return models.Spend(total_usd=sum((row.cost_usd for row in rows), start=Decimal(0)), rows=rows)


async def _rows(api: Api, call: Call, sql: str, given: dict[str, Any]) -> Sequence[dict[str, Any]]:
    tenants = tenants_of(call.principal)
    async with api.reading() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql.encode(), {**given, "tenants": None if tenants is None else list(tenants)})
        return await cursor.fetchall()
