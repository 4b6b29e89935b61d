"""Campaigns: the list, and one of them: its goal, how far it is, its tasks, what it costs and what it brings.

The rule not to break: a change reaches agents of those tenants only in which this person may operate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.control import charts, web
from chimera.control.access import authorize
from chimera.control.accounts import Login
from chimera.control.agent import dag
from chimera.control.place import (
    Connection,
    Place,
    Row,
    address,
    allowed,
    analysing,
    likewise,
    number,
    one,
    route,
    rows,
    seen,
    split,
    until_visible,
    words,
)

AT_ONCE = 50
DAYS = 30
CHANGES = {"pause": "campaign.pause", "resume": "campaign.resume", "cancel": "campaign.cancel"}
STATUSES = ("running", "paused", "cancelled", "completed", "closed")
SHOWN_METRICS = ("impressions", "views", "likes", "replies", "reposts")
_LISTED = f"""SELECT c.campaign_id, min(c.name) AS name, string_agg(DISTINCT c.tenant, ', ') AS tenants, count(*) AS agents,
    min(c.created_at) AS began, max(c.updated_at) AS moved, {
    ", ".join(f"count(*) FILTER (WHERE c.status = '{status}') AS {status}" for status in STATUSES)
}
  FROM analytics_v1.campaigns c WHERE {seen("c")} AND (%(name)s = '%%' OR lower(c.name) LIKE %(name)s)
  GROUP BY c.campaign_id HAVING %(status)s = '' OR count(*) FILTER (WHERE c.status = %(status)s) > 0
  ORDER BY began DESC, c.campaign_id OFFSET %(from)s LIMIT %(most)s"""
_ITS = f"""SELECT c.tenant, c.agent, c.agent_id, c.campaign, c.status, c.reason, c.name, c.plan_reason, c.created_at, c.requester
  FROM analytics_v1.campaigns c WHERE c.campaign_id = %(campaign)s AND {seen("c")} ORDER BY c.agent, c.tenant, c.campaign"""
_PROGRESS = f"""SELECT t.agent_id, t.campaign, t.status, count(*) AS tasks FROM analytics_v1.tasks t
  WHERE t.campaign_id = %(campaign)s AND {seen("t")} GROUP BY t.agent_id, t.campaign, t.status"""
_BRIEF = """SELECT e.data -> 'brief' AS brief, e.partition, e."offset" FROM analytics_v1.events e
  WHERE e.stream = %(id)s AND e.type IN ('CampaignStarted', 'BriefChanged') AND e.outcome = 'applied'
    AND (e.data ->> 'campaign_id' = %(campaign)s OR e.campaign = %(number)s) ORDER BY e."offset" DESC LIMIT 1"""
_SPEND = f"""SELECT s.day, s.capability, sum(s.cost_usd) AS usd, sum(s.calls) AS calls FROM analytics_v1.spend s
  WHERE s.campaign_id = %(campaign)s AND {seen("s")} AND s.day > current_date - %(days)s::int
  GROUP BY s.day, s.capability ORDER BY s.day"""
_LEDGER = f"""SELECT sum(l.reserved_usd) AS reserved, sum(l.settled_usd) AS settled FROM analytics_v1.ledger_balance l
  WHERE l.campaign_id = %(campaign)s AND {seen("l")}"""
_ENGAGEMENT = f"""SELECT d.day, d.metric, sum(d.value) AS value FROM analytics_v1.engagement_daily d
  JOIN (SELECT p.agent_id, p.platform, p.platform_id FROM analytics_v1.post_facts p WHERE p.campaign_id = %(campaign)s
    AND {seen("p")}) p USING (agent_id, platform, platform_id)
  WHERE d.day > current_date - %(days)s::int AND d.metric = ANY(%(metrics)s) GROUP BY d.day, d.metric ORDER BY d.day"""
_TENANTS = "SELECT DISTINCT c.tenant FROM analytics_v1.campaigns c WHERE c.campaign_id = %(campaign)s"


def routes(place: Place) -> list[Route]:
    """Their addresses."""
    return [
        route(place, "/campaigns", listed),
        route(place, "/campaign/{campaign}", shown),
        route(place, "/campaign/{campaign}/status", change, "POST"),
    ]


async def listed(request: Request, login: Login, place: Place) -> Response:
    """All campaigns, the newest first."""
    asked = request.query_params
    first, status = number(asked.get("from"), 0, most=100_000), asked.get("status", "")
    given = {
        "tenants": allowed(login),
        "name": likewise(asked.get("name", "").lower()),
        "status": status if status in STATUSES else "",
        "from": first,
        "most": AT_ONCE + 1,
    }
    async with place.reading() as connection:
        found, more = split(await rows(connection, _LISTED, given), AT_ONCE)
    return place.page(
        "campaigns.html",
        login,
        campaigns=found,
        more=more,
        first=first,
        at_once=AT_ONCE,
        statuses=STATUSES,
        asked={"name": asked.get("name", ""), "status": given["status"]},
    )


async def shown(request: Request, login: Login, place: Place) -> Response:
    """One campaign. Raises `LookupError`."""
    asked, campaign = request.query_params, request.path_params["campaign"]
    given: dict[str, Any] = {"campaign": campaign, "tenants": allowed(login), "days": DAYS, "metrics": list(SHOWN_METRICS)}
    first = number(asked.get("from"), 0, most=1_000_000)
    async with analysing(place) as connection:
        its = await rows(connection, _ITS, given)
        if not its:
            raise LookupError("there is no such campaign here")
        by_agent, progress = _counted(await rows(connection, _PROGRESS, given))
        one_of = next((row for row in its if row["agent"] == asked.get("agent")), its[0])
        brief = await one(connection, _BRIEF, given | {"id": one_of["agent_id"], "number": one_of["campaign"]})
        picture = await dag(connection, one_of, one_of["campaign"])
        spend, engagement = await _charts(connection, given)
        ledger = await one(connection, _LEDGER, given)
    on_page, more = its[first : first + AT_ONCE], len(its) > first + AT_ONCE
    return place.page(
        "campaign.html",
        login,
        campaign=campaign,
        name=its[0]["name"],
        its=[row | {"tasks": by_agent.get((row["agent_id"], row["campaign"]), {})} for row in on_page],
        agents=len(its),
        more=more,
        first=first,
        at_once=AT_ONCE,
        asked={"agent": asked.get("agent", "")},
        statuses={status: n for status in STATUSES if (n := sum(row["status"] == status for row in its))},
        progress=progress,
        brief=None if brief is None else brief["brief"],
        brief_at=brief,
        one_of=one_of,
        picture=picture,
        spend=spend,
        engagement=engagement,
        ledger=ledger,
        may_operate=all(authorize(login.principal, "operate", tenant) for tenant in {row["tenant"] for row in its}),
        done=asked.get("done", ""),
    )


def _counted(found: Sequence[Row]) -> tuple[dict[tuple[str, int], dict[str, int]], dict[str, int]]:
    """Tasks by status: per agent's campaign, and in all."""
    by_agent: dict[tuple[str, int], dict[str, int]] = {}
    total: dict[str, int] = {}
    for row in found:
        by_agent.setdefault((row["agent_id"], row["campaign"]), {})[row["status"]] = row["tasks"]
        total[row["status"]] = total.get(row["status"], 0) + row["tasks"]
    return by_agent, total


