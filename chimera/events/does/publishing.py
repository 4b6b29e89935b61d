"""What a tenant publishes for its agents: policies, personas, campaigns. Each agent is owed a copy of what is for it.

The rule not to break: who is owed what is decided here, once, from the members as they are at that place in the log.
"""

from __future__ import annotations

import hashlib

from chimera.events.does.steps import ref
from chimera.events.envelope import Record
from chimera.events.records import (
    WHOLE_PPM,
    CampaignChanged,
    CampaignOpened,
    PolicyPublished,
    Selector,
    SoulPublished,
    TenantCampaignStatusSet,
)
from chimera.events.state import Change, Ref
from chimera.events.tenant import Edition, Member, Rulers, Tenant, TenantCampaign, Told


def owe(t: Tenant, agent: str, what: str, at: Ref, detail: str = "") -> None:
    """The agent is owed a copy of the record at `at`."""
    add_debt(t, agent, Told(0, what, at, detail))


def add_debt(t: Tenant, agent: str, copy: Told) -> None:
    """Owe the copy under the next number of this agent."""
    number = t.owed_no[agent] = t.owed_no.get(agent, 0) + 1
    t.owed.setdefault(agent, []).append(copy._replace(number=number))


def selected(agent: str, groups: tuple[str, ...], group: str, share_ppm: int, name: str) -> bool:
    """Is it for this agent? The canary's share is drawn by agent and edition, so everybody draws the same."""
    if group and group not in groups:
        return False
    if share_ppm >= WHOLE_PPM:
        return True
    drawn = hashlib.sha256(f"{agent}:{name}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") % WHOLE_PPM < share_ppm


# --- guards ----------------------------------------------------------------------------------------------------------


def newer_policy(t: Tenant, r: Record) -> str | None:
    """Editions only go up; they may leave numbers out, since an agent may have adopted some by itself."""
    d = r.data
    assert isinstance(d, PolicyPublished)
    return None if d.edition > t.policy_no else "duplicate"


def newer_soul(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, SoulPublished)
    return None if d.edition > t.soul_no else "duplicate"


def id_free(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, CampaignOpened)
    return "conflict" if d.campaign_id in t.campaigns else None


def opened_there(t: Tenant, r: Record) -> str | None:
    """A campaign of this id is open here. What is closed leaves the state, so no other answer is possible."""
    campaign_id: str = r.data.campaign_id  # type: ignore[union-attr]
    return None if campaign_id in t.campaigns else "unknown"


def next_change(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, CampaignChanged)
    last = t.campaigns[d.campaign_id].brief_edition
    return None if d.edition == last + 1 else "duplicate" if d.edition <= last else "conflict"


def other_tenant_status(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, TenantCampaignStatusSet)
    return "conflict" if t.campaigns[d.campaign_id].status == d.status else None


# --- what they do ----------------------------------------------------------------------------------------------------


def policy_published(t: Tenant, r: Record, out: list[Change]) -> str:
    """Also says who decides on budgets and payees, where it is for all and names approvers of financial effects."""
    d = r.data
    assert isinstance(d, PolicyPublished)
    t.policy_no = d.edition
    edition = Edition(d.edition, ref(r), d.select.group, d.select.share_ppm)
    _replace(t.policies, edition)
    approvers = d.inline.approvers.get("financial")
    if approvers and edition.group == "" and edition.share_ppm >= WHOLE_PPM:
        t.rulers = Rulers(max(1, d.inline.people.get("financial", 2)), tuple(approvers), d.editor)
        t.pending = []  # cast under other rules, maybe by people who may not decide any more: asked again
    told = 0
    for agent, member in t.members.items():
        if selected(agent, member.groups, edition.group, edition.share_ppm, str(d.edition)):
            owe(t, agent, "PolicyAdopted", edition.ref)
            member.policy, told = d.edition, told + 1
    out.append(Change("edition", 0, 0, 0, "policy", _who(d.select), f"{d.edition} {told}"))
    return ""


