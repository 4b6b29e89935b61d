"""Commands to agents and switches."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from chimera.commands.verbs.base import Names, Part, Wish
from chimera.shapes import TenantName

MOST_AGENTS = 500
"""Agents that one `agent.enrol` may carry; more travel in several."""


class NewAgent(Part):
    """One agent of `agent.enrol`; `policy` is an index into the verb's policies."""

    name: str = Field(min_length=1, max_length=64)
    groups: tuple[str, ...] = ()
    soul: str
    policy: int = Field(ge=0)
    accounts: Mapping[str, str] = {}
    limit_usd: Decimal = Field(default=Decimal(0), ge=0)
    window_ms: int = Field(default=86_400_000, gt=0)


class Enrol(Wish):
    """Give agents what they lack; with `update` also what differs. Texts travel whole and are read by the service."""

    verb: Literal["agent.enrol"] = "agent.enrol"
    tenant: TenantName
    policies: tuple[str, ...]
    agents: Annotated[tuple[NewAgent, ...], Field(max_length=MOST_AGENTS)]
    update: bool = False
    dry_run: bool = False


class AgentStatus(Wish):
    """Pause, resume, retire or release agents by name."""

    verb: Literal["agent.pause", "agent.resume", "agent.retire", "agent.release"]
    names: Names
    reason: str = ""


class ToolStale(Wish):
    """Make what waits to be sent through a profile's tools stale where it was rendered for another schema than `pins` says.

    `pins`: tool -> SHA-256 of its schema as it is now, "" for a tool that is there no more.
    """

    verb: Literal["tool.stale"] = "tool.stale"
    profile: str = Field(min_length=1, max_length=100)
    pins: dict[str, str] = Field(min_length=1)
    reason: str = Field(default="", max_length=500)


class SwitchTurn(Wish):
    """Close or open a kill switch. Opening needs a reason. Given twice it changes nothing the second time."""

    verb: Literal["switch.close", "switch.open"]
    scope: str = Field(min_length=1, max_length=320)
    reason: str = Field(default="", max_length=500)
