"""The cells of the law's table for an agent's stream: the record that counts, and for each number, hash and guard the wrong one.

Read `COUNTS` and `WRONG` beside `docs/law.md`; what is the same for every row (late, of an unknown campaign ...) is generated from
the fields that the record has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from chimera.events import records as rec
from chimera.events.law import COMMAND, TABLE
from chimera.events.state import MAX_HEARD
from tests import situations as was
from tests.histories import INLINE, START, Log, row
from tests.makes import (
    ALLOWANCE,
    BRIEF,
    MILLION,
    POLICY,
    START_CAMPAIGN,
    TOLD,
    Make,
    approve,
    at,
    claim,
    command,
    copy_of,
    edit,
    end,
    funds,
    hold,
    next_number,
    plain,
    plan,
    reject,
    signal,
    vote,
    withdraw,
    work,
)
from tests.situations import log_of


class Counts(NamedTuple):
    """A record that counts (or is rejected): where, and what it does."""

    given: Callable[[], Log]
    when: Make
    changes: str
    """'what:status' of every change, in order."""
    version: int = 0
    """By how much the version rises."""
    reason: str = ""
    """Of a rejection."""
    actor: str = "svc"
    after: int = 1


LEASE_AND_GRACE = 200 + INLINE.grace_ms

COUNTS: dict[str, list[Counts]] = {
    "AgentEnrolled": [Counts(was.nobody, command(rec.AgentEnrolled, name="ava"), "agent:enrolled", 1)],
    "SoulAdopted": [
        Counts(was.enrolled, command(rec.SoulAdopted, digest="d", soul="s"), "soul:adopted", 1),
        Counts(was.enrolled, copy_of(rec.SoulAdopted, digest="d", soul="s"), "soul:adopted", 1),
    ],
    "PolicyAdopted": [
        Counts(was.enrolled, command(rec.PolicyAdopted, edition=1, **POLICY), "policy:adopted"),
        Counts(was.enrolled, copy_of(rec.PolicyAdopted, edition=7, **POLICY), "policy:adopted"),
        Counts(was.planned, command(rec.PolicyAdopted, edition=2, stales=True, **POLICY), "policy:adopted", 1),
        Counts(was.approved, command(rec.PolicyAdopted, edition=2, **POLICY), "effect:proposed policy:adopted"),
        Counts(was.people, command(rec.PolicyAdopted, edition=2, **POLICY), "effect:proposed policy:adopted"),
        Counts(was.claimed, command(rec.PolicyAdopted, edition=2, **POLICY), "policy:adopted"),
    ],
    "AccountLinked": [
        Counts(was.enrolled, command(rec.AccountLinked, platform="x", account="@ava"), "account:linked", 1),
        Counts(was.planned, command(rec.AccountLinked, platform="x", account="@ava", secret_ref="env:X"), "account:linked", 1),
        Counts(was.planned, command(rec.AccountLinked, platform="x", account="@ava"), ""),
    ],
    "ToolChanged": [Counts(was.planned, command(rec.ToolChanged, platform="x", tool="x.createPosts"), "account:tool_changed", 1)],
    "AccountUnlinked": [Counts(was.planned, command(rec.AccountUnlinked, platform="x"), "account:unlinked", 1)],
    "AgentStatusSet": [
        Counts(was.planned, command(rec.AgentStatusSet, status="paused"), "agent:paused"),
        Counts(was.paused, command(rec.AgentStatusSet, status="active"), "agent:active"),
        Counts(was.quarantined, command(rec.AgentStatusSet, status="released"), "agent:released"),
        Counts(
            was.open,
            command(rec.AgentStatusSet, status="retired"),
            "agent:retired campaign:cancelled task:closed task:closed task:closed task:closed task:closed campaign:closed",
        ),
    ],
    "AllowanceSet": [Counts(was.enrolled, command(rec.AllowanceSet, **ALLOWANCE), "allowance:set")],
    "CampaignStarted": [Counts(was.planned, command(rec.CampaignStarted, **START_CAMPAIGN), "campaign:running")],
    "BriefChanged": [
        Counts(was.open, command(rec.BriefChanged, edition=2, **BRIEF), "brief:changed", 1),
        Counts(was.closed, copy_of(rec.BriefChanged, **TOLD), "", reason="unknown"),
        Counts(was.open, copy_of(rec.BriefChanged, **TOLD), "brief:changed", 1),
    ],
    "CampaignStatusSet": [
        Counts(was.planned, command(rec.CampaignStatusSet, campaign=1, status="paused"), "campaign:paused"),
        Counts(was.approved_paused, command(rec.CampaignStatusSet, campaign=1, status="running"), "campaign:running"),
        Counts(was.planned, copy_of(rec.CampaignStatusSet, campaign_id="c-1", status="paused"), "campaign:paused"),
        Counts(was.planned, copy_of(rec.CampaignStatusSet, campaign_id="c-2", status="paused"), "", reason="unknown"),
        Counts(
            was.people,
            command(rec.CampaignStatusSet, campaign=1, status="cancelled"),
            "campaign:cancelled effect:closed task:closed task:closed task:closed task:closed task:closed campaign:closed",
        ),
        Counts(
            was.claimed,
            command(rec.CampaignStatusSet, campaign=1, status="cancelled"),
            "campaign:cancelled task:closed task:closed task:closed task:closed",
        ),
    ],
    "PlanDrafted": [
        Counts(
            was.open,
            plan(row(6), row(7, depends_on=[1, 6])),
            "task:dropped task:dropped task:dropped task:dropped task:planned task:planned plan:adopted",
        ),
        Counts(was.open, plan(row(7)), "plan:rejected", reason="bad_value"),
        Counts(was.open, plan(row(6, depends_on=[6])), "plan:rejected", reason="bad_value"),
        Counts(was.open, plan(row(6, depends_on=[7]), row(7)), "plan:rejected", reason="bad_value"),
        Counts(was.open, plan(row(6, depends_on=[2])), "plan:rejected", reason="bad_value"),
        Counts(was.open, plan(row(6, depends_on=[99])), "plan:rejected", reason="bad_value"),
        Counts(was.task_closed, plan(row(6, depends_on=[1])), "plan:rejected", reason="bad_value"),
        Counts(was.open, plan(row(6, max_cost_usd=Decimal(-1))), "plan:rejected", reason="bad_value"),
        Counts(was.open, plan(row(6, max_cost_usd=Decimal("10.01"))), "plan:rejected", reason="bad_value"),
        Counts(was.no_policy, plan(row(2, max_cost_usd=Decimal("0.01"))), "plan:rejected", reason="bad_value"),
        Counts(was.open, plan(row(6, not_before=-1)), "plan:rejected", reason="bad_value"),
        Counts(was.open, plan(*(row(6 + i) for i in range(501))), "plan:rejected", reason="bad_value"),
        Counts(was.heard, plan(row(6), row(7, depends_on=[5, 6]), answers=1), "task:planned task:planned plan:adopted"),
        Counts(was.heard, plan(answers=1), "plan:adopted"),
        Counts(was.heard, plan(row(9), answers=1), "plan:rejected", reason="bad_value"),
        Counts(was.answering, plan(round=3), "task:dropped task:dropped task:dropped task:dropped plan:adopted"),
    ],
    "TaskPlanned": [
        Counts(was.planned, at(rec.TaskPlanned), "task:open"),
        Counts(was.stale, at(rec.TaskPlanned, attempt=2), "task:planned task:open"),
        Counts(was.paused, at(rec.TaskPlanned), "", reason="paused"),
        Counts(was.quarantined, at(rec.TaskPlanned), "", reason="paused"),
        Counts(was.no_policy, at(rec.TaskPlanned), "", reason="no_policy"),
        Counts(was.planned, at(rec.TaskPlanned, ordinal=4), "", reason="too_early"),
        Counts(was.planned, at(rec.TaskPlanned, ordinal=4), "task:open", after=MILLION),
        Counts(was.poor, at(rec.TaskPlanned, ordinal=3), "", reason="no_allowance"),
    ],
    "WorkStarted": [Counts(was.costly, at(rec.WorkStarted, ordinal=3, lease_ms=100), "task:started")],
    "ArtifactProduced": [
        Counts(was.open, work(), "task:produced"),
        Counts(was.open, work({}), "task:produced effect:proposed"),
        Counts(was.open, work({"cost": Decimal(2)}), "task:produced effect:proposed funds:asked"),
        Counts(was.started, work(ordinal=3, cost=Decimal(1)), "task:produced"),
        Counts(was.stale, work(), "task:produced"),
        Counts(was.open, work(confidence=None), "task:planned", reason="bad_value"),
        Counts(was.open, work(confidence=float("nan")), "task:planned", reason="bad_value"),
        Counts(was.open, work(confidence=1.5), "task:planned", reason="bad_value"),
        Counts(was.open, work(cost=Decimal(-1)), "task:planned", reason="bad_value"),
        Counts(was.open, work(cost=Decimal(10**9) + 1), "task:planned", reason="bad_value"),
        Counts(was.open, work({"agent": "agent/other"}), "task:planned", reason="bad_value"),
        Counts(was.open, work({"account": "@other"}), "task:planned", reason="bad_value"),
        Counts(was.open, work({"platform": "mastodon"}), "task:planned", reason="bad_value"),
        Counts(was.open, work({"input_version": 2}), "task:planned", reason="bad_value"),
        Counts(was.open, work({"cost": Decimal(-2)}), "task:planned", reason="bad_value"),
        Counts(was.open, work({"simhash": "zz"}), "task:planned", reason="bad_value"),
        Counts(was.open, work({"effect_class": "financial", "cost": Decimal(1)}, taint="open"), "task:planned", reason="bad_value"),
    ],
    "WorkFailed": [
        Counts(was.open, at(rec.WorkFailed, reason="model down"), "task:planned"),
        Counts(was.open, at(rec.WorkFailed, reason="rate limit", not_before=START + MILLION), "task:planned"),
        Counts(was.started, at(rec.WorkFailed, ordinal=3, reason="lost", lost=True), "task:planned", after=100),
        Counts(was.started, at(rec.WorkFailed, ordinal=3, reason="lost", lost=True, needless=True), "task:planned", after=100),
        Counts(was.open, at(rec.WorkFailed, reason="not wanted", needless=True), "task:closed task:closed"),
    ],
    "SignalObserved": [
        Counts(was.open, signal(1), "signal:observed", 1),
        Counts(was.all_heard, signal(MAX_HEARD + 1), "", reason="backlog"),
    ],
    "JudgeVerdict": [
        Counts(was.draft, vote(), "commit:committed task:done", 1),
        Counts(was.draft, vote(confidence=0.7), "commit:committed task:done", 1),
        Counts(was.draft, vote(confidence=0.69), "task:planned"),
        Counts(was.draft, vote(confidence=None), "task:planned", reason="bad_value"),
        Counts(was.draft, vote(confidence=None, decision="people"), "commit:committed task:done", 1),
        Counts(was.draft, vote(decision="fail"), "task:planned"),
        Counts(was.proposed, vote(), "commit:committed effect:approved", 1),
        Counts(was.proposed, vote(confidence=0.8), "effect:people"),
        Counts(was.proposed, vote(confidence=0.6), "effect:rejected task:planned"),
        Counts(was.proposed, vote(decision="fail"), "effect:rejected task:planned"),
        Counts(was.proposed, vote(failed_rules=["no links"]), "effect:rejected task:planned"),
        Counts(was.proposed, vote(tags=["politics"]), "effect:people"),
        Counts(was.proposed, vote(decision="people"), "effect:people"),
        Counts(was.proposed, vote(decision="people", confidence=None), "effect:people"),
        Counts(was.proposed, vote(confidence=None), "effect:people", reason="bad_value"),
        Counts(was.proposed, vote(confidence=float("nan")), "effect:people", reason="bad_value"),
        Counts(was.paid, vote(), ""),
        Counts(was.paid, vote(judge="cfo"), ""),
        Counts(was.paid, vote(judge="cfo", decision="fail"), "effect:rejected funds:settled task:planned"),
    ],
    "HumanApproved": [
        Counts(was.people, approve(), "commit:committed effect:approved", 1, actor="ann"),
        Counts(was.people_for_money, approve(), "", actor="ann"),
    ],
    "HumanRejected": [Counts(was.people, reject(), "effect:rejected task:closed task:closed", actor="ann")],
    "CardHoldSet": [
        Counts(was.people, hold(), "hold:held", actor="kim"),
        Counts(was.held, hold(until=START), "hold:held", actor="ann"),
        Counts(was.held, hold(held=False), "hold:released", actor="ann"),
    ],
    "HumanEdited": [Counts(was.people, edit(), "effect:proposed", actor="ann")],
    "FundsAnswered": [
        Counts(was.paid, funds("held"), "funds:held"),
        Counts(was.paid, funds("over_budget"), "funds:over_budget"),
        Counts(was.funds("over_budget"), funds("held", 2), "funds:held"),
        Counts(was.paid, funds("payee"), "funds:payee effect:closed funds:settled task:closed task:closed"),
        Counts(was.paid, funds("held", attempt=2), "", reason="closed"),
        Counts(was.funds("held"), funds("held", 2), "", reason="closed"),
        Counts(was.proposed, funds("held"), "", reason="closed"),
        Counts(was.closed, funds("held"), "", reason="closed"),
    ],
    "EffectWithdrawn": [Counts(was.approved, withdraw(), "effect:withdrawn task:closed task:closed")],
    "EffectClaimed": [
        Counts(was.approved, claim(), "effect:claimed", after=INLINE.undo_ms),
        Counts(was.approved, claim(), "", reason="too_early", after=INLINE.undo_ms - 1),
        Counts(was.approved_paused, claim(), "", reason="paused"),
        Counts(was.crowded(2), claim(ordinal=2), "effect:claimed"),
        Counts(was.crowded(1), claim(ordinal=2), "", reason="too_frequent"),
        Counts(was.crowded(1), claim(ordinal=2), "effect:claimed", after=5_000),
        Counts(was.crowded_by_a_deferral, claim(ordinal=2), "effect:claimed"),
        Counts(was.deferred_until, claim(claim=2), "", reason="too_early", after=MILLION - 1),
        Counts(was.deferred_until, claim(claim=2), "effect:claimed", after=MILLION),
        Counts(was.twins, claim(ordinal=2), "effect:rejected task:planned", reason="too_similar"),
        Counts(was.deferred, claim(claim=2), "effect:claimed"),
    ],
    "EffectSubmitted": [
        Counts(was.claimed, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=9), "effect:submitted")
    ],
    "EffectDeferred": [
        Counts(
            was.claimed,
            at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason="switch"),
            "effect:deferred effect:approved",
        ),
        Counts(
            was.unknown,
            at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason="found"),
            "effect:deferred effect:approved",
        ),
        Counts(
            was.cancelled,
            at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason="switch"),
            "effect:deferred effect:closed task:closed campaign:closed",
        ),
    ],
    "EffectUnknown": [
        Counts(was.claimed, at(rec.EffectUnknown, claim=1, token="t1", reason="timeout"), "effect:unknown"),
        Counts(was.submitted, at(rec.EffectUnknown, claim=1, token="t1", reason="timeout"), "effect:unknown"),
        Counts(was.claimed, at(rec.EffectUnknown, claim=1, reason="lease over"), "effect:unknown", after=200),
    ],
    "EffectEnded": [
        Counts(was.claimed, end("executed", token="t1"), "effect:executed task:done"),
        Counts(was.submitted, end("executed", token="t1"), "effect:executed task:done"),
        Counts(was.unknown, end("executed", token="t1"), "effect:executed task:done"),
        Counts(was.unknown, end("executed", proof={}), "effect:executed task:done"),
        Counts(was.deferred, end("executed", token="t1"), "effect:executed task:done"),
        Counts(was.reclaimed, end("executed", token="t1"), "effect:executed task:done"),
        Counts(was.claimed, end("refused", token="t1"), "effect:refused task:planned"),
        Counts(was.unknown, end("refused", proof={}), "effect:refused task:planned"),
        Counts(was.unknown, end("not_executed", proof={}), "effect:not_executed effect:approved", after=LEASE_AND_GRACE),
        Counts(was.cancelled, end("executed", token="t1"), "effect:executed task:done campaign:closed"),
        Counts(was.cancelled, end("refused", token="t1"), "effect:refused task:closed campaign:closed"),
        Counts(
            was.unknown,
            lambda log: end("executed", proof={}, command_no=next_number(log))(log),
            "effect:executed task:done",
            actor="kim",
        ),
    ],
    "Expired": [
        Counts(was.people, at(rec.Expired, what="card"), "effect:expired task:closed task:closed", after=INLINE.expiry_ms),
        Counts(was.approved, at(rec.Expired, what="approval"), "effect:expired task:closed task:closed", after=INLINE.lapse_ms),
    ],
    "CopiesDelivered": [Counts(was.owing, plain(rec.CopiesDelivered, target="tenant/acme", upto=1), "")],
    "CampaignCompleted": [
        Counts(was.all_done, plain(rec.CampaignCompleted, campaign=1), "campaign:completed"),
        Counts(was.listening, plain(rec.CampaignCompleted, campaign=1), "campaign:completed", after=MILLION),
    ],
}
"""What counts, and what it does (law: the agent's stream)."""


class Wrong(NamedTuple):
    """A record that is void, and why."""

    given: Callable[[], Log]
    when: Make
    reason: str
    actor: str = "svc"
    after: int = 1


WRONG: dict[str, list[Wrong]] = {
    "PolicyAdopted": [Wrong(was.planned, command(rec.PolicyAdopted, edition=1, **POLICY), "duplicate")],
    "ToolChanged": [Wrong(was.enrolled, command(rec.ToolChanged, platform="x", tool="x.createPosts"), "unknown")],
    "AccountUnlinked": [Wrong(was.enrolled, command(rec.AccountUnlinked, platform="x"), "unknown")],
    "AgentStatusSet": [
        Wrong(was.planned, command(rec.AgentStatusSet, status="active"), "conflict"),
        Wrong(was.planned, command(rec.AgentStatusSet, status="released"), "conflict"),
        Wrong(was.retired, command(rec.AgentStatusSet, status="active"), "conflict"),
    ],
    "AllowanceSet": [Wrong(was.enrolled, command(rec.AllowanceSet, limit_usd=Decimal(-1), window_ms=1), "bad_value")],
    "CampaignStarted": [Wrong(was.retired, command(rec.CampaignStarted, **START_CAMPAIGN), "closed")],
    "BriefChanged": [
        Wrong(was.planned, command(rec.BriefChanged, edition=1, **BRIEF), "duplicate"),
        Wrong(was.planned, command(rec.BriefChanged, edition=3, **BRIEF), "conflict"),
        Wrong(was.cancelled, command(rec.BriefChanged, edition=2, **BRIEF), "closed"),
    ],
    "CampaignStatusSet": [
        Wrong(was.planned, command(rec.CampaignStatusSet, campaign=1, status="running"), "conflict"),
        Wrong(was.cancelled, command(rec.CampaignStatusSet, campaign=1, status="running"), "closed"),
    ],
    "PlanDrafted": [
        Wrong(was.planned, plan(row(6), round=1), "duplicate"),
        Wrong(was.planned, plan(row(6), round=3), "conflict"),
        Wrong(was.stale, plan(row(6)), "edition"),
        Wrong(was.cancelled, plan(row(6)), "closed"),
        Wrong(was.heard, plan(row(6), answers=2), "conflict"),
    ],
    "TaskPlanned": [
        Wrong(was.open, at(rec.TaskPlanned, attempt=1), "duplicate"),
        Wrong(was.planned, at(rec.TaskPlanned, attempt=2), "conflict"),
        Wrong(was.open, at(rec.TaskPlanned, attempt=2), "conflict"),
        Wrong(was.planned, at(rec.TaskPlanned, ordinal=2), "dependency"),
        Wrong(was.full, at(rec.TaskPlanned, campaign=2), "too_many_open"),
    ],
    "WorkStarted": [
        Wrong(was.started, at(rec.WorkStarted, ordinal=3, lease_ms=100), "duplicate"),
        Wrong(was.open, at(rec.WorkStarted, lease_ms=0), "bad_value"),
        Wrong(was.draft, at(rec.WorkStarted, lease_ms=1), "duplicate"),
    ],
    "ArtifactProduced": [
        Wrong(was.draft, work(), "duplicate"),
        Wrong(was.open, work(input_version=2), "conflict"),
        Wrong(was.costly, work(ordinal=3), "not_started"),
    ],
    "WorkFailed": [
        Wrong(was.draft, at(rec.WorkFailed, reason="late"), "duplicate"),
        Wrong(was.started, at(rec.WorkFailed, ordinal=3, reason="lost", lost=True), "too_early", after=98),
        Wrong(was.open, at(rec.WorkFailed, reason="lost", lost=True), "too_early", after=MILLION),
    ],
    "SignalObserved": [Wrong(was.open, signal(0), "duplicate"), Wrong(was.open, signal(2), "conflict")],
    "JudgeVerdict": [
        Wrong(was.approved, vote(), "duplicate"),
        Wrong(was.proposed, vote(judge="cfo"), "conflict"),
        Wrong(was.proposed, vote(policy_edition=2), "edition"),
        Wrong(was.proposed, vote(edit=1), "conflict"),
        Wrong(was.proposed, vote(input_state_version=2), "conflict"),
        Wrong(was.proposed, vote(artifact_hash="other"), "wrong_hash"),
        Wrong(was.proposed, vote(effect_hash="other"), "wrong_hash"),
        Wrong(was.proposed, vote(effect_hash=None), "wrong_hash"),
        Wrong(was.proposed, vote(commit_hash="other"), "wrong_hash"),
        Wrong(was.open, lambda log: vote()(log_of(was.proposed)), "conflict"),
    ],
    "HumanApproved": [
        Wrong(was.proposed, approve(), "conflict", actor="ann"),
        Wrong(was.people, approve(), "not_entitled", actor="dee"),
        Wrong(was.people, approve(), "not_entitled", actor="eve"),
        Wrong(was.people, approve(), "not_entitled", actor="stranger"),
        Wrong(was.people, approve(policy_edition=2), "edition", actor="ann"),
        Wrong(was.people, approve(effect_hash="other"), "wrong_hash", actor="ann"),
        Wrong(was.people, approve(not_after=START), "too_late", actor="ann"),
        Wrong(was.open, lambda log: approve()(log_of(was.people)), "conflict", actor="ann"),
    ],
    "HumanRejected": [
        Wrong(was.proposed, reject(), "conflict", actor="ann"),
        Wrong(was.people, reject(effect_hash="other"), "wrong_hash", actor="ann"),
        Wrong(was.people, reject(edit=1), "wrong_hash", actor="ann"),
        Wrong(was.people, reject(not_after=START), "too_late", actor="ann"),
        Wrong(was.open, lambda log: reject()(log_of(was.people)), "conflict", actor="ann"),
    ],
    "CardHoldSet": [
        Wrong(was.proposed, hold(), "conflict", actor="ann"),
        Wrong(was.people, hold(effect_hash="other"), "wrong_hash", actor="ann"),
        Wrong(was.people, hold(edit=1), "wrong_hash", actor="ann"),
        Wrong(was.people, hold(held=False), "conflict", actor="ann"),
        Wrong(was.people, hold(), "not_entitled", actor="service/ci"),
        Wrong(was.approved, hold(), "conflict", actor="ann"),
        Wrong(was.open, lambda log: hold(command_no=next_number(log))(log_of(was.people)), "conflict", actor="ann"),
    ],
    "HumanEdited": [
        Wrong(was.proposed, edit(), "conflict", actor="ann"),
        Wrong(was.people, edit(edit=2), "conflict", actor="ann"),
        Wrong(was.people, edit(edit=0), "duplicate", actor="ann"),
        Wrong(was.people, edit(old_effect_hash="other"), "wrong_hash", actor="ann"),
        Wrong(was.people, edit(policy_edition=2), "edition", actor="ann"),
        Wrong(was.people, edit(), "not_entitled", actor="dee"),
        Wrong(was.people, edit(effect={"cost": Decimal(3)}), "conflict", actor="ann"),
        Wrong(was.people, edit(effect={"account": "@other"}), "conflict", actor="ann"),
        Wrong(was.people, edit(effect={"thread": "t"}), "conflict", actor="ann"),
        Wrong(was.people, edit(not_after=START), "too_late", actor="ann"),
        Wrong(was.open, lambda log: edit()(log_of(was.people)), "conflict", actor="ann"),
    ],
    "EffectWithdrawn": [
        Wrong(was.proposed, withdraw(), "conflict"),
        Wrong(was.claimed, withdraw(), "conflict"),
        Wrong(was.approved, withdraw(effect_hash="other"), "wrong_hash"),
        Wrong(was.draft, lambda log: withdraw(command_no=next_number(log))(log_of(was.approved)), "conflict"),
    ],
    "EffectClaimed": [
        Wrong(was.proposed, claim(), "conflict"),
        Wrong(was.claimed, claim(), "duplicate"),
        Wrong(was.claimed, claim(claim=2), "conflict"),
        Wrong(was.approved, claim(claim=2), "conflict"),
        Wrong(was.approved, claim(effect_hash="other"), "wrong_hash"),
        Wrong(was.approved, claim(lease_ms=0), "bad_value"),
        Wrong(was.draft, lambda log: claim()(log_of(was.approved)), "conflict"),
    ],
    "EffectSubmitted": [
        Wrong(was.claimed, at(rec.EffectSubmitted, claim=1, token="forged", handle="h", lease_ms=9), "wrong_token"),
        Wrong(was.submitted, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=9), "conflict"),
        Wrong(was.claimed, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=-1), "bad_value"),
        Wrong(was.reclaimed, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=9), "duplicate"),
        Wrong(was.draft, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=9), "conflict"),
    ],
    "EffectDeferred": [
        Wrong(was.claimed, at(rec.EffectDeferred, claim=1, token="forged", not_before=0, reason=""), "wrong_token"),
        Wrong(was.submitted, at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason=""), "conflict"),
        Wrong(was.deferred, at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason=""), "duplicate"),
        Wrong(was.draft, at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason=""), "conflict"),
    ],
    "EffectUnknown": [
        Wrong(was.claimed, at(rec.EffectUnknown, claim=1, reason=""), "too_early", after=199),
        Wrong(was.claimed, at(rec.EffectUnknown, claim=1, token="forged", reason=""), "wrong_token"),
        Wrong(was.unknown, at(rec.EffectUnknown, claim=1, token="t1", reason=""), "duplicate"),
        Wrong(was.deferred, at(rec.EffectUnknown, claim=1, token="t1", reason=""), "duplicate"),
        Wrong(was.draft, at(rec.EffectUnknown, claim=1, reason=""), "conflict"),
    ],
    "EffectEnded": [
        Wrong(was.claimed, end("executed", token="forged"), "wrong_token"),
        Wrong(was.claimed, end("executed"), "no_proof"),
        Wrong(was.claimed, end("executed", proof={}), "conflict"),
        Wrong(was.reclaimed, end("refused", token="t1"), "duplicate"),
        Wrong(was.reclaimed, end("executed", claim=2, token="t1"), "wrong_token"),
        Wrong(was.claimed, end("not_executed", proof={}), "conflict", after=LEASE_AND_GRACE),
        Wrong(was.unknown, end("not_executed", token="t1"), "wrong_token", after=LEASE_AND_GRACE),
        Wrong(was.unknown, end("not_executed", proof={}), "too_early", after=1),
        Wrong(was.draft, end("executed", token="t1"), "conflict"),
    ],
    "Expired": [
        Wrong(was.people, at(rec.Expired, what="card"), "too_early", after=INLINE.expiry_ms - 1),
        Wrong(was.approved, at(rec.Expired, what="approval"), "too_early", after=INLINE.lapse_ms - 1),
        Wrong(was.people, at(rec.Expired, what="approval"), "conflict", after=MILLION),
        Wrong(was.claimed, at(rec.Expired, what="approval"), "conflict", after=MILLION),
        Wrong(was.draft, at(rec.Expired, what="card"), "conflict"),
    ],
    "CopiesDelivered": [
        Wrong(was.owing, plain(rec.CopiesDelivered, target="tenant/acme", upto=2), "conflict"),
        Wrong(was.owing, plain(rec.CopiesDelivered, target="tenant/acme", upto=0), "duplicate"),
        Wrong(was.owing, plain(rec.CopiesDelivered, target="tenant/other", upto=1), "conflict"),
    ],
    "CampaignCompleted": [
        Wrong(was.open, plain(rec.CampaignCompleted, campaign=1), "conflict"),
        Wrong(was.stale, plain(rec.CampaignCompleted, campaign=1), "conflict"),
        Wrong(was.listening, plain(rec.CampaignCompleted, campaign=1), "too_early"),
    ],
}
"""What is void in its own way, by row."""


