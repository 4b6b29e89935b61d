"""The language: every record type of the agent's stream, as frozen models.

This is a storage contract: type names are stored for ever and field names as well. A changed field is a new version with an
upcaster (`chimera.events.upcasters`), never an edit. What each record *does* is said in `chimera.events.law` alone.

Numbers of a record (law, rule 1): command records carry `command_no`, copies carry `copied`, the rest (campaign, ordinal,
attempt, claim). Money is a Decimal written as a string, in US dollars unless a field says otherwise. Times are milliseconds of
broker append time. Confidences may be None: that is how a NaN reads, and the law calls it a bad value.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from chimera.events.sealed import Personal

Number = Annotated[int, Field(ge=-(2**31), lt=2**31)]
"""A number of the law (campaign, ordinal, attempt, claim, edition ...): fits every store's 32-bit integer."""
Millis = Annotated[int, Field(ge=-(2**53), le=2**53)]
"""Milliseconds, as a time or a span."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Taint = Literal["owner", "allowlisted", "open"]
EffectClass = Literal["publish", "paid", "financial"]
ToolClass = Literal["read", "keyed", "reconcilable", "at_most_once"]
Disclosure = Literal["automated", "assisted", "none"]
Mode = Literal["sandbox", "dry_run", "live"]


class Part(BaseModel):
    """A nested value of a record: closed, immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(BaseModel):
    """The value of one record. `TYPE` and `VERSION` are what the headers say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    ROLE: ClassVar[str]
    """Who may write it: the role whose key signs it where the law lists one for that role."""


class Copied(Part):
    """This record is a signed copy of a fact of another stream: the `number`-th that `source` owes this one."""

    source: str
    number: Number


class Command(Data):
    """A record of the command service (or, where `copied` is set, the courier's copy of a tenant's fact)."""

    ROLE: ClassVar[str] = "command"

    command_no: Number = 0
    """The next command number of the agent; 0 for a copy."""
    not_after: Millis = 0
    """Appended later than this (ms, broker time) the command is void; 0 = no limit."""
    copied: Copied | None = None


class TaskRecord(Data):
    """A record about one attempt of one task."""

    campaign: Number
    ordinal: Number
    attempt: Number


# --- the installation ------------------------------------------------------------------------------------------------


class LawAdopted(Data):
    """Law number and public keys per role, from here on in this partition. Signed by the root key. Key: `law/<partition>`."""

    TYPE, ROLE = "LawAdopted", "root"

    edition: Number
    law: Number
    keys: dict[str, list[str]]
    """Role -> Ed25519 public keys (base64). A role that is listed must sign its records."""


# --- who the agent is ------------------------------------------------------------------------------------------------


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


class PolicyInline(Part):
    """What the fold needs of a policy, as numbers (law: PolicyAdopted). Maps are keyed by effect class unless said otherwise."""

    approve_above: Share = 0.90
    people_from: Share = 0.70
    sensitive_tags: list[str] = []
    taint_auto: dict[str, Taint] = {"publish": "allowlisted"}
    """Worst taint that may still act without people; a class that is not named: owner only. `financial` never leaves `owner`."""
    approvers: dict[str, list[str]] = {}
    people: dict[str, int] = {}
    """How many distinct people; default 1 (financial: 2)."""
    amount_tiers: list[AmountTier] = []
    auto_financial_usd: Decimal = Decimal(0)
    audit_sample_ppm: Number = 0
    shadow: bool = False
    undo_ms: Millis = 30_000
    expiry_ms: Millis = 86_400_000
    lapse_ms: Millis = 86_400_000
    frequency: dict[str, Frequency] = {}
    """Keyed by platform."""
    similar_bits: Number = 3
    """SimHashes that differ in at most so many bits are too similar."""
    failures_allowed: Number = 3
    grace_ms: Millis = 5_000
    strict_kinds: list[str] = []
    """Kinds of task that read everything (`*`), whatever the plan says."""


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


# --- campaigns and plans ---------------------------------------------------------------------------------------------


class CampaignStarted(Command):
    """A campaign begins for this agent; the fold numbers it. The brief is kept here whole; state refers to this offset."""

    TYPE = "CampaignStarted"

    campaign_id: str
    name: str
    brief: dict[str, Any]
    brief_hash: str


class BriefChanged(Command):
    """The next edition of a campaign's brief."""

    TYPE = "BriefChanged"

    campaign: Number
    edition: Number
    brief: dict[str, Any]
    brief_hash: str


class CampaignStatusSet(Command):
    """Pause, resume or cancel a campaign."""

    TYPE = "CampaignStatusSet"

    campaign: Number
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
    costly: bool = False
    inputs: dict[str, Any] = {}


