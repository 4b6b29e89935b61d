"""Records of the installation and of the agent itself: law, enrolment, persona, policy, accounts, status, allowance."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Literal

from pydantic import Field

from chimera.events.records.base import Command, Data, Millis, Number, Part, Share, Taint


class LawAdopted(Data):
    """Law number and public keys per role, from here on in this partition. Signed by the root key. Key: `law/<partition>`."""

    TYPE, ROLE = "LawAdopted", "root"

    edition: Number
    law: Number
    keys: dict[str, list[str]]
    """Role -> Ed25519 public keys (base64). A role that is listed must sign its records."""


class AgentEnrolled(Command):
    """A new agent. The tenant is the record's tenant header."""

    TYPE = "AgentEnrolled"

    name: str = Field(min_length=1, max_length=64)
    groups: list[str] = []


class SoulAdopted(Command):
    """The agent's persona (SOUL.md): content-addressed, kept here whole."""

    TYPE = "SoulAdopted"

    digest: str
    soul: str = Field(max_length=16_384)


class AmountTier(Part):
    """At or above `amount_usd`, `people` distinct people must approve."""

    amount_usd: Decimal
    people: Number


class Frequency(Part):
    """At most `claims` effects on one account within `window_ms`."""

    claims: Number
    window_ms: Millis


class Threshold(Part):
    """What a platform or a risk tag asks for beyond the policy's default; None: nothing of its own."""

    approve_above: Share | None = None
    people_from: Share | None = None


class Probation(Part):
    """A new agent is in shadow until, of the last `window` decisions that people made on its cards, at least `decisions` are there
    and at most `overrides_ppm` of a million edited or rejected it; above `demote_above_ppm` it is in shadow again."""

    decisions: Number
    overrides_ppm: Number
    demote_above_ppm: Number
    window: Number


class PolicyInline(Part):
    """What the fold needs of a policy, as numbers (law: PolicyAdopted). Maps are keyed by effect class unless said otherwise."""

    approve_above: Share = 0.90
    people_from: Share = 0.70
    platform_thresholds: dict[str, Threshold] = {}
    tag_thresholds: dict[str, Threshold] = {}
    """Of the default and all that apply to an effect's platform and tags, the strictest counts."""
    sensitive_tags: list[str] = []
    taint_auto: dict[str, Taint] = {"publish": "allowlisted"}
    """Worst taint that may still act without people; a class that is not named: owner only. `financial` never leaves `owner`.
    `reply` is for published answers to somebody; where it is not named they count as `publish`."""
    approvers: dict[str, list[str]] = {}
    people: dict[str, int] = {}
    """How many distinct people; default 1 (financial: 2)."""
    amount_tiers: list[AmountTier] = []
    auto_financial_usd: Decimal = Decimal(0)
    audit_sample_ppm: Number = 0
    shadow: bool = False
    """Everybody is in shadow: people see everything."""
    probation: Probation | None = None
    """Whom people have not agreed with often enough is in shadow."""
    undo_ms: Millis = 30_000
    expiry_ms: Millis = 86_400_000
    lapse_ms: Millis = 86_400_000
    frequency: dict[str, Frequency] = {}
    """Keyed by platform."""
    listen_ms: dict[str, Millis] = {}
    """Platform -> how often what is said there in public is asked for, and platform/dm -> its private messages; what is not named
    is not listened to."""
    replies_per_thread: Number = 3
    """So many answers of one agent in one thread; what comes after is heard, and answered by nobody."""
    similar_bits: Number = 3
    """SimHashes that differ in at most so many bits are too similar."""
    failures_allowed: Number = 3
    grace_ms: Millis = 5_000
    strict_kinds: list[str] = []
    """Kinds of task that read everything (`*`), whatever the plan says."""


def shared(inline: PolicyInline) -> PolicyInline:
    """An equal one that all who adopted the same numbers share: a fleet adopts a few policies, not one per agent."""
    return _shared(inline.model_dump_json())


@lru_cache(maxsize=256)
def _shared(numbers: str) -> PolicyInline:
    return PolicyInline.model_validate_json(numbers)


class PolicyAdopted(Command):
    """A policy edition (AGENTS.md), with the numbers that the fold needs inline."""

    TYPE = "PolicyAdopted"

    edition: Number
    digest: str
    editor: str
    """Who edited it last: may not approve under it (quorum: people)."""
    stales: bool = False
    inline: PolicyInline
    rules: str = Field(default="", max_length=16_384)
    """The bundle's text (front matter and prose) for judge and worker."""


class AccountLinked(Command):
    """The agent acts on `platform` as `account`; the secret is a reference, never a value."""

    TYPE = "AccountLinked"

    platform: str
    account: str
    secret_ref: str = ""


class AccountUnlinked(Command):
    """The agent has no account on `platform` any more."""

    TYPE = "AccountUnlinked"

    platform: str


class ToolChanged(Command):
    """A tool through which the agent acts on `platform` has another schema than before: what waits to be sent through it was
    rendered for what is no more, and is made anew."""

    TYPE = "ToolChanged"

    platform: str
    tool: str
    """`profile.tool`"""
    reason: str = ""


class AgentStatusSet(Command):
    """active <-> paused -> retired; `released` ends a quarantine."""

    TYPE = "AgentStatusSet"

    status: Literal["active", "paused", "retired", "released"]
    reason: str = ""


class AllowanceSet(Command):
    """Work allowance per window for metered calls."""

    TYPE = "AllowanceSet"

    limit_usd: Decimal
    window_ms: Millis = Field(gt=0)
