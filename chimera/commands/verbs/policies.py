"""Policies and personas: published, rolled back, looked at."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chimera.commands.verbs.base import Read, TenantName, Wish


class Publish(Wish):
    """Publish a policy or a persona to the members of a tenant (the only one where none is named): to all, to those of `group`,
    and of these to a canary share in parts per million. The text travels whole and is read by the service."""

    verb: Literal["policy.publish", "soul.publish"]
    tenant: TenantName | None = None
    text: str
    group: str = Field(default="", max_length=64)
    share_ppm: int = Field(default=1_000_000, gt=0, le=1_000_000)
    dry_run: bool = False


class Rollback(Wish):
    """Publish the text of an earlier policy edition (the one before where none is named) as a new one."""

    verb: Literal["policy.rollback"] = "policy.rollback"
    tenant: TenantName | None = None
    edition: int | None = Field(default=None, gt=0)
    dry_run: bool = False


class PolicyShow(Read):
    """One policy edition with its text: of an agent, else of a tenant (the newest where no number is given)."""

    verb: Literal["policy.show"] = "policy.show"
    tenant: TenantName | None = None
    edition: int | None = Field(default=None, gt=0)
    agent: str | None = None


class PolicyStatus(Read):
    """Which policy edition each member of a tenant has, and which one it is meant to have."""

    verb: Literal["policy.status"] = "policy.status"
    tenant: TenantName | None = None