class PlanDrafted(Data):
    """A task DAG made from one brief edition; a new round drops what is not open."""

    TYPE, ROLE = "PlanDrafted", "planner"

    campaign: Number
    round: Number
    brief_edition: Number
    rows: list[PlanRow]
    reason: str = ""
    """Why no plan could be made; empty where there is one (also one without rows: nothing is left to do)."""


class TaskPlanned(TaskRecord):
    """Opens one attempt of one task of the plan."""

    TYPE, ROLE = "TaskPlanned", "planner"

    reason: str = ""


class CampaignCompleted(Data):
    """Planned up to the current brief, every task done or closed."""

    TYPE, ROLE = "CampaignCompleted", "planner"

    campaign: Number


# --- work ------------------------------------------------------------------------------------------------------------


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
    """The attempt is over without an artifact: a failure, or (with `not_before`) a wait that counts as none."""

    TYPE, ROLE = "WorkFailed", "worker"

    reason: str
    not_before: Millis | None = None
    lost: bool = False
    """Said by anyone, once the start's lease is over."""
    cost_usd: Decimal = Decimal(0)


class Signal(Part):
    """One mention or reply of an outside person."""

    thread: str
    external_id: str
    author: Personal
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


# --- votes -----------------------------------------------------------------------------------------------------------


class Vote(TaskRecord):
    """What every vote names: the exact thing voted on and the commit it would complete (law: Quorum)."""

    policy_edition: Number
    input_state_version: Millis
    artifact_hash: str
    effect_hash: str | None
    edit: Number = 0
    """How often a person has edited the effect; 0 for the worker's own."""
    expected_output_version: Millis
    commit_hash: str


class JudgeVerdict(Vote):
    """A judge's vote. `confidence` is calibrated, `confidence_raw` is what was scored; None reads as a bad value."""

    TYPE, ROLE = "JudgeVerdict", "judge"

    judge: Literal["content", "cfo"]
    decision: Literal["pass", "people", "fail"]
    confidence_raw: float | None
    confidence: float | None
    tags: list[str] = []
    failed_rules: list[str] = []
    reasons: list[str] = []
    trace: dict[str, Any] = {}


class HumanApproved(Vote):
    """A person's vote; the person is the record's actor."""

    TYPE, ROLE = "HumanApproved", "command"

    shown_hash: str
    """Digest of exactly what the person was shown."""
    comment: str = ""
    not_after: Millis = 0


class HumanRejected(TaskRecord):
    """A person closes the effect and its task."""

    TYPE, ROLE = "HumanRejected", "command"

    policy_edition: Number
    effect_hash: str
    edit: Number = 0
    reason_code: Literal["off_brand", "inaccurate", "unsafe", "duplicate", "timing", "other"]
    comment: str = ""
    shown_hash: str = ""
    not_after: Millis = 0


class HumanEdited(TaskRecord):
    """A person replaces the bytes: new artifact, new effect, the editor's vote for it; judges are asked again."""

    TYPE, ROLE = "HumanEdited", "command"

    policy_edition: Number
    old_effect_hash: str
    edit: Number
    """The number of this edit: one more than the effect's."""
    artifact_hash: str
    content: dict[str, Any]
    effect: EffectProposal
    comment: str = ""
    shown_hash: str = ""
    not_after: Millis = 0


class FundsAnswered(Data):
    """The tenant's answer to asked-for funds: a copy."""

    TYPE, ROLE = "FundsAnswered", "courier"

    copied: Copied
    campaign: Number
    ordinal: Number
    attempt: Number
    answer: Literal["held", "over_budget", "payee"]
    reason: str = ""


# --- effects ---------------------------------------------------------------------------------------------------------


class EffectWithdrawn(Command):
    """Undo: an approved effect that nobody claimed is closed, and its task with it."""

    TYPE = "EffectWithdrawn"

    campaign: Number
    ordinal: Number
    attempt: Number
    effect_hash: str
    reason: str = ""


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


def effect_body(effect: EffectProposal) -> dict[str, Any]:
    """What `effect_hash` covers: every field of the proposal but the hash itself."""
    return effect.model_dump(mode="json", exclude={"effect_hash"})


ALL: tuple[type[Data], ...] = (
    LawAdopted,
    AgentEnrolled,
    SoulAdopted,
    PolicyAdopted,
    AccountLinked,
    AccountUnlinked,
    AgentStatusSet,
    AllowanceSet,
    CampaignStarted,
    BriefChanged,
    CampaignStatusSet,
    PlanDrafted,
    TaskPlanned,
    CampaignCompleted,
    WorkStarted,
    ArtifactProduced,
    WorkFailed,
    SignalObserved,
    JudgeVerdict,
    HumanApproved,
    HumanRejected,
    HumanEdited,
    FundsAnswered,
    EffectWithdrawn,
    EffectClaimed,
    EffectSubmitted,
    EffectDeferred,
    EffectUnknown,
    EffectEnded,
    Expired,
    CopiesDelivered,
)
"""Every record type of this code version, in the order of the law's table."""
