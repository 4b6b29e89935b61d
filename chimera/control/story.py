"""A task's story: brief, plan, what it was made from, drafts, verdicts, cards and decisions, the effect, the call, the post.

The rule not to break: every step names the record that it is told from; what no record says is not in the story.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.control.accounts import Login
from chimera.control.place import Place, Row, agent_named, one, route, rows
from chimera.control.review import REASON_WORDS

MOST_RECORDS = 400
OF_CAMPAIGN = ["CampaignStarted", "BriefChanged", "CampaignStatusSet", "PlanDrafted"]
_TASK = re.compile(r"(\d{1,9})\.(\d{1,9})")
_ROW = """SELECT t.*, c.name, c.campaign_id, c.status AS campaign_status FROM analytics_v1.tasks t
  JOIN analytics_v1.campaigns c ON c.agent_id = t.agent_id AND c.campaign = t.campaign
  WHERE t.agent_id = %(id)s AND t.campaign = %(campaign)s AND t.ordinal = %(ordinal)s"""
_WAITS = """SELECT ordinal, depends_on FROM analytics_v1.task_dependencies
  WHERE agent_id = %(id)s AND campaign = %(campaign)s ORDER BY ordinal, depends_on"""
_TITLES = "SELECT ordinal, title, kind FROM analytics_v1.tasks WHERE agent_id = %(id)s AND campaign = %(campaign)s"
_RECORDS = """SELECT * FROM analytics_v1.events e WHERE e.stream = %(id)s AND (
    (e.campaign = %(campaign)s AND (e.ordinal = ANY(%(ordinals)s) OR e.type = ANY(%(of_campaign)s)))
    OR (e.type = ANY(%(of_campaign)s) AND e.data ->> 'campaign_id' = %(campaign_id)s))
  ORDER BY e."offset" LIMIT %(most)s"""
_CALLS = """SELECT * FROM analytics_v1.tool_calls c WHERE c.agent_id = %(id)s AND c.profile = %(profile)s AND c.tool = %(tool)s
  AND c.created_at BETWEEN %(since)s AND %(until)s ORDER BY c.created_at LIMIT 10"""
_EFFECT = """SELECT * FROM analytics_v1.effects WHERE agent_id = %(id)s AND campaign = %(campaign)s AND ordinal = %(ordinal)s
  ORDER BY attempt"""
_POST = """SELECT p.*, f.views, f.likes, f.replies, f.reposts, f.observed_at FROM analytics_v1.posts p
  LEFT JOIN analytics_v1.post_facts f ON f.agent_id = p.agent_id AND f.campaign = p.campaign AND f.ordinal = p.ordinal
    AND f.attempt = p.attempt
  WHERE p.agent_id = %(id)s AND p.campaign = %(campaign)s AND p.ordinal = %(ordinal)s ORDER BY p.attempt"""


class Step(NamedTuple):
    """One thing that happened. `kind` is its class; `task`: which task it is of, empty for the campaign's own."""

    kind: str
    title: str
    record: Row
    task: str = ""
    words: str = ""
    text: str = ""
    facts: Sequence[tuple[str, str]] = ()
    links: Sequence[tuple[str, str]] = ()


def routes(place: Place) -> list[Route]:
    """The story's address."""
    return [route(place, "/task/{name}/{task}", story_page)]


async def story_page(request: Request, login: Login, place: Place) -> Response:
    """The story of one task, what it was made from included. Raises `LookupError`."""
    asked = request.path_params["task"]
    at = _TASK.match(asked)
    if at is None:
        raise LookupError(f"no task '{asked}': a task is named campaign.ordinal, as 1.4")
    async with place.reading() as connection:
        agent = await agent_named(connection, request.path_params["name"], login, request.query_params.get("tenant", ""))
        given: dict[str, Any] = {"id": agent["agent_id"], "campaign": int(at[1]), "ordinal": int(at[2]), "most": MOST_RECORDS}
        given["of_campaign"] = OF_CAMPAIGN
        task = await one(connection, _ROW, given)
        if task is None:
            raise LookupError(f"{agent['agent']} has no task {at[1]}.{at[2]}")
        waits: dict[int, list[int]] = {}
        for row in await rows(connection, _WAITS, given):
            waits.setdefault(row["ordinal"], []).append(row["depends_on"])
        ordinals = made_from(given["ordinal"], waits)
        given |= {"ordinals": sorted(ordinals), "campaign_id": task["campaign_id"]}
        records = await rows(connection, _RECORDS, given)
        titles = {row["ordinal"]: f"{row['kind']}: {row['title']}" for row in await rows(connection, _TITLES, given)}
        effects = await rows(connection, _EFFECT, given)
        calls = []
        for effect in effects:
            if effect["claimed_at"] is not None:
                span = {"since": effect["claimed_at"], "until": effect["ended_at"] or effect["claimed_at"]}
                calls += await rows(connection, _CALLS, given | span | {"profile": effect["profile"], "tool": effect["tool"]})
        posts = await rows(connection, _POST, given)
    return place.page(
        "story.html",
        login,
        agent=agent,
        task=task,
        steps=steps_of(records, titles, given["ordinal"]),
        before=[n for n in sorted(ordinals) if n != given["ordinal"]],
        titles=titles,
        effects=effects,
        calls=calls,
        posts=posts,
        cut=len(records) == MOST_RECORDS,
    )


