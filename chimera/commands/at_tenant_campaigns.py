"""Campaigns of a whole tenant: opened, changed, held and ended once, in its stream, and carried to each member by the courier.

The rule not to break: who is told is decided by the law from the members as they are; nothing here writes to an agent for its
tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chimera.commands import agents, campaigns, tenants, verbs
from chimera.commands.decision import Order, Refused, TenantDecision
from chimera.commands.keys import tenant_key
from chimera.commands.room import Room, order_id
from chimera.commands.verbs import Reply
from chimera.events.does.publishing import selected
from chimera.events.hashes import digest
from chimera.events.records import CampaignChanged, CampaignOpened, Selector
from chimera.events.state import Agent, Ref
from chimera.events.tenant import Tenant, TenantCampaign, Told


def start(room: Room, verb: verbs.CampaignStart, name: str, brief: dict[str, Any]) -> Reply:
    """Open the campaign for the tenant's members: all, those of `group`, and of these a canary share."""
    assert verb.tenant is not None
    id_, select = campaigns.campaign_id(name), Selector(group=verb.group or "", share_ppm=verb.share_ppm)
    room.service.catch_up()
    with room.service.still():
        tenant = room.tenant(verb.tenant)
        known = {group for member in tenant.members.values() for group in member.groups}
        if select.group and select.group not in known:
            raise Refused(f"no member of tenant '{verb.tenant}' is in group '{select.group}'{agents.near(select.group, known)}")
        told = [
            member.name
            for key, member in tenant.members.items()
            if selected(key, member.groups, select.group, select.share_ppm, id_)
        ]
        is_open = id_ in tenant.campaigns
    if verb.dry_run:
        word = "nothing: open already" if is_open else "CampaignStarted, as a copy"
        return {"campaign_id": id_, "brief": brief, "plan": dict.fromkeys(sorted(told), word)}
    reply = room.submit([order(room, verb, verb.tenant, tenants.open_campaign(name, brief, select=select))], [_label(verb.tenant)])
    return reply | {"told": len(told)}


def tenant_with(room: Room, verb: verbs.CampaignChange | verbs.CampaignStatus) -> str | None:
    """The tenant whose campaign a command means; None where it means campaigns of single agents.

    Raises `Refused` where several tenants have one of that id and none is named, or the named one has none.
    """
    if verb.names is not None:
        return None
    if verb.tenant is not None:
        with room.service.still():
            room.tenant(verb.tenant)
        return verb.tenant
    with room.service.still():
        found = [
            tenant.tenant
            for tenant in room.service.tenants.values()
            if verb.campaign in tenant.campaigns or room.service.answered(tenant.key, order_id(verb, tenant.key)) is not None
        ]
    if len(found) > 1:
        raise Refused(f"campaign '{verb.campaign}' is open in tenants {', '.join(sorted(found))}: say which with --tenant")
    return found[0] if found else None


def apart(room: Room, tenant: str, campaign: str) -> list[Agent]:
    """Agents in which a campaign of that id is open that their tenant did not tell them of. The caller holds the fold still."""
    members = room.tenant(tenant).members
    told = {key for key, member in members.items() if campaign in member.campaigns}
    known = room.service.agents
    return [
        agent
        for key, agent in known.items()
        if agent.tenant == tenant and key not in told and campaigns.open_campaign(agent, campaign) is not None
    ]


def change(room: Room, verb: verbs.CampaignChange, tenant: str, brief: dict[str, Any]) -> Order:
    """The order that gives a tenant's campaign another brief; nothing where it is the one in force."""
    with room.service.still():
        known = room.tenant(tenant).campaigns.get(verb.campaign)
    data = room.service.read_data(known.brief) if known is not None else None
    same = isinstance(data, CampaignOpened | CampaignChanged) and data.brief_hash == digest(brief)
    return order(room, verb, tenant, tenants.change_campaign(verb.campaign, brief, known.brief if known and same else None))


def status(room: Room, verb: verbs.CampaignStatus, tenant: str) -> Order:
    """The order that pauses, resumes or cancels a tenant's campaign."""
    words: Mapping[str, tenants.Status] = {
        "campaign.pause": "paused",
        "campaign.resume": "running",
        "campaign.cancel": "cancelled",
    }
    return order(room, verb, tenant, tenants.set_campaign_status(verb.campaign, words[verb.verb], verb.reason))


def order(room: Room, verb: verbs.Wish, tenant: str, decide: TenantDecision) -> Order:
    """A verb's order to a tenant's stream."""
    key = _key(room, tenant)
    return Order(key, tenant, verb.actor, decide, order_id(verb, key), correlation=getattr(verb, "campaign", ""))


# --- who has been told -----------------------------------------------------------------------------------------------


def deliveries(room: Room, campaign: str) -> list[dict[str, Any]]:
    """Per tenant that has the campaign, or still owes word of its end: how many were told, and who has not heard yet, of what."""
    with room.service.still():
        found = [_delivery(tenant, room.service.agents, campaign) for tenant in room.service.tenants.values()]
    rows = [row for row in found if row is not None]
    for row in rows:
        for behind in row["laggards"]:
            behind["since_ts"] = room.service.read_at(behind.pop("ref")).append_ts
    return rows


def _delivery(tenant: Tenant, known: Mapping[str, Agent], campaign: str) -> dict[str, Any] | None:
    open_here = tenant.campaigns.get(campaign)
    refs = _refs(open_here)
    laggards = []
    for key, owed in tenant.owed.items():
        agent = known.get(key)
        taken = agent.copies_in.get(tenant.label, 0) if agent is not None else 0
        behind = [copy for copy in owed if copy.number > taken and _is_about(copy, campaign, refs)]
        if behind:
            member = tenant.members.get(key)
            name = agent.name if agent is not None else member.name if member is not None else key
            laggards.append({"agent": name, "stream": key, "owed": [copy.what for copy in behind], "ref": behind[0].ref})
    if open_here is None and not laggards:
        return None
    told = sum(campaign in member.campaigns for member in tenant.members.values())
    late = {row["stream"] for row in laggards}
    return {
        "tenant": tenant.tenant,
        "status": open_here.status if open_here is not None else "cancelled",
        "brief_edition": open_here.brief_edition if open_here is not None else None,
        "group": open_here.group if open_here is not None else "",
        "told": told,
        "delivered": sum(campaign in member.campaigns and key not in late for key, member in tenant.members.items()),
        "owed": sum(len(row["owed"]) for row in laggards),
        "laggards": sorted(laggards, key=lambda row: str(row["agent"])),
    }


def _refs(campaign: TenantCampaign | None) -> set[Ref]:
    """The records that copies about an open campaign are made from, as far as they are in force: who waits for an older one waits
    for a later one too.
    """
    if campaign is None:
        return set()
    return {campaign.opened, campaign.brief} | ({campaign.status_ref} if campaign.status_ref is not None else set())


def _is_about(copy: Told, campaign: str, refs: set[Ref]) -> bool:
    return copy.ref in refs or (copy.what == "CampaignStatusSet" and copy.detail == campaign)


def _label(tenant: str) -> str:
    return f"tenant {tenant}"


def _key(room: Room, tenant: str) -> str:
    return tenant_key(room.service.keys.installation.installation, tenant)
