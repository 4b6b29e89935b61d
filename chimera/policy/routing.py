"""From findings and scores to a verdict's numbers: confidence, decision. Pure.

The rule not to break: the thresholds are the law's (the fold routes by numbers). Here a failed rule is `fail`, a judge that could
not finish is `people`, and so is what a rule sends there; everything else is `pass` with its confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chimera.policy.boardkit import Rules
from chimera.policy.calibration import IDENTITY, Calibration, calibrate
from chimera.policy.context import Findings
from chimera.policy.writing import reason


@dataclass(frozen=True)
class Verdict:
    """The numbers and names of a JudgeVerdict. A confidence of None is one that could not be computed: the law asks people."""

    decision: Literal["pass", "people", "fail"]
    confidence_raw: float | None
    confidence: float | None
    tags: list[str]
    failed_rules: list[str]
    reasons: list[str]


def _usable(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and 0 <= value <= 1


def confidence(worker: float | None, judge: float | None, table: Calibration = IDENTITY) -> tuple[float | None, float | None]:
    """(raw, calibrated): the lower of both opinions; (None, None) when either is missing, NaN or out of 0..1."""
    if worker is None or judge is None or not _usable(worker) or not _usable(judge):
        return None, None
    raw = min(worker, judge)
    return raw, calibrate(raw, table)


def verdict(
    findings: Findings,
    worker_confidence: float | None,
    quality_score: float | None,
    rules: Rules,
    *,
    quality_reasons: Sequence[str] = (),
    no_score: str = "",
    platform: str = "",
    tags: Sequence[str] = (),
) -> Verdict:
    """The content judge's vote, calibrated by the policy's table. `quality_score` None = there is none, because of `no_score`
    (a reason; default: the rating could not be had): people decide. `platform` and `tags`, those that others gave it already, say
    with the findings' own tags which thresholds the reasons speak of; a draft has no platform."""
    people_from = rules.borders(platform, (*tags, *findings.tags)).people_from
    raw, calibrated = confidence(worker_confidence, quality_score, rules.calibration or IDENTITY)
    reasons = list(findings.reasons)
    if quality_score is None:
        reasons.append(no_score or reason("judge_error", "", "the quality score could not be had: people decide"))
    if calibrated is not None and calibrated < people_from:
        low = reason("confidence", f"{calibrated:.2f}", f"is below {people_from:.2f}: tell it better or choose another fact")
        reasons += [low, *quality_reasons]
    elif not findings.failed:
        reasons += [*(hit.reason for hit in (*findings.asked, *findings.tagged)), *quality_reasons]
    if findings.failed:
        decision: Literal["pass", "people", "fail"] = "fail"
    elif raw is None or findings.asked:
        decision = "people"
    else:
        decision = "pass"
    return Verdict(decision, raw, calibrated, findings.tags, findings.failed_rules, reasons)


def route(given: Verdict, rules: Rules, taint_allowed: bool = True, platform: str = "") -> Literal["auto", "people", "retry"]:
    """Where the law's quorum sends this verdict by content alone: for previews, simulations and reports, never to decide."""
    approve_above, people_from = rules.borders(platform, given.tags)
    if given.decision == "fail" or (given.confidence is not None and given.confidence < people_from):
        return "retry"
    sensitive = set(given.tags) & set(rules.sensitive.values())
    if given.decision == "people" or given.confidence is None or sensitive or not taint_allowed:
        return "people"
    return "auto" if given.confidence > approve_above else "people"