def made_from(ordinal: int, waits: Mapping[int, Sequence[int]]) -> set[int]:
    """The task and all that it waited for, however far."""
    found, left = {ordinal}, [ordinal]
    while left:
        for before in waits.get(left.pop(), ()):
            if before not in found:
                found.add(before)
                left.append(before)
    return found


def steps_of(records: Sequence[Row], titles: Mapping[int, str], ordinal: int) -> list[Step]:
    """Records as steps, in the order of the log."""
    return [_step(record, titles, ordinal) for record in records]


def _step(record: Row, titles: Mapping[int, str], ordinal: int) -> Step:
    data: dict[str, Any] = record["data"] or {}
    task = "" if record["ordinal"] is None else f"{record['campaign']}.{record['ordinal']}"
    tell = _TELLERS.get(record["type"])
    told = tell(data) if tell is not None else Told("other", record["type"])
    if record["type"] == "PlanDrafted":
        told = _plan(data, titles, ordinal)
    return Step(told.kind, told.title, record, task, told.words, told.text, told.facts, told.links)


class Told(NamedTuple):
    """What a record says, in words."""

    kind: str
    title: str
    words: str = ""
    text: str = ""
    facts: Sequence[tuple[str, str]] = ()
    links: Sequence[tuple[str, str]] = ()


def _brief(data: Mapping[str, Any]) -> Told:
    brief = data.get("brief", {})
    facts = [
        ("Audience", str(brief.get("audience", ""))),
        ("Messages", "; ".join(brief.get("key_messages", []))),
        ("Formats", ", ".join(f"{f.get('format')} on {f.get('platform')}" for f in brief.get("formats", []))),
    ]
    title = "Brief" if "name" in data else f"Brief, edition {data.get('edition', '')}"
    return Told("brief", title, str(brief.get("goal", "")), facts=[fact for fact in facts if fact[1]])


def _plan(data: Mapping[str, Any], titles: Mapping[int, str], ordinal: int) -> Told:
    found = data.get("rows", [])
    if not found:
        return Told("plan", "Plan", data.get("reason") or "nothing is left to do")
    mine = next((row for row in found if row.get("ordinal") == ordinal), None)
    words = f"round {data.get('round')}: {len(found)} tasks from brief edition {data.get('brief_edition')}"
    facts = []
    if mine is not None:
        facts.append(("This task", titles.get(ordinal, mine.get("title", ""))))
        facts.append(("Waits for", ", ".join(f"{n} ({titles.get(n, '')})" for n in mine.get("depends_on", [])) or "nothing"))
        facts.append(("Asked of it", ", ".join(_criterion(c) for c in mine.get("criteria", [])) or "nothing besides the policy"))
    return Told("plan", "Plan", words, facts=facts)


