"""What travels over the API: every question, wish and answer as a closed model, from which the OpenAPI document is made.

The rule not to break: within `/api/v1` a field is never taken away and never changes its meaning; new ones may be added to answers.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from chimera.shapes import Shaped

ONE_LINE, NO_NUL = r"^[^\x00-\x1f\x7f]*$", r"^[^\x00]*$"
Money = Annotated[Decimal, PlainSerializer(str, return_type=str)]
"""US dollars as a string, so that nothing is rounded on the way."""


def _written_out(given: object) -> object:
    if isinstance(given, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", given):
        raise ValueError("write a day as YYYY-MM-DD")
    return given


def _whole(given: object) -> object:
    return int(given) if isinstance(given, float) and given.is_integer() else given


Whole = Annotated[int, BeforeValidator(_whole)]
"""An integer as JSON Schema has it: 3.0 is one."""
Day = Annotated[date, BeforeValidator(_written_out)]
"""A day, and not the number that pydantic would take for one."""
Name = Annotated[str, Shaped(ONE_LINE, "write up to 120 signs in one line", longest=120)]
Words = Annotated[str, Shaped(NO_NUL, "write up to 1000 signs, none of them NUL", longest=1000)]
Reason = Annotated[str, Shaped(NO_NUL, "write 1 to 500 signs, none of them NUL", 1, 500)]
Hash = Annotated[str, Shaped(r"^[0-9a-f]{64}$", "write a SHA-256 as 64 hex digits, in small letters")]
FilterName = Literal["all", "sensitive", "low confidence", "financial", "unknown"]


class Asked(BaseModel):
    """What a caller sends: closed, so that a mistyped field is told and not passed over."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Told(BaseModel):
    """What a caller is told."""

    model_config = ConfigDict(frozen=True)


class Nothing(Asked):
    """No question beside the path."""


class Problem(Told):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


# --- who asks --------------------------------------------------------------------------------------------------------


class Me(Told):
    """Whose the token is and how far it reaches."""

    name: str
    token: str = Field(description="the token's id, by which it is revoked")
    label: str
    tenant: str = Field(description="a tenant, or * for every one")
    roles: list[str] = Field(description="those of the token that the account still holds")
    until: datetime


# --- reviews ---------------------------------------------------------------------------------------------------------


class QueueAsked(Asked):
    """Which part of the queue."""

    kind: FilterName = "all"
    platform: Name = ""
    agent: Name = ""


class QueuedCard(Told):
    """A card that waits, as the queue shows it."""

    card: str
    tenant: str
    agent: str
    why: str
    effect_class: str
    platform: str
    account: str | None
    text: str | None
    confidence: float | None
    risk_tags: list[str]
    waiting_s: float
    approvals: int


class Queue(Told):
    """The heaviest cards first; `total` counts also those that are not listed."""

    cards: list[QueuedCard]
    total: int
    counts: dict[str, int]


class Card(Told):
    """One card. A decision must give back `shown_hash`, `effect_hash` and `edit` as they were shown."""

    card: str
    shown_hash: str
    effect_hash: str
    edit: int
    content: dict[str, Any] = Field(description="exactly what the digest `shown_hash` is of: words, arguments, why, votes, sources")
    score: float | None = None
    held_by: str | None = None
    held_reason: str | None = None


class Shown(Asked):
    """What was looked at before the decision."""

    shown_hash: Hash
    effect_hash: Hash
    edit: Whole = Field(default=0, ge=0, le=100_000)


class Approve(Asked):
    """A vote for exactly what was shown."""

    shown: Shown
    comment: Words = ""


class Reject(Asked):
    """Close the card and its task; the reason teaches later attempts."""

    shown: Shown
    reason_code: Literal["off_brand", "inaccurate", "unsafe", "duplicate", "timing", "other"]
    comment: Words = ""


class Edit(Asked):
    """Other words in place of those shown."""

    shown: Shown
    text: Annotated[str, Shaped(NO_NUL, "write 1 to 20000 signs, none of them NUL", 1, 20_000)]
    comment: Words = ""


class Undo(Asked):
    """Take an approval back that nobody has claimed."""

    reason: Words = "undone through the API"


