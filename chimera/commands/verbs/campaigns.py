"""Commands to campaigns."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from chimera.commands.verbs.base import Names, TenantName, Wish


class CampaignStart(Wish):
    """Start a campaign for the named agents, a group, or everyone. With `tenant` it is opened there, for its members: all, those of
    `group`, and of these a canary share in parts per million; who becomes one later has it too."""

    verb: Literal["campaign.start"] = "campaign.start"
    brief: dict[str, Any]
    names: Names | None = None
    group: str | None = None
    everyone: bool = False
    tenant: TenantName | None = None
    share_ppm: int = Field(default=1_000_000, gt=0, le=1_000_000)
    dry_run: bool = False


class CampaignChange(Wish):
    """Give a campaign another brief; for all agents that have it, or the named ones. Where a tenant opened it, through that."""

    verb: Literal["campaign.change"] = "campaign.change"
    campaign: str
    brief: dict[str, Any]
    names: Names | None = None
    tenant: TenantName | None = None


class CampaignStatus(Wish):
    """Pause, resume or cancel a campaign; for all agents that have it, or the named ones. Where a tenant opened it, through it."""

    verb: Literal["campaign.pause", "campaign.resume", "campaign.cancel"]
    campaign: str
    names: Names | None = None
    tenant: TenantName | None = None
    reason: str = ""
