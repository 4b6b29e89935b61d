"""Commands about what was published, and payments."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chimera.commands.verbs.base import Wish


class PostTakedown(Wish):
    """Take down what an agent published. `post` is its platform id or address; with `platform` also one not known here."""

    verb: Literal["post.takedown"] = "post.takedown"
    agent: str
    post: str = Field(min_length=1, max_length=256)
    platform: str | None = None
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False


class PostBoost(Wish):
    """Show what an agent published to more people, for money. `tier` and `days` are priced by the profile of ads."""

    verb: Literal["post.boost"] = "post.boost"
    agent: str
    post: str = Field(min_length=1, max_length=256)
    platform: str | None = None
    tier: str = Field(min_length=1, max_length=64)
    days: int = Field(default=1, ge=1, le=366)
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False


class WalletTransfer(Wish):
    """Pay a payee of the agent's tenant from the agent's wallet; always shown to people before."""

    verb: Literal["wallet.transfer"] = "wallet.transfer"
    agent: str
    to: str = Field(min_length=1, max_length=200)
    amount: str = Field(min_length=1, max_length=60)
    asset: str = Field(min_length=1, max_length=20)
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False
