"""Commands about campaigns: start one for some agents, change its brief, pause, resume, cancel it.

The rule not to break: a campaign is known by its id, made from its name; the agent's own number for it is looked up in the
state when the decision is made, never remembered by the caller.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

from chimera.commands.agents import near
from chimera.commands.decision import Decision, Refused, existing
from chimera.errors import ChimeraError
from chimera.events.hashes import digest
from chimera.events.records import BriefChanged, CampaignStarted, CampaignStatusSet, Data
from chimera.events.state import Agent, Campaign
from chimera.policy.brief import listens_until


class UnknownCampaign(ChimeraError):
    """An id that no open campaign has."""


def campaign_id(name: str) -> str:
    """The id that people type: the name in lower case, words joined by hyphens."""
    return "-".join(re.findall(r"\w+", name.casefold())) or "campaign"


def start(name: str, brief: dict[str, Any]) -> Decision:
    """Begin the campaign for this agent, unless one of that id is open here."""
    id_ = campaign_id(name)
    until = listens_until(brief, int(time.time() * 1000))

    def decide(agent: Agent | None) -> Sequence[Data]:
        found = existing(agent)
        if open_campaign(found, id_) is not None:
            return []
        if found.status == "retired":
            raise Refused(f"agent '{found.name}' is retired: choose other agents")
        return [CampaignStarted(campaign_id=id_, name=name, brief=brief, brief_hash=digest(brief), listens_until=until)]

    return decide


def change(id_: str, brief: dict[str, Any], current_hash: str | None = None) -> Decision:
    """The next edition of the brief; nothing where `current_hash`, the brief in force, is the same."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        campaign = _open(existing(agent), id_)
        if campaign.status == "cancelled":
            raise Refused(f"campaign '{id_}' is being cancelled: start it anew when it has closed")
        new_hash = digest(brief)
        if new_hash == current_hash:
            return []
        until = listens_until(brief, int(time.time() * 1000))
        edition = campaign.brief_edition + 1
        return [BriefChanged(campaign=campaign.number, edition=edition, brief=brief, brief_hash=new_hash, listens_until=until)]

    return decide


def pause(id_: str, reason: str = "") -> Decision:
    """Hold the campaign's work."""
    return _status(id_, "paused", reason)


def resume(id_: str, reason: str = "") -> Decision:
    """Let it go on."""
    return _status(id_, "running", reason)


def cancel(id_: str, reason: str = "") -> Decision:
    """Close what is open; what was claimed runs to its end."""
    return _status(id_, "cancelled", reason)


def _status(id_: str, status: str, reason: str) -> Decision:
    def decide(agent: Agent | None) -> Sequence[Data]:
        campaign = _open(existing(agent), id_)
        if campaign.status == status:
            return []
        if campaign.status == "cancelled":
            raise Refused(f"campaign '{id_}' is being cancelled, which is for good: start it anew when it has closed")
        body = {"campaign": campaign.number, "status": status, "reason": reason}
        return [CampaignStatusSet.model_validate(body)]

    return decide


def open_campaign(agent: Agent, id_: str) -> Campaign | None:
    """The agent's open campaign of that id (or, written `#n`, of that number)."""
    for campaign in agent.campaigns.values():
        if campaign.campaign_id == id_ or f"#{campaign.number}" == id_:
            return campaign
    return None


def agents_with(agents: Iterable[Agent], id_: str) -> list[Agent]:
    """Agents in which a campaign of that id is open. Raises `UnknownCampaign` with near ids when there is none."""
    known = list(agents)
    found = [agent for agent in known if open_campaign(agent, id_) is not None]
    if not found:
        ids = {campaign.campaign_id for agent in known for campaign in agent.campaigns.values()}
        way_out = near(id_, ids) if ids else ": none is open, `chimera campaign list` shows closed ones"
        raise UnknownCampaign(f"no open campaign is called '{id_}'{way_out}")
    return found


def _open(agent: Agent, id_: str) -> Campaign:
    campaign = open_campaign(agent, id_)
    if campaign is None:
        raise Refused(f"campaign '{id_}' is not open for agent '{agent.name}': it has closed, or was never started there")
    return campaign
