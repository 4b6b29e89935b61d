"""Forgetting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from chimera.commands.verbs.base import TenantName, Wish
from chimera.shapes import Shaped


class PrivacyForget(Wish):
    """Destroy the key of a person's words and name, for all agents of a tenant. `subject` is a pseudonym, never a handle."""

    verb: Literal["privacy.forget"] = "privacy.forget"
    tenant: TenantName | None = None
    subject: Annotated[str, Shaped(r"^person/[0-9a-f]{32}$", "write person/<32 hex digits>, as `chimera privacy report` tells it")]
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False