class Hold(Asked):
    """Mark a card as one's own until released, or until then."""

    reason: Reason
    until_ms: Whole = Field(default=0, ge=0, le=2**53, description="milliseconds since the epoch; 0: until released")


class Release(Asked):
    """Take the mark off."""

    reason: Annotated[str, Shaped(NO_NUL, "write up to 500 signs, none of them NUL", longest=500)] = ""


# --- commands --------------------------------------------------------------------------------------------------------


class Because(Asked):
    """A command with its reason."""

    reason: Words = ""


class Answer(Told):
    """What the law made of a command for one stream. Only `applied` counts."""

    name: str
    command_id: str
    outcome: Literal["applied", "rejected", "void", "appended", "refused"]
    reason: str
    state_version: int | None
    position: tuple[int, int] | None = Field(default=None, description="(partition, offset) of its record in chimera.log")


class Answers(Told):
    """One answer per stream that the command touched."""

    answers: list[Answer]


# --- the fleet -------------------------------------------------------------------------------------------------------


class Fleet(Told):
    """The fleet, counted, over the tenants that the token sees."""

    agents: int
    active: int
    paused: int
    retired: int
    quarantined: int
    open_tasks: int
    open_campaigns: int
    cards_waiting: int


class AgentsAsked(Asked):
    """Which agents; `after` is the last one of the page before."""

    prefix: Name = ""
    status: Literal["", "active", "paused", "retired"] = ""
    after: Name = ""
    limit: int = Field(default=100, ge=1, le=500)


class AgentRow(Told):
    """An agent as it is now."""

    tenant: str
    agent: str
    agent_id: str
    status: str
    quarantined: bool
    state_version: int
    policy_edition: int | None
    open_tasks: int
    open_campaigns: int
    updated_at: datetime


class Agents(Told):
    """Agents by name."""

    agents: list[AgentRow]


class Task(Told):
    """An open task."""

    campaign: int
    ordinal: int
    kind: str
    status: str
    reason: str | None


class Post(Told):
    """What reached a platform."""

    card: str
    platform: str
    account: str
    text: str | None
    url: str | None
    published_at: datetime


class Agent(AgentRow):
    """An agent with its open tasks and newest posts."""

    tasks: list[Task]
    posts: list[Post]


class CampaignsAsked(Asked):
    """Which campaigns."""

    status: Literal["", "running", "paused", "cancelled", "completed", "closed"] = ""
    limit: int = Field(default=100, ge=1, le=500)


class Campaign(Told):
    """A campaign over the agents of one tenant."""

    tenant: str
    campaign_id: str
    name: str
    status: dict[str, int] = Field(description="how many agents' parts of it are in which status")
    agents: int
    started_at: datetime


class Campaigns(Told):
    """Campaigns, the newest first."""

    campaigns: list[Campaign]


class Switch(Told):
    """A kill switch that was ever set and reaches something that the token sees."""

    scope: str = Field(description="fleet, tenant:NAME, platform:NAME, tool:PROFILE.TOOL, account:PLATFORM/HANDLE, agent:KEY")
    told: str = Field(description="the same in words")
    closed: bool
    reason: str
    by: str
    at_ms: int
    stopped: int = Field(description="how many effects it holds back now")


class Switches(Told):
    """Kill switches, the closed ones first."""

    switches: list[Switch]


class Turn(Asked):
    """Which switch, and why."""

    scope: Annotated[str, Shaped(ONE_LINE, "write up to 320 signs in one line, as in platform:x", 1, 320)]
    reason: Reason


class Turned(Told):
    """What the topic of switches says afterwards."""

    scope: str
    outcome: str
    reason: str
    changed: bool


class Stopped(Told):
    """An effect that a closed kill switch holds back."""

    scope: str
    tenant: str
    agent: str
    card: str


class StoppedList(Told):
    """What closed switches hold back."""

    stopped: list[Stopped]


class SpendAsked(Asked):
    """Which days (UTC), both included; the last 30 where none is given."""

    since: Day | None = None
    until: Day | None = None
    agent: Name = ""


class SpendRow(Told):
    """A day's calls of one tool."""

    tenant: str
    day: date
    profile: str
    capability: str
    calls: int
    cost_usd: Money


class Spend(Told):
    """What calls cost."""

    total_usd: Money
    rows: list[SpendRow]
