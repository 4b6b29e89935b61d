"""Records of acts on the outside world: claims, how they end, undo and expiry."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from chimera.events.records.base import Command, Data, Millis, Number, Part, TaskRecord


class EffectWithdrawn(Command):
    """Undo: an approved effect that nobody claimed is closed, and its task with it."""

    TYPE = "EffectWithdrawn"

    campaign: Number
    ordinal: Number
    attempt: Number
    effect_hash: str
    reason: str = ""


class CardHoldSet(Command):
    """A person marks a card that waits (or takes the mark away): others see who looks into it and why. Changes nothing else: it can
    be decided on all the same, and its expiry goes on."""

    TYPE = "CardHoldSet"

    campaign: Number
    ordinal: Number
    attempt: Number
    effect_hash: str
    edit: Number = 0
    held: bool
    until: Millis = 0
    """Broker time (ms) at which the mark ends by itself; 0 = when it is taken away."""
    reason: str = Field(default="", max_length=500)


class EffectClaimed(TaskRecord):
    """The right to call, for the one coroutine that drew the token, until the lease is over."""

    TYPE, ROLE = "EffectClaimed", "executor"

    effect_hash: str
    claim: Number
    token: str
    lease_ms: Millis


class EffectSubmitted(TaskRecord):
    """The platform took an asynchronous job; its handle is kept, the lease runs anew."""

    TYPE, ROLE = "EffectSubmitted", "executor"

    claim: Number
    token: str
    handle: str
    lease_ms: Millis


class EffectDeferred(TaskRecord):
    """Known not to have been sent: back to approved, not before T."""

    TYPE, ROLE = "EffectDeferred", "executor"

    claim: Number
    token: str
    not_before: Millis
    reason: str


class EffectUnknown(TaskRecord):
    """Sent or not, nobody knows: nobody may call until it has ended. Anyone may say so once the lease is over."""

    TYPE, ROLE = "EffectUnknown", "executor"

    claim: Number
    token: str | None = None
    reason: str


class AssetFacts(Part):
    """What one file is: bytes; pixels, seconds and codec (as FFmpeg names it, of a picture its format) as far as it can be read."""

    bytes: int = Field(ge=0)
    width: int | None = None
    height: int | None = None
    duration_s: float | None = Field(default=None, allow_inf_nan=False)
    codec: str = ""


class EffectEnded(TaskRecord):
    """How a claim ended. With a token by its holder, or with proof (look-up, idempotency rule, a person's finding)."""

    TYPE, ROLE = "EffectEnded", "executor"

    claim: Number
    outcome: Literal["executed", "refused", "not_executed"]
    token: str | None = None
    proof: dict[str, Any] | None = None
    command_no: Number = 0
    """Set where a person reports the proof (then the command service signs)."""
    not_after: Millis = 0
    platform_id: str | None = None
    url: str | None = None
    assets: list[str] = []
    """Files that it brought, by their names in the media store (`<sha256>.<extension>`)."""
    asset_facts: list[AssetFacts] = []
    """What they are, in their order; no rule reads it. Empty: nobody looked."""
    server_version: str = ""
    """Of the MCP server that handed the files over, as it tells it; no rule reads it. Empty: it tells none."""
    receipt: dict[str, str] | None = None
    """What the provider's books say of it (a chain's receipt: hash, block, gas, fee, status ...); no rule reads it."""
    cost_usd: Decimal = Decimal(0)
    reason: str = ""


class Expired(TaskRecord):
    """A card nobody decided, or an approval nobody used, in time."""

    TYPE, ROLE = "Expired", "planner"

    what: Literal["card", "approval"]


class CopiesDelivered(Data):
    """The target has taken in every copy up to this number: the source owes them no longer."""

    TYPE, ROLE = "CopiesDelivered", "courier"

    target: str
    upto: Number
