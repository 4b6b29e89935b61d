"""What people do with cards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chimera.commands.verbs.base import Part, Wish

REASON_CODES = ("off_brand", "inaccurate", "unsafe", "duplicate", "timing", "other")
"""Why a card may be rejected."""


class Shown(Part):
    """What the reviewer had before their eyes: `review.show` gave these."""

    shown_hash: str
    effect_hash: str
    edit: int = 0


class CardWish(Wish):
    """A command on one card. With `dry_run` it is decided and told, and nothing is appended."""

    card: str
    dry_run: bool = False


class Approve(CardWish):
    """The actor's vote for exactly what was shown."""

    verb: Literal["review.approve"] = "review.approve"
    shown: Shown
    comment: str = ""


class Reject(CardWish):
    """Close the card and its task. `shown` is absent only where the card was rejected already."""

    verb: Literal["review.reject"] = "review.reject"
    shown: Shown | None = None
    reason_code: str
    comment: str = ""


class Edit(CardWish):
    """Other words in place of those shown."""

    verb: Literal["review.edit"] = "review.edit"
    shown: Shown
    text: str
    comment: str = ""


class Withdraw(CardWish):
    """Undo an approval that nobody has claimed."""

    verb: Literal["review.withdraw"] = "review.withdraw"
    reason: str = ""


class Hold(CardWish):
    """Mark a card as somebody's, until `until` (ms since the epoch; 0: until released)."""

    verb: Literal["review.hold"] = "review.hold"
    reason: str = Field(min_length=1, max_length=500)
    until: int = Field(default=0, ge=0)


class Release(CardWish):
    """Take the mark off a card."""

    verb: Literal["review.release"] = "review.release"
    reason: str = Field(default="", max_length=500)


class Resolve(CardWish):
    """Say, with proof, how a call ended of which nobody knows."""

    verb: Literal["review.resolve"] = "review.resolve"
    outcome: Literal["executed", "refused", "not_executed"]
    proof: str
    platform_id: str | None = None
    url: str | None = None
