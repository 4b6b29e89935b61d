"""The effect path as the executor sees it: what only a gate process can do, the exact call, and how a call ended as a record.

The rule not to break: a call is rendered from the proposal that was hashed and approved, and from nothing else; a timeout after
sending is unknown, never failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from chimera import failpoints
from chimera.events.envelope import Record
from chimera.events.records import AssetFacts, EffectDeferred, EffectEnded, EffectProposal, EffectSubmitted, EffectUnknown
from chimera.events.state import Ref
from chimera.mcp.profiles import Rendered
from chimera.mcp.records import Outcome
from chimera.mcp.spec import CapabilitySpec
from chimera.media.facts import Facts
from chimera.media.store import Asset
from chimera.processors.jobs import Job

FIRST_DEFER_MS = 1_000
LONGEST_DEFER_MS = 300_000
LONGEST_SWITCH_DEFER_MS = 2_000
SUBMITTED_LEASE_MS = 900_000
"""How long a job on the platform may take before its end counts as unknown."""
LONGEST_HANDLE = 256
"""The state keeps no longer handle."""


class Sender(Protocol):
    """What the executor has beyond other roles' tools: the gate for effects, and a shield while a call is out."""

    async def send(self, job: Job, call: Rendered, account: str, idempotency_key: str) -> Outcome:
        """Make the call, once."""

    def shield(self, job: Job) -> None:
        """From here on this job ends whoever owns the partition."""

    async def read_back(self, ref: Ref) -> Record:
        """The record made from the bytes that Kafka holds, decoded and verified anew for this call."""

    def signed_by_role(self, record: Record) -> bool:
        """Is the record signed as the law asks of its role?"""

    async def ask(self, job: Job, effect: EffectProposal, capability: str, inputs: dict[str, Any]) -> Outcome:
        """A reading call to where the effect was sent, for its account."""

    def capability(self, effect: EffectProposal) -> CapabilitySpec | None:
        """What the profile says of the effect's capability."""

    def url_of(self, effect: EffectProposal, platform_id: str) -> str | None:
        """Where a post of this effect is to be seen."""

    async def receive(self, effect_hash: str, assets: Sequence[Asset]) -> list[Asset]:
        """Note in the media store which files an effect brought; what was noted of it first is what holds."""

    async def facts(self, asset: Asset) -> Facts | None:
        """What a file of the media store is, as far as it can be read."""

    def switch_holds(self, reason: str) -> bool:
        """Does a kill switch still stop what was deferred for this reason?"""


Said = EffectEnded | EffectDeferred | EffectSubmitted | EffectUnknown
"""How a call ended, as a record."""


def call_of(effect: EffectProposal, timeout_s: float) -> Rendered:
    """The exact call that was hashed and approved, and how long it may take."""
    return Rendered(
        capability=effect.capability,
        profile=effect.profile,
        mode=effect.mode,
        tool=effect.tool,
        tool_schema_sha256=effect.schema_sha256,
        arguments=effect.arguments,
        effect_class=effect.effect_class,
        tool_class=effect.tool_class,
        timeout_s=timeout_s,
        cost_usd=effect.max_cost_usd,
    )


def said(held: dict[str, Any], outcome: Outcome, now: int, claims: int) -> Said:
    """How a call ended, as a record. A timeout after sending is unknown, never failed."""
    if outcome.result == "ok":
        return EffectEnded(
            **held,
            outcome="executed",
            platform_id=outcome.platform_id,
            url=outcome.url,
            cost_usd=outcome.cost_usd,
            reason=outcome.reason,
        )
    why = outcome.reason  # a code; the detail may hold outside words, which have no place in the log's reasons
    if outcome.result == "refused":
        return EffectEnded(**held, outcome="refused", reason=why)
    if outcome.result == "submitted" and outcome.handle is not None and len(outcome.handle) <= LONGEST_HANDLE:
        return EffectSubmitted(**held, handle=outcome.handle, lease_ms=SUBMITTED_LEASE_MS)
    if outcome.result == "not_sent" and why.startswith("switch"):
        # Held back by `due` while the switch is closed, so the wait may be short: it is tried again soon after opening.
        return EffectDeferred(**held, not_before=now + min(LONGEST_SWITCH_DEFER_MS, 250 << min(claims, 12)), reason=why)
    if outcome.result == "not_sent":
        wait = min(LONGEST_DEFER_MS, FIRST_DEFER_MS << min(claims, 12))
        return EffectDeferred(**held, not_before=now + wait, reason=why)
    return EffectUnknown(**held, reason=why or "its handle is too long to keep")


async def with_assets(sender: Sender, ended: Said, effect: EffectProposal, outcome: Outcome) -> Said:
    """The end with what it brought, once the media store says the same."""
    if not outcome.assets or not isinstance(ended, EffectEnded):
        return ended
    kept = await sender.receive(effect.effect_hash, outcome.assets)
    await failpoints.at("executor.received")
    facts = [_facts(asset, await sender.facts(asset)) for asset in kept]
    told = {"assets": [asset.name for asset in kept], "asset_facts": facts, "server_version": outcome.server_version}
    return ended.model_copy(update=told)


def _facts(asset: Asset, facts: Facts | None) -> AssetFacts:
    if facts is None:
        return AssetFacts(bytes=asset.size)
    seen = {"width": facts.width, "height": facts.height, "duration_s": facts.duration_s, "codec": facts.codec}
    return AssetFacts(bytes=asset.size, **seen)
