"""Records of work: starts, artifacts with the effect they propose, failures, what outside people said."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import Field

from chimera.events.records.base import Data, Disclosure, EffectClass, Millis, Mode, Number, Part, Taint, TaskRecord, ToolClass
from chimera.events.sealed import Personal


class WorkStarted(TaskRecord):
    """Somebody works on it until the lease is over (costly kinds)."""

    TYPE, ROLE = "WorkStarted", "worker"

    lease_ms: Millis


class EffectProposal(Part):
    """One effect, with everything that its hash covers (design section 7). `effect_hash` = digest of `body()`."""

    effect_hash: str
    effect_class: EffectClass
    tool_class: ToolClass
    capability: str = ""
    """What was asked for (`social.publish` ...); the profile says which tool answers it."""
    profile: str
    mode: Mode
    tool: str
    schema_sha256: str
    arguments: dict[str, Any]
    asset_hashes: list[str] = []
    platform: str
    account: str
    thread: str | None = None
    """The thread this replies to: a commit writes `thread/<id>`."""
    not_before: Millis = 0
    max_cost_usd: Decimal = Decimal(0)
    payee: str | None = None
    disclosure: Disclosure
    agent: str
    input_state_version: Millis
    salt: str
    text_hash: str
    simhash: str
    """16 hex digits."""


class ArtifactProduced(TaskRecord):
    """The one answer to an attempt: content (inline up to 16 KB), scores, provenance, and at most one proposed effect."""

    TYPE, ROLE = "ArtifactProduced", "worker"

    input_state_version: Millis
    kind: str
    artifact_hash: str
    """Digest of `content`."""
    content: dict[str, Any]
    confidence_score: float | None
    risk_tags: list[str] = []
    disclosure_level: Disclosure = "none"
    taint: Taint
    sources: list[dict[str, Any]] = []
    provenance: dict[str, Any] = {}
    cost_usd: Decimal = Decimal(0)
    effect: EffectProposal | None = None


class WorkFailed(TaskRecord):
    """The attempt is over without an artifact: a failure; with `not_before` a wait that counts as none; `needless` a good end."""

    TYPE, ROLE = "WorkFailed", "worker"

    reason: str
    not_before: Millis | None = None
    lost: bool = False
    """Said by anyone, once the start's lease is over."""
    needless: bool = False
    """What the task was for is not wanted any more: it closes, and nobody failed."""
    cost_usd: Decimal = Decimal(0)


class Signal(Part):
    """One mention, reply or private message of an outside person."""

    thread: str
    external_id: str
    author: Personal
    """The person's name on the platform."""
    address: Personal | None = None
    """How the platform names the person, where an answer is sent to them by that and not by their name."""
    text: Personal
    observed_at: Millis
    taint: Taint = "open"


class SignalObserved(Data):
    """A non-empty poll of one source, with the platform's cursor."""

    TYPE, ROLE = "SignalObserved", "worker"

    source: str
    number: Number
    cursor: str
    items: list[Signal] = Field(min_length=1)


def effect_body(effect: EffectProposal) -> dict[str, Any]:
    """What `effect_hash` covers: every field of the proposal but the hash itself."""
    return effect.model_dump(mode="json", exclude={"effect_hash"})
