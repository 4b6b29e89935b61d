"""Records of campaigns and plans: briefs, task graphs, the opening of attempts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from chimera.events.records.base import Command, Data, Millis, Number, Part, TaskRecord


class CampaignStarted(Command):
    """A campaign begins for this agent; the fold numbers it. The brief is kept here whole; state refers to this offset."""

    TYPE = "CampaignStarted"

    campaign_id: str
    name: str
    brief: dict[str, Any]
    brief_hash: str
    listens_until: Millis = 0
    """Broker time (ms) until which it answers what people say, and so stays open; 0 = it answers nobody."""


class BriefChanged(Command):
    """The next edition of a campaign's brief."""

    TYPE, VERSION = "BriefChanged", 2

    campaign: Number = 0
    """The agent's own number and next edition of it; 0 in a copy, which names the campaign by its id."""
    edition: Number = 0
    campaign_id: str = ""
    brief: dict[str, Any]
    brief_hash: str
    listens_until: Millis = 0


class CampaignStatusSet(Command):
    """Pause, resume or cancel a campaign."""

    TYPE, VERSION = "CampaignStatusSet", 2

    campaign: Number = 0
    """The agent's own number; 0 in a copy, which names the campaign by its id."""
    campaign_id: str = ""
    status: Literal["running", "paused", "cancelled"]
    reason: str = ""


class PlanRow(Part):
    """One task of a plan. `inputs` is what the kind needs (platform, format, feed ...)."""

    ordinal: Number
    kind: str
    title: str = ""
    depends_on: list[Number] = []
    reads: list[str] = []
    max_cost_usd: Decimal = Decimal(0)
    criteria: list[dict[str, Any]] = []
    not_before: Millis = 0
    wait_ms: Millis = 0
    """It is opened at the earliest so long after the last task that it depends on was done."""
    costly: bool = False
    inputs: dict[str, Any] = {}


class PlanDrafted(Data):
    """A task DAG made from one brief edition; a new round drops what is not open, unless it answers signals: then it adds."""

    TYPE, ROLE = "PlanDrafted", "planner"

    campaign: Number
    round: Number
    brief_edition: Number
    rows: list[PlanRow]
    reason: str = ""
    """Why no plan could be made; empty where there is one (also one without rows: nothing is left to do)."""
    answers: Number = Field(default=0, ge=0)
    """So many of the heard SignalObserved records, oldest first, does this round answer."""


class TaskPlanned(TaskRecord):
    """Opens one attempt of one task of the plan."""

    TYPE, ROLE = "TaskPlanned", "planner"

    reason: str = ""


class CampaignCompleted(Data):
    """Planned up to the current brief, every task done or closed."""

    TYPE, ROLE = "CampaignCompleted", "planner"

    campaign: Number