def soul_published(t: Tenant, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, SoulPublished)
    t.soul_no = d.edition
    edition = Edition(d.edition, ref(r), d.select.group, d.select.share_ppm)
    _replace(t.souls, edition)
    told = 0
    for agent, member in t.members.items():
        if selected(agent, member.groups, edition.group, edition.share_ppm, str(d.edition)):
            owe(t, agent, "SoulAdopted", edition.ref)
            member.soul, told = d.edition, told + 1
    out.append(Change("edition", 0, 0, 0, "soul", _who(d.select), f"{d.edition} {told}"))
    return ""


def campaign_opened(t: Tenant, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, CampaignOpened)
    c = t.campaigns[d.campaign_id] = TenantCampaign(ref(r), ref(r), group=d.select.group, share_ppm=d.select.share_ppm)
    told = 0
    for agent, member in t.members.items():
        if selected(agent, member.groups, c.group, c.share_ppm, d.campaign_id):
            owe(t, agent, "CampaignStarted", c.opened)
            member.campaigns.append(d.campaign_id)
            told += 1
    out.append(Change("tenant_campaign", 0, 0, 0, "running", d.campaign_id, str(told)))
    return ""


def campaign_changed(t: Tenant, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, CampaignChanged)
    c = t.campaigns[d.campaign_id]
    c.brief, c.brief_edition = ref(r), d.edition
    for agent, member in t.members.items():
        if d.campaign_id in member.campaigns:
            owe(t, agent, "BriefChanged", c.brief)
    out.append(Change("tenant_campaign", 0, 0, 0, "changed", d.campaign_id, str(d.edition)))
    return ""


def tenant_campaign_status_set(t: Tenant, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, TenantCampaignStatusSet)
    c = t.campaigns[d.campaign_id]
    for agent, member in t.members.items():
        if d.campaign_id not in member.campaigns:
            continue
        if d.status == "cancelled":
            untell(t, agent, d.campaign_id, ref(r))
        else:
            owe(t, agent, "CampaignStatusSet", ref(r))
    if d.status == "cancelled":
        del t.campaigns[d.campaign_id]
    else:
        c.status, c.status_ref = d.status, ref(r)
    out.append(Change("tenant_campaign", 0, 0, 0, d.status, d.campaign_id, d.reason))
    return ""


def tell_all(t: Tenant, agent: str, member: Member) -> None:
    """Owe a member everything in force for it that it was not told."""
    policy = _latest(t.policies, agent, member)
    if policy is not None and policy.number > member.policy:
        owe(t, agent, "PolicyAdopted", policy.ref)
        member.policy = policy.number
    soul = _latest(t.souls, agent, member)
    if soul is not None and soul.number > member.soul:
        owe(t, agent, "SoulAdopted", soul.ref)
        member.soul = soul.number
    for campaign_id in sorted(t.campaigns):
        c = t.campaigns[campaign_id]
        if campaign_id in member.campaigns or not selected(agent, member.groups, c.group, c.share_ppm, campaign_id):
            continue
        member.campaigns.append(campaign_id)
        owe(t, agent, "CampaignStarted", c.opened)
        if c.brief != c.opened:
            owe(t, agent, "BriefChanged", c.brief)
        if c.status_ref is not None and c.status != "running":
            owe(t, agent, "CampaignStatusSet", c.status_ref)


def untell(t: Tenant, agent: str, campaign_id: str, at: Ref) -> None:
    """The campaign ends for this member."""
    t.members[agent].campaigns.remove(campaign_id)
    owe(t, agent, "CampaignStatusSet", at, campaign_id)


def _latest(editions: dict[str, Edition], agent: str, member: Member) -> Edition | None:
    mine = [e for e in editions.values() if selected(agent, member.groups, e.group, e.share_ppm, str(e.number))]
    return max(mine, default=None)


def _replace(editions: dict[str, Edition], edition: Edition) -> None:
    """An edition for all replaces every other, one for a whole group that group's, a canary the canary before it."""
    if edition.share_ppm >= WHOLE_PPM:
        for name in [name for name, e in editions.items() if edition.group in ("", e.group)]:
            del editions[name]
    editions[f"{edition.group}|{'all' if edition.share_ppm >= WHOLE_PPM else 'canary'}"] = edition


def _who(select: Selector) -> str:
    """A selector in words."""
    share = "" if select.share_ppm >= WHOLE_PPM else f"{select.share_ppm} ppm of "
    return f"{share}{f'group {select.group}' if select.group else 'all'}"
