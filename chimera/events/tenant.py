"""What a tenant's log folds to: members, accounts, payees, editions, campaigns, the ledger, and the copies owed to agents.

The rule not to break: money is Decimal, content is a reference, and what is walked in order is a list: a dict comes back from a
snapshot sorted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from chimera.events.records import WHOLE_PPM
from chimera.events.state import ZERO, Ref

DAY_MS = 86_400_000


class Told(NamedTuple):
    """A copy that the tenant owes an agent. Its content is made from the record at `ref`; answers on funds are whole here."""

    number: int
    what: str
    """Type of the copy: PolicyAdopted, SoulAdopted, AccountLinked, AccountUnlinked, CampaignStarted, BriefChanged,
    CampaignStatusSet, FundsAnswered."""
    ref: Ref
    detail: str = ""
    """Where the record at `ref` does not say it: the platform, the campaign's id."""
    campaign: int = 0
    ordinal: int = 0
    attempt: int = 0
    answer: str = ""
    reason: str = ""


@dataclass(slots=True)
class Member:
    """An agent of the tenant, and the latest of everything that it was told."""

    name: str
    groups: tuple[str, ...] = ()
    policy: int = 0
    soul: int = 0
    campaigns: list[str] = field(default_factory=list)


class Credential(NamedTuple):
    """What is known of an account's credential, beside whose the account is."""

    secret_ref: str = ""
    expires_ts: int = 0
    """ms since 1970; 0 = not known."""
    verified_ts: int = 0
    """When the platform was last asked whose it is; 0 = never, or not since it changed."""
    found: str = ""
    """The account that the platform named then."""
    platform_id: str = ""
    trouble: str = ""
    """Why it named none."""


class Edition(NamedTuple):
    """A published policy or persona."""

    number: int
    ref: Ref
    group: str = ""
    share_ppm: int = WHOLE_PPM


@dataclass(slots=True)
class TenantCampaign:
    """An open campaign over many agents."""

    opened: Ref
    brief: Ref
    """The record whose brief is in force."""
    brief_edition: int = 1
    status: str = "running"
    """running | paused"""
    status_ref: Ref | None = None
    group: str = ""
    share_ppm: int = WHOLE_PPM


@dataclass(slots=True)
class Window:
    """What one scope has paid and what is set aside in it, in US dollars."""

    reserved: Decimal = ZERO
    spent: Decimal = ZERO


class Request(NamedTuple):
    """Funds asked for one attempt of one agent. `day` is that of the reservation, 0 while it waits."""

    agent: str
    campaign: int
    ordinal: int
    attempt: int
    campaign_id: str
    amount: Decimal
    payee: str | None
    ref: Ref
    day: int = 0


class Votes(NamedTuple):
    """Votes for one content of a record that needs several people."""

    content: str
    """Digest of what is voted for."""
    subject: str
    """What is set: `budget/<scope>` or `payee/<payee>`."""
    people: tuple[str, ...]


@dataclass(slots=True)
class Rulers:
    """Who decides on budgets and payees, and how many of them it takes."""

    people: int = 1
    approvers: tuple[str, ...] | None = None
    """None: anybody who may command."""
    editor: str = ""
    """The policy's last editor, who may not."""


@dataclass(slots=True)
class Tenant:
    """The state of one tenant's stream."""

    key: str
    tenant: str
    """Its name, as records carry it in their tenant header."""
    version: int = 0
    """Number of records applied."""
    clock: int = 0
    """The latest append time of an applied record: the day never goes back."""
    command_no: int = 0
    recent: list[str] = field(default_factory=list)
    copies_in: dict[str, int] = field(default_factory=dict)
    owed: dict[str, list[Told]] = field(default_factory=dict)
    owed_no: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)
    rulers: Rulers = field(default_factory=Rulers)
    members: dict[str, Member] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    """`<platform>/<account>` -> stream key of its agent."""
    credentials: dict[str, Credential] = field(default_factory=dict)
    """The same name -> what is known of its credential, where anything is."""
    payees: dict[str, bool] = field(default_factory=dict)
    """Who may be paid -> whether anything was ever paid to them."""
    policy_no: int = 0
    soul_no: int = 0
    policies: dict[str, Edition] = field(default_factory=dict)
    """Selector -> the latest edition for it; one for all replaces those for fewer."""
    souls: dict[str, Edition] = field(default_factory=dict)
    campaigns: dict[str, TenantCampaign] = field(default_factory=dict)
    budgets: dict[str, Decimal] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    """`tenant`, `day/<n>`, `campaign/<id>`, `agent/<uuid>` -> what lies in it. Past days leave with their last reservation."""
    reserved: dict[str, Request] = field(default_factory=dict)
    waiting: list[Request] = field(default_factory=list)
    """Oldest first."""
    pending: list[Votes] = field(default_factory=list)
    """Oldest first."""

    @property
    def label(self) -> str:
        """How copies name this tenant: agents know its name, not its key."""
        return f"tenant/{self.tenant}"

    @property
    def day(self) -> int:
        """The UTC day of the latest applied record."""
        return self.clock // DAY_MS
