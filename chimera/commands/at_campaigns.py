"""Verbs on campaigns, performed: list, show, start, change, pause, resume, cancel.

The rule not to break: a campaign over many agents is one command to each, under an id of its own; what their tenant opened is
commanded through the tenant (`chimera.commands.at_tenant_campaigns`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chimera.commands import agents, at_tenant_campaigns, campaigns, verbs, views
from chimera.commands.decision import Refused
from chimera.commands.history import HistoryUnavailable
from chimera.commands.room import Room, order_id
from chimera.commands.service import CommandService
from chimera.commands.verbs import Reply
from chimera.events.records import WHOLE_PPM, BriefChanged, CampaignStarted
from chimera.events.state import Agent, Ref
from chimera.policy.brief import Brief, is_address


def campaign_list(room: Room, _: verbs.CampaignList) -> Reply:
    """All campaigns, open and closed."""
    if room.service.whole:
        with room.service.still():
            return {"campaigns": views.campaign_rows(room.seen.story, room.service.agents)}
    rows, note = room.past(lambda past: past.campaigns(), lambda: _open_now(room))
    return {"campaigns": rows} | note


def campaign_show(room: Room, verb: verbs.CampaignShow) -> Reply:
    """One campaign, agent by agent."""
    note: Reply = {}
    if room.service.whole:
        with room.service.still():
            names = {key: agent.name for key, agent in room.service.agents.items()}
            rows = [_row(row, names) for row in room.seen.story.campaigns.values() if row.campaign_id == verb.campaign]
            known = {row.campaign_id for row in room.seen.story.campaigns.values()}
    else:
        rows, note = room.past(lambda past: past.campaign(verb.campaign), lambda: _open_rows(room, verb.campaign))
        known = set() if rows else set(room.past(lambda past: past.campaign_ids(), lambda: _open_ids(room))[0])
    told = at_tenant_campaigns.deliveries(room, verb.campaign)
    if not rows and told:
        return {"campaign_id": verb.campaign, "name": verb.campaign, "agents": [], "tenants": told} | note
    if not rows:
        way_out = agents.near(verb.campaign, known) if known else ": none was started"
        missing = f" ({note['incomplete']})" if note else ""
        raise campaigns.UnknownCampaign(f"no campaign is called '{verb.campaign}'{way_out}{missing}")
    return {"campaign_id": verb.campaign, "name": rows[-1]["name"], "agents": rows, "tenants": told} | note


def _row(row: views.CampaignRow, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "agent": names.get(row.agent, row.agent),
        "stream": row.agent,
        "number": row.number,
        "name": row.name,
        "status": row.status,
        "brief_edition": row.brief_edition,
        "brief": dict(row.brief),
        "tasks": {str(k): {"status": v, "reason": row.reasons.get(k, "")} for k, v in row.tasks.items()},
        "effects": {str(k): v for k, v in row.effects.items()},
        "started_ts": row.started_ts,
        "ended_ts": row.ended_ts,
        "by": row.actor,
    }


def _open_now(room: Room) -> list[dict[str, Any]]:
    with room.service.still():
        return views.open_campaigns(room.service.agents.values())


def _open_ids(room: Room) -> list[str]:
    return [row["campaign_id"] for row in _open_now(room)]


def _open_rows(room: Room, id_: str) -> list[dict[str, Any]]:
    """The open campaigns of that id as the states know them, each with its brief from the log."""
    with room.service.still():
        found = [
            (views.open_campaign(agent, campaign), campaign.brief)
            for agent in room.service.agents.values()
            for campaign in agent.campaigns.values()
            if campaign.campaign_id == id_
        ]
    rows = []
    for row, ref in found:
        data = room.service.read_data(ref)
        rows.append(row | {"brief": dict(data.brief) if isinstance(data, CampaignStarted | BriefChanged) else {}})
    return rows


def campaign_start(room: Room, verb: verbs.CampaignStart) -> Reply:
    """Start a campaign for the named agents, a group, or everyone."""
    brief = _brief(room, verb.brief, verb.dry_run)
    if verb.tenant is not None:
        if verb.names is not None:
            raise verbs.BadVerb("names: a tenant's campaign is for all its members, a group or a share of them")
        return at_tenant_campaigns.start(room, verb, brief.name, brief.model_dump(mode="json"))
    if sum((verb.names is not None, verb.group is not None, verb.everyone)) != 1 or verb.share_ppm != WHOLE_PPM:
        raise verbs.BadVerb("say for whom: names, a group, everyone, or a tenant (which alone takes a share)")
    if verb.names is None:
        room.service.catch_up()
    groups = groups_of(room) if verb.group is not None else {}
    chosen = room.fresh(lambda: _chosen(room, verb, groups))
    names = [agent.name for agent in chosen]
    if verb.dry_run:
        id_ = campaigns.campaign_id(brief.name)
        with room.service.still():
            is_open = [campaigns.open_campaign(agent, id_) is not None for agent in chosen]
        plan = {n: "nothing: open already" if there else "CampaignStarted" for n, there in zip(names, is_open, strict=True)}
        return {"campaign_id": id_, "brief": brief.model_dump(mode="json"), "plan": plan}
    decide = campaigns.start(brief.name, brief.model_dump(mode="json"))
    return room.submit([room.order(verb, agent, decide) for agent in chosen], names)


def _chosen(room: Room, verb: verbs.CampaignStart, groups: Mapping[str, list[str]]) -> list[Agent]:
    known = room.service.agents
    if verb.names is not None:
        return room.named(verb.names)
    if verb.group is not None:
        members = [known[key] for key, of in groups.items() if verb.group in of and key in known]
        if not members:
            near = agents.near(verb.group, {group for of in groups.values() for group in of})
            raise agents.UnknownAgent(f"group '{verb.group}' has no agents{near}")
        return members
    if not known:
        raise agents.UnknownAgent("no agent is enrolled yet: use `chimera agent enrol -f fleet.yaml`")
    return [agent for agent in known.values() if agent.status != "retired"]


def groups_of(room: Room) -> Mapping[str, list[str]]:
    """Who belongs to which group, completely. Raises `HistoryUnavailable` where that cannot be known now."""
    if room.service.whole:
        return room.seen.groups
    nobody: dict[str, list[str]] = {}
    groups, note = room.past(lambda past: past.groups(), lambda: nobody)
    if note:
        raise HistoryUnavailable(f"who is in which group is not known now ({note['incomplete']}): name the agents, or try again")
    return groups


def campaign_change(room: Room, verb: verbs.CampaignChange) -> Reply:
    """Give a campaign another brief."""
    body = _brief(room, verb.brief).model_dump(mode="json")
    tenant, found = _whom(room, verb)
    orders = [at_tenant_campaigns.change(room, verb, tenant, body)] if tenant is not None else []
    for agent in found:
        with room.service.still():
            campaign = campaigns.open_campaign(agent, verb.campaign)
            ref = campaign.brief if campaign is not None else None
        decide = campaigns.change(verb.campaign, body, _brief_hash(room.service, ref) if ref is not None else None)
        orders.append(room.order(verb, agent, decide, correlation=verb.campaign))
    return room.submit(orders, _names(tenant, found))


def campaign_status(room: Room, verb: verbs.CampaignStatus) -> Reply:
    """Pause, resume or cancel a campaign."""
    make = {"campaign.pause": campaigns.pause, "campaign.resume": campaigns.resume, "campaign.cancel": campaigns.cancel}[verb.verb]
    decide = make(verb.campaign, verb.reason)
    tenant, found = _whom(room, verb)
    orders = [at_tenant_campaigns.status(room, verb, tenant)] if tenant is not None else []
    orders += [room.order(verb, agent, decide, correlation=verb.campaign) for agent in found]
    return room.submit(orders, _names(tenant, found))


def _whom(room: Room, verb: verbs.CampaignChange | verbs.CampaignStatus) -> tuple[str | None, list[Agent]]:
    """The tenant that the command goes to, and the agents: those that have the campaign without their tenant."""
    room.service.drain()
    tenant = at_tenant_campaigns.tenant_with(room, verb)
    if tenant is None:
        try:
            return None, room.fresh(lambda: _with_campaign(room, verb, verb.campaign, verb.names))
        except campaigns.UnknownCampaign:
            tenant = at_tenant_campaigns.tenant_with(room, verb)  # it was opened a moment ago
            if tenant is None:
                raise
    with room.service.still():
        return tenant, at_tenant_campaigns.apart(room, tenant, verb.campaign)


def _names(tenant: str | None, found: list[Agent]) -> list[str]:
    return ([f"tenant {tenant}"] if tenant is not None else []) + [agent.name for agent in found]


def _with_campaign(room: Room, verb: verbs.Wish, id_: str, names: tuple[str, ...] | None) -> list[Agent]:
    """Whom a command on a campaign means: also those whose campaign closed when this very command came the first time."""
    if names is not None:
        return room.named(names)
    known = room.service.agents
    again = [agent for key, agent in known.items() if room.service.answered(key, order_id(verb, key)) is not None]
    try:
        still_open = campaigns.agents_with(known.values(), id_)
    except campaigns.UnknownCampaign:
        if not again:
            raise
        still_open = []
    return list({agent.key: agent for agent in (*again, *still_open)}.values())


def _brief(room: Room, body: Mapping[str, Any], dry_run: bool = False) -> Brief:
    try:
        brief = Brief.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise verbs.BadVerb(f"brief: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    kept = (room.home / "mcp" / "feeds").resolve()
    for feed in brief.feeds:
        if not dry_run and not is_address(feed) and Path(feed).resolve().parent != kept:
            raise Refused(f"feed '{feed}' is a file that this installation does not keep: give an http(s) address")
    return brief


def _brief_hash(service: CommandService, ref: Ref) -> str | None:
    data = service.read_data(ref)
    return data.brief_hash if isinstance(data, CampaignStarted | BriefChanged) else None