def generated() -> Iterator[tuple[str, str, Wrong]]:
    """What is void in the same way in every row that has such a number: (row, name of the cell, cell)."""
    for name, cells in COUNTS.items():
        where, when, actor, after = cells[0].given, cells[0].when, cells[0].actor, cells[0].after
        fields = model_of(name).model_fields

        def off(when: Make = when, **update: Any) -> Make:
            return lambda log: when(log).model_copy(update=update)

        def shifted(field: str, by: int, when: Make = when) -> Make:
            return lambda log: (d := when(log)).model_copy(update={field: getattr(d, field) + by})

        if TABLE[name].numbered == COMMAND:
            yield name, "command number too low", Wrong(where, shifted("command_no", -1), "duplicate", actor, after)
            yield name, "command number too high", Wrong(where, shifted("command_no", 1), "conflict", actor, after)
            yield name, "appended too late", Wrong(where, off(not_after=START), "too_late", actor, after)
        if TABLE[name].numbered == COMMAND or name == "FundsAnswered":
            for number, reason in ((0, "duplicate"), (2, "conflict")):
                no_copies = "courier" not in TABLE[name].who
                update: dict[str, Any] = {
                    "copied": rec.Copied(source="tenant/acme", number=number),
                    **({"command_no": 0} if "command_no" in fields else {}),
                }
                made = Wrong(where, off(**update), "forged" if no_copies else reason, actor, after)
                yield name, f"copy number {number}", made
        if "campaign" in fields and name != "FundsAnswered":
            yield name, "unknown campaign", Wrong(where, off(campaign=99), "unknown", actor, after)
            yield name, "campaign 0", Wrong(where, off(campaign=0), "unknown", actor, after)
        if "ordinal" in fields and name != "FundsAnswered":
            yield name, "unknown task", Wrong(where, off(ordinal=99), "unknown", actor, after)
            if name != "TaskPlanned":
                lower = "duplicate" if name in ("WorkStarted", "ArtifactProduced", "WorkFailed") else "closed"
                yield name, "earlier attempt", Wrong(where, off(attempt=0), lower, actor, after)
                yield name, "later attempt", Wrong(where, off(attempt=9), "conflict", actor, after)


def model_of(name: str) -> type[rec.Data]:
    return next(model for model in rec.ALL if name == model.TYPE)