def _criterion(row: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{name} {value}" for name, value in row.items() if name != "kind")
    return str(row.get("kind", "")).replace("_", " ") + (f" ({rest})" if rest else "")


def _artifact(data: Mapping[str, Any]) -> Told:
    content, kind = data.get("content", {}), str(data.get("kind", ""))
    sources = [(str(s.get("title") or s.get("url") or "source"), str(s.get("url", ""))) for s in data.get("sources", [])]
    facts = []
    if data.get("confidence_score") is not None:
        facts.append(("Confidence", f"{data['confidence_score']:.3f}"))
    facts.append(("Made from", f"{data.get('taint')} text"))
    if data.get("risk_tags"):
        facts.append(("Tags", ", ".join(data["risk_tags"])))
    effect = data.get("effect")
    if effect:
        facts += _proposed(effect)
    words = ""
    if articles := content.get("articles"):
        words = f"{len(articles)} articles read"
    elif angles := content.get("angles"):
        words = " · ".join(str(angle.get("claim", "")) for angle in angles[:5])
    names = {"research": "Research", "angles": "Angles", "draft": "Draft"}
    title = names.get(kind, kind.capitalize()) + (f", attempt {data.get('attempt')}" if data.get("attempt", 1) > 1 else "")
    return Told("effect" if effect else "made", title, words, str(content.get("text") or ""), facts, sources)


def _proposed(effect: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("Proposes", f"{effect.get('capability') or effect.get('tool')} as @{effect.get('account')} on {effect.get('platform')}"),
        ("Costs at most", f"{effect.get('max_cost_usd')} USD, {effect.get('effect_class')}"),
        ("Effect", str(effect.get("effect_hash", ""))[:16]),
    ]


def _verdict(data: Mapping[str, Any]) -> Told:
    decision = {"pass": "passes it", "people": "asks people", "fail": "fails it"}.get(
        str(data.get("decision")), str(data.get("decision"))
    )
    trace = data.get("trace", {})
    met = [f"{'met' if c.get('met') else 'NOT met'}: {c.get('why', c.get('name', ''))}" for c in trace.get("criteria", [])]
    facts = [("Criteria", "; ".join(met))] if met else []
    if data.get("confidence") is not None:
        facts.insert(0, ("Confidence", f"{data['confidence']:.3f} calibrated, {data.get('confidence_raw') or 0:.3f} raw"))
    if data.get("tags"):
        facts.append(("Tags", ", ".join(data["tags"])))
    words = "; ".join(data.get("reasons", [])) or "nothing to say against it"
    return Told("verdict", f"The {data.get('judge')} judge {decision}", words, facts=facts)


def _approved(data: Mapping[str, Any]) -> Told:
    return Told("decision", "Approved", str(data.get("comment", "")), facts=[("Was shown", str(data.get("shown_hash", ""))[:16])])


def _rejected(data: Mapping[str, Any]) -> Told:
    return Told("decision", f"Rejected: {REASON_WORDS.get(str(data.get('reason_code')), '')}", str(data.get("comment", "")))


def _edited(data: Mapping[str, Any]) -> Told:
    return Told("decision", "Edited", str(data.get("comment", "")), str(data.get("content", {}).get("text", "")))


def _ended(data: Mapping[str, Any]) -> Told:
    titles = {"executed": "The call succeeded", "refused": "The call was refused", "not_executed": "The call did not happen"}
    facts = [("On the platform", str(data["platform_id"]))] if data.get("platform_id") else []
    if data.get("proof"):
        facts.append(("Proof", ", ".join(f"{name}: {value}" for name, value in data["proof"].items())))
    links = [(str(data["url"]), str(data["url"]))] if data.get("url") else []
    return Told(
        "call", titles.get(str(data.get("outcome")), "The call ended"), str(data.get("reason", "")), facts=facts, links=links
    )


def _planned(data: Mapping[str, Any]) -> Told:
    again = f" again ({data['reason']})" if data.get("reason") else ""
    return Told("opened", f"Opened{again}, attempt {data.get('attempt')}")


_TELLERS: Mapping[str, Any] = {
    "CampaignStarted": _brief,
    "BriefChanged": _brief,
    "CampaignStatusSet": lambda d: Told("other", f"Campaign {d.get('status')}", str(d.get("reason", ""))),
    "TaskPlanned": _planned,
    "WorkStarted": lambda d: Told("opened", "Work begins"),
    "WorkFailed": lambda d: Told("failed", "Not made", str(d.get("reason", ""))),
    "ArtifactProduced": _artifact,
    "JudgeVerdict": _verdict,
    "FundsAnswered": lambda d: Told("other", f"Funds: {str(d.get('answer', '')).replace('_', ' ')}", str(d.get("reason", ""))),
    "CardHoldSet": lambda d: Told("decision", "Held" if d.get("held") else "Released", str(d.get("reason", ""))),
    "HumanApproved": _approved,
    "HumanRejected": _rejected,
    "HumanEdited": _edited,
    "EffectWithdrawn": lambda d: Told("decision", "Approval undone", str(d.get("reason", ""))),
    "EffectClaimed": lambda d: Told("call", "The gate claims the call", f"for {d.get('lease_ms', 0) / 1000:g} s at most"),
    "EffectSubmitted": lambda d: Told("call", "The platform took the job", str(d.get("handle", ""))),
    "EffectDeferred": lambda d: Told("call", "Not sent, put off", str(d.get("reason", ""))),
    "EffectUnknown": lambda d: Told("call", "Nobody knows how the call ended", str(d.get("reason", ""))),
    "EffectEnded": _ended,
    "Expired": lambda d: Told("failed", f"The {d.get('what')} ran out of time"),
}
"""Record type -> what it says."""
