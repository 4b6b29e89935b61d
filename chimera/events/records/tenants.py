"""Records of the tenant's stream: what spans agents is decided there, and crosses to them as signed copies (law: The tenant's
stream). The stream key is `tenant/<uuid>`; a copy names the tenant as `tenant/<name>`, which agents know.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from chimera.events.records.agents import PolicyInline
from chimera.events.records.base import Command, Copied, Data, EffectClass, Millis, Number, Part

WHOLE_PPM = 1_000_000


class Selector(Part):
    """Which members something is for: all, or those of `group`; of these a canary share, drawn by agent key and edition."""

    group: str = Field(default="", max_length=64)
    """"" = all members."""
    share_ppm: Number = Field(default=WHOLE_PPM, ge=0, le=WHOLE_PPM)


class TenantCreated(Command):
    """A tenant begins. Its name is the record's tenant header."""

    TYPE = "TenantCreated"

    finance: list[str] = []
    """Who may vote on budgets and payees until a policy for all is published; empty = anybody who may command."""
    people: Number = Field(default=1, ge=1)
    """How many of them it takes until then."""


class BudgetSet(Command):
    """A vote for a limit. `scope`: `tenant` (all its life; nothing is held without it), `day` (each UTC day), `campaign/<id>`,
    `agent/<uuid>`. The last vote that policy asks for sets it."""

    TYPE = "BudgetSet"

    scope: str = Field(max_length=200)
    limit_usd: Decimal


class PayeeAllowed(Command):
    """A vote for a payee: an account, address or merchant that money may go to."""

    TYPE = "PayeeAllowed"

    payee: str = Field(min_length=1, max_length=200)


class PayeeRemoved(Command):
    """The payee may be paid no more."""

    TYPE = "PayeeRemoved"

    payee: str = Field(max_length=200)


class AgentJoined(Command):
    """An agent is a member, in these groups; said again, it changes the groups."""

    TYPE = "AgentJoined"

    agent: str = Field(pattern=r"^agent/.+", max_length=80)
    """Its stream key."""
    name: str = Field(max_length=64)
    groups: list[str] = []


class AgentLeft(Command):
    """The agent is a member no more: its accounts are free again, its campaigns of this tenant end."""

    TYPE = "AgentLeft"

    agent: str


class AccountClaimed(Command):
    """The account is this agent's and nobody else's. Said again by whose it is, it changes the credential."""

    TYPE = "AccountClaimed"

    agent: str
    platform: str = Field(min_length=1, max_length=64)
    account: str = Field(min_length=1, max_length=200)
    secret_ref: str = Field(default="", max_length=500)
    """Where the credential lies (`env:NAME`, `file:PATH`, `command:PROGRAM ...`), never the credential itself. "" = where the
    profile says."""
    expires_ts: Millis = 0
    """When the credential ends (ms since 1970), as people said; 0 = not known."""


class AccountVerified(Command):
    """What the platform said, asked with the account's credential, of whose it is. Information: no rule reads it."""

    TYPE = "AccountVerified"

    platform: str
    account: str
    secret_ref: str = Field(default="", max_length=500)
    """The credential that was asked with; void where another is in force by now."""
    found: str = Field(default="", max_length=200)
    """The account that the credential belongs to; "" where the platform named none."""
    platform_id: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=64)
    """Why it named none, as a code: `unauthorized`, `not_configured`, `server_down` ..."""
    mode: Literal["sandbox", "live"] = "sandbox"


class AccountReleased(Command):
    """The account is nobody's."""

    TYPE = "AccountReleased"

    platform: str
    account: str


class PolicyPublished(Command):
    """A policy edition for those whom `select` names; each is owed a `PolicyAdopted`."""

    TYPE = "PolicyPublished"

    edition: Number
    """Above every edition that the tenant published before."""
    digest: str
    editor: str
    stales: bool = False
    inline: PolicyInline
    rules: str = Field(default="", max_length=16_384)
    select: Selector = Selector()


class SoulPublished(Command):
    """A persona for those whom `select` names; each is owed a `SoulAdopted`."""

    TYPE = "SoulPublished"

    edition: Number
    digest: str
    soul: str = Field(max_length=16_384)
    select: Selector = Selector()


class CampaignOpened(Command):
    """One campaign over many agents; each is owed a `CampaignStarted`."""

    TYPE = "CampaignOpened"

    campaign_id: str = Field(min_length=1, max_length=100)
    name: str
    brief: dict[str, Any]
    brief_hash: str
    select: Selector = Selector()


class CampaignChanged(Command):
    """The next edition of the campaign's brief; each agent that was told of the campaign is owed a `BriefChanged`."""

    TYPE = "CampaignChanged"

    campaign_id: str
    edition: Number
    brief: dict[str, Any]
    brief_hash: str


class TenantCampaignStatusSet(Command):
    """Pause, resume or cancel the campaign everywhere; cancelled, it is closed here."""

    TYPE = "TenantCampaignStatusSet"

    campaign_id: str
    status: Literal["running", "paused", "cancelled"]
    reason: str = ""


class FundsRequested(Data):
    """A copy of what an agent's effect asks for: at most `amount_usd`, to `payee` where one is paid."""

    TYPE, ROLE = "FundsRequested", "courier"

    copied: Copied
    campaign: Number
    ordinal: Number
    attempt: Number
    campaign_id: str
    effect_class: EffectClass
    effect_hash: str
    """Of the worker's proposal; an edit keeps price and payee, and so the reservation."""
    amount_usd: Decimal
    payee: str | None = None


class FundsSettled(Data):
    """A copy: the attempt is over and cost this much, 0 where nothing came of it."""

    TYPE, ROLE = "FundsSettled", "courier"

    copied: Copied
    campaign: Number
    ordinal: Number
    attempt: Number
    actual_usd: Decimal


class SubjectForgotten(Command):
    """The key of a person's data is destroyed, for all agents."""

    TYPE = "SubjectForgotten"

    subject: str = Field(min_length=1, max_length=200)
    """Name of the person's key, never the person's."""
    reason: str = ""


class DayOpened(Data):
    """A new UTC day has begun while requests wait for one and nobody else writes. Changes nothing by itself: the fold looks
    at waiting requests again at each record that counts."""

    TYPE, ROLE = "DayOpened", "courier"

    day: Number
    """Days since 1970-01-01 UTC."""
