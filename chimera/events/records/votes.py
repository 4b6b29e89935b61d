"""Records of votes: judges, people, and the tenant's answer on funds."""

from __future__ import annotations

from typing import Any, Literal

from chimera.events.records.base import Copied, Data, Millis, Number, TaskRecord
from chimera.events.records.work import EffectProposal


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
