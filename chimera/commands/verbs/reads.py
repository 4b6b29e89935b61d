"""Questions that need no family of their own: agents, campaigns, cards, posts, the fleet, switches, the law."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chimera.commands.verbs.base import Read

MOST_POSTS = 500
"""Posts that one `post.list` may ask for."""


class AgentList(Read):
    """All agents, or one tenant's."""

    verb: Literal["agent.list"] = "agent.list"
    tenant: str | None = None


class AgentShow(Read):
    """One agent by name or stream key."""

    verb: Literal["agent.show"] = "agent.show"
    name: str


class CampaignList(Read):
    """All campaigns, open and closed."""

    verb: Literal["campaign.list"] = "campaign.list"


class CampaignShow(Read):
    """One campaign, agent by agent."""

    verb: Literal["campaign.show"] = "campaign.show"
    campaign: str


class CardList(Read):
    """Effects in these statuses, each with all that a reviewer is shown."""

    verb: Literal["review.list"] = "review.list"
    statuses: tuple[str, ...] = ("people",)


class CardShow(Read):
    """What a decision on one card should rest on. With `deciding`, a task closed in just that way is no refusal."""

    verb: Literal["review.show"] = "review.show"
    card: str
    deciding: str = ""


class CardHolds(Read):
    """Which waiting cards somebody holds: card -> by whom, until when."""

    verb: Literal["review.holds"] = "review.holds"


class PostList(Read):
    """What agents have published, newest first; `standing`: without what was taken down."""

    verb: Literal["post.list"] = "post.list"
    agent: str | None = None
    standing: bool = False
    limit: int = Field(default=50, ge=1, le=MOST_POSTS)


class CardReread(Read):
    """What the judge's rules say of other words for a card; nothing is put there."""

    verb: Literal["review.reread"] = "review.reread"
    card: str
    text: str


class FleetStatus(Read):
    """The fleet, counted."""

    verb: Literal["fleet.status"] = "fleet.status"


class SwitchStopped(Read):
    """The effects that closed kill switches hold back."""

    verb: Literal["switch.stopped"] = "switch.stopped"


class SwitchList(Read):
    """Every switch that was ever set, as the topic says now."""

    verb: Literal["switch.list"] = "switch.list"


class LawShow(Read):
    """The law and the keys in force, partition by partition."""

    verb: Literal["law.show"] = "law.show"