async def _charts(connection: Connection, given: Mapping[str, Any]) -> tuple[Any, Any]:
    spend = by_day(await rows(connection, _SPEND, given), "capability", "usd")
    engagement = by_day(await rows(connection, _ENGAGEMENT, given), "metric", "value")
    return (
        charts.bars(f"Spend by day, last {DAYS} days", *spend, "USD"),
        charts.lines(f"What its posts have, by day, last {DAYS} days", *engagement),
    )


def by_day(found: Sequence[Row], name: str, value: str) -> tuple[list[str], list[charts.Series]]:
    """Labels and series of rows that have a `day`, a name and a value."""
    days = sorted({row["day"] for row in found})
    names = sorted({str(row[name]) for row in found})
    known = {(row["day"], str(row[name])): float(row[value]) for row in found if row[value] is not None}
    return [f"{day:%d %b}" for day in days], [charts.Series(n, [known.get((day, n)) for day in days]) for n in names]


async def change(request: Request, login: Login, place: Place) -> Response:
    """Pause, resume or cancel it in the tenants that this person operates. Raises `Forbidden`, `Refused`, `LookupError`."""
    form, campaign = await request.form(), request.path_params["campaign"]
    what, reason = words(form, "change"), words(form, "reason")
    if what not in CHANGES:
        raise Refused(f"'{what}' is nothing to do with a campaign: use {', '.join(CHANGES)}")
    if not reason:
        raise Refused(f"say why the campaign is to {what}: the reason is kept in the record")
    async with place.reading() as connection:
        its = await rows(connection, _ITS, {"campaign": campaign, "tenants": allowed(login)})
        everywhere = {row["tenant"] for row in await rows(connection, _TENANTS, {"campaign": campaign})}
    if not its:
        raise LookupError("there is no such campaign here")
    mine = {row["tenant"] for row in its}
    for tenant in sorted(mine):
        web.demand(login.principal, "operate", tenant)
    if what == "cancel" and form.get("sure") != "yes":
        return place.page("campaign_sure.html", login, campaign=campaign, name=its[0]["name"], agents=len(its), reason=reason)
    wish = _wishes(login, campaign, CHANGES[what], reason)
    if mine == everywhere:
        replies = [await place.asking.ask(wish())]
    else:  # others have a campaign of this name too: it is theirs alone to touch
        replies = [
            await _within(place, wish, tenant, [row["agent_id"] for row in its if row["tenant"] == tenant]) for tenant in mine
        ]
    answers = [answer for reply in replies for _, answer in verbs.answers_of(reply)]
    for answer in answers[-1:]:
        await until_visible(place, answer.position)
    applied = sum(answer.outcome == "applied" for answer in answers)
    done = f"{what}: applied for {applied} of {len(answers)}"
    return RedirectResponse(address(f"/campaign/{campaign}", done=done), 303)


def _wishes(login: Login, campaign: str, verb: str, reason: str) -> Any:
    def wish(**whom: Any) -> verbs.CampaignStatus:
        return verbs.wish(verbs.CampaignStatus, login.principal.name, verb=verb, campaign=campaign, reason=reason, **whom)

    return wish


async def _within(place: Place, wish: Any, tenant: str, agents: Sequence[str]) -> verbs.Reply:
    """Through the tenant where it opened the campaign, else agent by agent."""
    try:
        return await place.asking.ask(wish(tenant=tenant))
    except Refused:
        return await place.asking.ask(wish(names=tuple(agents)))
