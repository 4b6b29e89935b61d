"""Copies of facts between streams: what a debtor is told of their delivery, and how an agent reads a copy of its tenant's facts."""

from __future__ import annotations

from dataclasses import replace

from chimera.events.envelope import Record
from chimera.events.records import BriefChanged, CampaignStatusSet, CopiesDelivered
from chimera.events.state import Agent, Change
from chimera.events.tenant import Tenant


def undelivered(stream: Agent | Tenant, r: Record) -> str | None:
    """It speaks of copies that are owed."""
    d = r.data
    assert isinstance(d, CopiesDelivered)
    if d.upto > stream.owed_no.get(d.target, 0):
        return "conflict"
    return None if d.upto > stream.delivered.get(d.target, 0) else "duplicate"


def copies_delivered(stream: Agent | Tenant, r: Record, out: list[Change]) -> str:
    """Owed no longer."""
    d = r.data
    assert isinstance(d, CopiesDelivered)
    stream.delivered[d.target] = d.upto
    owed = stream.owed.get(d.target, [])
    del owed[: sum(copy.number <= d.upto for copy in owed)]
    if not owed:
        stream.owed.pop(d.target, None)
    return ""


def as_told(agent: Agent, r: Record) -> Record:
    """A copy about a campaign, in the agent's own numbers: the latest open campaign of that id, the next edition of its brief.

    Copies carry no agent-side numbers, since the tenant's fold does not see the agent's. Where none is open the number is 0,
    which no campaign has."""
    d = r.data
    if not isinstance(d, BriefChanged | CampaignStatusSet):
        return r
    own = max((c for c in agent.campaigns.values() if c.campaign_id == d.campaign_id), key=lambda c: c.number, default=None)
    update = {"campaign": own.number if own is not None else 0}
    if isinstance(d, BriefChanged):
        update["edition"] = own.brief_edition + 1 if own is not None else 0
    return replace(r, data=d.model_copy(update=update))
