"""Every cell of the law's table, walked: the record that counts, and for each number, hash, signature and guard the wrong one.

Read `COUNTS` and `WRONG` beside `docs/law.md`; what is the same for every row (unsigned, late, of a closed campaign ...) is
generated from the fields that the record has. Each record is tried twice: the second is always void and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import pytest

from chimera.events import records as rec
from chimera.events.does.campaigns import Spot, spot_of
from chimera.events.envelope import Record
from chimera.events.hashes import digest
from chimera.events.law import COMMAND, TABLE, THERE, Row, TaskRow
from chimera.events.state import MAX_HEARD, Agent
from chimera.events.state_codec import state_from_json
from tests.histories import (
    INLINE,
    KEY,
    START,
    UNREAD,
    Log,
    agent_with_policy,
    artifact,
    planned,
    proposal,
    record,
    row,
    verdict,
    vote_fields,
)
from tests.lawspec import Given, Then, given

AT = {"campaign": 1, "ordinal": 1, "attempt": 1}
MILLION = 1_000_000


# --- situations ------------------------------------------------------------------------------------------------------


def _nobody() -> Log:
    return Log()


def _enrolled() -> Log:
    log = Log()
    log.command(rec.AgentEnrolled, name="ava")
    return log


def _planned() -> Log:
    return planned(
        row(1), row(2, depends_on=[1]), row(3, costly=True, max_cost_usd=Decimal(1)), row(4, not_before=START + MILLION), row(5)
    )


def _open() -> Log:
    log = _planned()
    log.add(rec.TaskPlanned(**AT))
    return log


def _costly() -> Log:
    log = _planned()
    log.add(rec.TaskPlanned(**{**AT, "ordinal": 3}))
    return log


def _started() -> Log:
    log = _costly()
    log.add(rec.WorkStarted(**{**AT, "ordinal": 3}, lease_ms=100))
    return log


def _stale() -> Log:
    log = _open()
    log.command(rec.BriefChanged, campaign=1, edition=2, brief={}, brief_hash="b2")
    return log


def _draft() -> Log:
    log = _open()
    log.add(artifact(1, 1, 1, 3))
    return log


def _proposed(**effect: Any) -> Log:
    log = _open()
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3, **effect)))
    return log


def _paid() -> Log:
    return _proposed(effect_class="paid", cost=Decimal(2))


def _funds(answer: str) -> Callable[[], Log]:
    def build() -> Log:
        log = _paid()
        log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer=answer))
        return log

    return build


def _people() -> Log:
    log = _proposed()
    log.add(verdict(log.state, 1, 1, confidence=0.8))
    return log


def _held() -> Log:
    """A card that waits for people, and that somebody looks into."""
    log = _people()
    log.add(hold()(log), actor="kim")
    return log


def _people_for_money() -> Log:
    """A financial effect that waits for two people."""
    log = _proposed(effect_class="financial", cost=Decimal(2))
    log.add(verdict(log.state, 1, 1))
    log.add(verdict(log.state, 1, 1, judge="cfo"))
    log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    return log


def _approved() -> Log:
    log = _proposed()
    log.add(verdict(log.state, 1, 1))
    return log


def _claimed() -> Log:
    log = _approved()
    log.add(_claim(log), after=INLINE.undo_ms)
    return log


def _submitted() -> Log:
    log = _claimed()
    log.add(rec.EffectSubmitted(**AT, claim=1, token="t1", handle="h", lease_ms=200))
    return log


def _unknown() -> Log:
    log = _claimed()
    log.add(rec.EffectUnknown(**AT, claim=1, token="t1", reason="timeout"))
    return log


def _deferred() -> Log:
    log = _claimed()
    log.add(rec.EffectDeferred(**AT, claim=1, token="t1", not_before=0, reason="switch"))
    return log


def _reclaimed() -> Log:
    log = _deferred()
    log.add(_claim(log, claim=2, token="t2"))
    return log


def _cancelled() -> Log:
    """A campaign that closes, with one effect in flight."""
    log = _claimed()
    log.command(rec.CampaignStatusSet, campaign=1, status="cancelled")
    return log


def _closed() -> Log:
    log = _planned()
    log.command(rec.CampaignStatusSet, campaign=1, status="cancelled")
    return log


def _task_closed() -> Log:
    log = _people()
    log.add(_reject(log), actor="ann")
    return log


def _paused() -> Log:
    log = _planned()
    log.command(rec.AgentStatusSet, status="paused")
    return log


def _approved_paused() -> Log:
    log = _approved()
    log.command(rec.CampaignStatusSet, campaign=1, status="paused", after=INLINE.undo_ms)
    return log


def _retired() -> Log:
    log = _planned()
    log.command(rec.AgentStatusSet, status="retired")
    return log


def _quarantined() -> Log:
    log = _planned()
    log.add_record(replace(record(rec.CampaignCompleted(campaign=1), len(log.records), log.now + 1), defect="no value", data=None))
    return log


def _all_done() -> Log:
    log = planned(row(1))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3))
    log.add(verdict(log.state, 1, 1))
    return log


def _heard() -> Log:
    """One signal waits for the planner."""
    log = _open()
    log.add(signal(1)(log))
    return log


def _all_heard() -> Log:
    """As many signals wait as may wait."""
    log = _open()
    for number in range(1, MAX_HEARD + 1):
        log.add(signal(number)(log))
    return log


def _answering() -> Log:
    """Two rows answer the signal: one open, and one that is to be made from it."""
    log = _heard()
    log.add(plan(row(6), row(7, depends_on=[6]), answers=1)(log))
    log.add(rec.TaskPlanned(campaign=1, ordinal=6, attempt=1))
    return log


def _listening() -> Log:
    """All is done, and the campaign goes on listening."""
    log = agent_with_policy()
    log.command(rec.CampaignStarted, **START_CAMPAIGN, listens_until=START + MILLION)
    log.add(rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[]))
    return log


def _no_policy() -> Log:
    log = _enrolled()
    log.command(rec.CampaignStarted, campaign_id="c", name="n", brief={}, brief_hash="b")
    log.add(rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[row(1)]))
    return log


def _poor() -> Log:
    log = _planned()
    log.command(rec.AllowanceSet, limit_usd=Decimal("0.5"), window_ms=MILLION)
    return log


def _full() -> Log:
    log = agent_with_policy()
    log.command(rec.CampaignStarted, campaign_id="c", name="n", brief={}, brief_hash="b")
    log.command(rec.CampaignStarted, campaign_id="d", name="n", brief={}, brief_hash="b")
    for campaign, count in ((1, 500), (2, 1)):
        log.add(rec.PlanDrafted(campaign=campaign, round=1, brief_edition=1, rows=[row(i + 1) for i in range(count)]))
    for i in range(500):
        log.states[-1]["campaigns"][1]["tasks"][i + 1]["status"] = "open"  # type: ignore[index]  # only the real fold counts here
        log.records.append(record(rec.TaskPlanned(campaign=1, ordinal=i + 1, attempt=1), len(log.records), log.now + 1))
    return log


def _crowded(claims: int) -> Callable[[], Log]:
    """One claim on the account has been made; a second effect is approved."""

    def build() -> Log:
        log = planned(
            row(1), row(2), inline=INLINE.model_copy(update={"frequency": {"x": rec.Frequency(claims=claims, window_ms=5_000)}})
        )
        for ordinal, text in ((1, "one thing about tea"), (2, "quite another matter altogether")):
            log.add(rec.TaskPlanned(campaign=1, ordinal=ordinal, attempt=1))
            log.add(artifact(1, ordinal, 1, log.state["version"], proposal(text, input_version=log.state["version"])))
            log.add(verdict(log.state, 1, ordinal))
        log.add(_claim(log), after=INLINE.undo_ms)
        return log

    return build


def _crowded_by_a_deferral() -> Log:
    """The one claim that fits was not sent."""
    log = _crowded(1)()
    log.add(rec.EffectDeferred(**AT, claim=1, token="t1", not_before=0, reason="switch"))
    return log


def _deferred_until() -> Log:
    """Deferred by a million milliseconds, then claimed and deferred without a time: the later time stands."""
    log = _claimed()
    log.add(rec.EffectDeferred(**AT, claim=1, token="t1", not_before=log.now + 1 + MILLION, reason="switch"))
    return log


def _twins() -> Log:
    """Two approved effects with the same words; one is claimed."""
    log = planned(row(1), row(2))
    for ordinal in (1, 2):
        log.add(rec.TaskPlanned(campaign=1, ordinal=ordinal, attempt=1))
        log.add(artifact(1, ordinal, 1, log.state["version"], proposal(input_version=log.state["version"], salt=str(ordinal))))
    for ordinal in (1, 2):
        log.add(verdict(log.state, 1, ordinal))
    log.add(_claim(log), after=INLINE.undo_ms)
    return log


def _owing() -> Log:
    return _paid()


@cache
def log_of(situation: Callable[[], Log]) -> Log:
    return situation()


@cache
def given_of(situation: Callable[[], Log]) -> Given:
    return given(log_of(situation))


# --- records ---------------------------------------------------------------------------------------------------------

Make = Callable[[Log], rec.Data]


def _number(log: Log) -> int:
    return (log.state["command_no"] if log.states[-1] else 0) + 1


def command(model: type[rec.Data], **fields: Any) -> Make:
    return lambda log: model(**{"command_no": _number(log), **fields})


def copy_of(model: Callable[..., rec.Data], number: int = 1, **fields: Any) -> Make:
    return lambda log: model(copied=rec.Copied(source="tenant/acme", number=number), **fields)


def plain(model: type[rec.Data], **fields: Any) -> Make:
    return lambda log: model(**fields)


def at(model: type[rec.Data], **fields: Any) -> Make:
    return lambda log: model(**{**AT, **fields})


def _effect(log: Log, ordinal: int = 1) -> rec.EffectProposal:
    effect: rec.EffectProposal = log.state["campaigns"][1]["tasks"][ordinal]["effect"]["proposal"]
    return effect


def _claim(log: Log, **fields: Any) -> rec.EffectClaimed:
    ordinal = fields.get("ordinal", 1)
    return rec.EffectClaimed(
        **{**AT, "effect_hash": _effect(log, ordinal).effect_hash, "claim": 1, "token": "t1", "lease_ms": 200, **fields}
    )


def claim(**fields: Any) -> Make:
    return lambda log: _claim(log, **fields)


def vote(**fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        d = verdict(
            log.state, 1, 1, **{k: v for k, v in fields.items() if k in ("confidence", "judge", "decision", "tags", "failed_rules")}
        )
        return d.model_copy(update={k: v for k, v in fields.items() if k not in ("tags", "failed_rules")})

    return make


def approve(**fields: Any) -> Make:
    return lambda log: rec.HumanApproved(**{**vote_fields(1, 1, 1, log.state), "shown_hash": "h", **fields})


def _reject(log: Log, **fields: Any) -> rec.HumanRejected:
    named = {"policy_edition": 1, "effect_hash": _effect(log).effect_hash, "edit": 0, "reason_code": "other"}
    return rec.HumanRejected(**{**AT, **named, **fields})


def reject(**fields: Any) -> Make:
    return lambda log: _reject(log, **fields)


def edit(**fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        old, content = _effect(log), {"text": "better words"}
        kept = {"thread": old.thread, "cost": old.max_cost_usd, "effect_class": old.effect_class}
        new = proposal("better words", input_version=3, **{**kept, **fields.get("effect", {})})
        named = {
            "policy_edition": 1,
            "old_effect_hash": old.effect_hash,
            "edit": 1,
            "artifact_hash": digest(content),
            "content": content,
        }
        return rec.HumanEdited(**{**AT, **named, **fields, "effect": new})

    return make


def hold(held: bool = True, **fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        named = {"command_no": _number(log), "effect_hash": _effect(log).effect_hash, "held": held, "reason": "asks legal"}
        return rec.CardHoldSet(**{**AT, **named, **fields})

    return make


def withdraw(**fields: Any) -> Make:
    return lambda log: rec.EffectWithdrawn(**{**AT, "command_no": _number(log), "effect_hash": _effect(log).effect_hash, **fields})


def end(outcome: str, **fields: Any) -> Make:
    return at(rec.EffectEnded, **{"claim": 1, "outcome": outcome, **fields})


def work(effect: dict[str, Any] | None = None, **fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        proposed = None if effect is None else proposal(**{"input_version": 3, **effect})
        at_ = {"campaign": 1, "ordinal": 1, "attempt": 1, "input_version": 3, **fields}
        return artifact(effect=proposed, **at_)

    return make


def funds(answer: str, number: int = 1, **fields: Any) -> Make:
    return copy_of(rec.FundsAnswered, number, **{**AT, "answer": answer, **fields})


def plan(*rows: rec.PlanRow, **fields: Any) -> Make:
    return plain(rec.PlanDrafted, **{"campaign": 1, "round": 2, "brief_edition": 1, "rows": list(rows), **fields})


SIGNAL = rec.Signal.model_construct(thread="a", external_id="e", author=UNREAD, text=UNREAD, observed_at=1, taint="open")


def signal(number: int) -> Make:
    return lambda log: rec.SignalObserved.model_construct(source="x", number=number, cursor="c", items=[SIGNAL])


ALLOWANCE = {"limit_usd": Decimal(5), "window_ms": MILLION}
POLICY: dict[str, Any] = {"digest": "p2", "editor": "eve", "inline": INLINE}
START_CAMPAIGN: dict[str, Any] = {"campaign_id": "c-2", "name": "n", "brief": {}, "brief_hash": "b"}
BRIEF: dict[str, Any] = {"campaign": 1, "brief": {}, "brief_hash": "b"}
TOLD: dict[str, Any] = {"campaign_id": "c-1", "brief": {}, "brief_hash": "b"}
"""A brief as the tenant's copy tells it: without the agent's numbers."""


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
    "AgentEnrolled": [Counts(_nobody, command(rec.AgentEnrolled, name="ava"), "agent:enrolled", 1)],
    "SoulAdopted": [
        Counts(_enrolled, command(rec.SoulAdopted, digest="d", soul="s"), "soul:adopted", 1),
        Counts(_enrolled, copy_of(rec.SoulAdopted, digest="d", soul="s"), "soul:adopted", 1),
    ],
    "PolicyAdopted": [
        Counts(_enrolled, command(rec.PolicyAdopted, edition=1, **POLICY), "policy:adopted"),
        Counts(_enrolled, copy_of(rec.PolicyAdopted, edition=7, **POLICY), "policy:adopted"),
        Counts(_planned, command(rec.PolicyAdopted, edition=2, stales=True, **POLICY), "policy:adopted", 1),
        Counts(_approved, command(rec.PolicyAdopted, edition=2, **POLICY), "effect:proposed policy:adopted"),
        Counts(_people, command(rec.PolicyAdopted, edition=2, **POLICY), "effect:proposed policy:adopted"),
        Counts(_claimed, command(rec.PolicyAdopted, edition=2, **POLICY), "policy:adopted"),
    ],
    "AccountLinked": [
        Counts(_enrolled, command(rec.AccountLinked, platform="x", account="@ava"), "account:linked", 1),
        Counts(_planned, command(rec.AccountLinked, platform="x", account="@ava", secret_ref="env:X"), "account:linked", 1),
        Counts(_planned, command(rec.AccountLinked, platform="x", account="@ava"), ""),
    ],
    "ToolChanged": [Counts(_planned, command(rec.ToolChanged, platform="x", tool="x.createPosts"), "account:tool_changed", 1)],
    "AccountUnlinked": [Counts(_planned, command(rec.AccountUnlinked, platform="x"), "account:unlinked", 1)],
    "AgentStatusSet": [
        Counts(_planned, command(rec.AgentStatusSet, status="paused"), "agent:paused"),
        Counts(_paused, command(rec.AgentStatusSet, status="active"), "agent:active"),
        Counts(_quarantined, command(rec.AgentStatusSet, status="released"), "agent:released"),
        Counts(
            _open,
            command(rec.AgentStatusSet, status="retired"),
            "agent:retired campaign:cancelled task:closed task:closed task:closed task:closed task:closed campaign:closed",
        ),
    ],
    "AllowanceSet": [Counts(_enrolled, command(rec.AllowanceSet, **ALLOWANCE), "allowance:set")],
    "CampaignStarted": [Counts(_planned, command(rec.CampaignStarted, **START_CAMPAIGN), "campaign:running")],
    "BriefChanged": [
        Counts(_open, command(rec.BriefChanged, edition=2, **BRIEF), "brief:changed", 1),
        Counts(_closed, copy_of(rec.BriefChanged, **TOLD), "", reason="unknown"),
        Counts(_open, copy_of(rec.BriefChanged, **TOLD), "brief:changed", 1),
    ],
    "CampaignStatusSet": [
        Counts(_planned, command(rec.CampaignStatusSet, campaign=1, status="paused"), "campaign:paused"),
        Counts(_approved_paused, command(rec.CampaignStatusSet, campaign=1, status="running"), "campaign:running"),
        Counts(_planned, copy_of(rec.CampaignStatusSet, campaign_id="c-1", status="paused"), "campaign:paused"),
        Counts(_planned, copy_of(rec.CampaignStatusSet, campaign_id="c-2", status="paused"), "", reason="unknown"),
        Counts(
            _people,
            command(rec.CampaignStatusSet, campaign=1, status="cancelled"),
            "campaign:cancelled effect:closed task:closed task:closed task:closed task:closed task:closed campaign:closed",
        ),
        Counts(
            _claimed,
            command(rec.CampaignStatusSet, campaign=1, status="cancelled"),
            "campaign:cancelled task:closed task:closed task:closed task:closed",
        ),
    ],
    "PlanDrafted": [
        Counts(
            _open,
            plan(row(6), row(7, depends_on=[1, 6])),
            "task:dropped task:dropped task:dropped task:dropped task:planned task:planned plan:adopted",
        ),
        Counts(_open, plan(row(7)), "plan:rejected", reason="bad_value"),
        Counts(_open, plan(row(6, depends_on=[6])), "plan:rejected", reason="bad_value"),
        Counts(_open, plan(row(6, depends_on=[7]), row(7)), "plan:rejected", reason="bad_value"),
        Counts(_open, plan(row(6, depends_on=[2])), "plan:rejected", reason="bad_value"),
        Counts(_open, plan(row(6, depends_on=[99])), "plan:rejected", reason="bad_value"),
        Counts(_task_closed, plan(row(6, depends_on=[1])), "plan:rejected", reason="bad_value"),
        Counts(_open, plan(row(6, max_cost_usd=Decimal(-1))), "plan:rejected", reason="bad_value"),
        Counts(_open, plan(row(6, max_cost_usd=Decimal("10.01"))), "plan:rejected", reason="bad_value"),
        Counts(_no_policy, plan(row(2, max_cost_usd=Decimal("0.01"))), "plan:rejected", reason="bad_value"),
        Counts(_open, plan(row(6, not_before=-1)), "plan:rejected", reason="bad_value"),
        Counts(_open, plan(*(row(6 + i) for i in range(501))), "plan:rejected", reason="bad_value"),
        Counts(_heard, plan(row(6), row(7, depends_on=[5, 6]), answers=1), "task:planned task:planned plan:adopted"),
        Counts(_heard, plan(answers=1), "plan:adopted"),
        Counts(_heard, plan(row(9), answers=1), "plan:rejected", reason="bad_value"),
        Counts(_answering, plan(round=3), "task:dropped task:dropped task:dropped task:dropped plan:adopted"),
    ],
    "TaskPlanned": [
        Counts(_planned, at(rec.TaskPlanned), "task:open"),
        Counts(_stale, at(rec.TaskPlanned, attempt=2), "task:planned task:open"),
        Counts(_paused, at(rec.TaskPlanned), "", reason="paused"),
        Counts(_quarantined, at(rec.TaskPlanned), "", reason="paused"),
        Counts(_no_policy, at(rec.TaskPlanned), "", reason="no_policy"),
        Counts(_planned, at(rec.TaskPlanned, ordinal=4), "", reason="too_early"),
        Counts(_planned, at(rec.TaskPlanned, ordinal=4), "task:open", after=MILLION),
        Counts(_poor, at(rec.TaskPlanned, ordinal=3), "", reason="no_allowance"),
    ],
    "WorkStarted": [Counts(_costly, at(rec.WorkStarted, ordinal=3, lease_ms=100), "task:started")],
    "ArtifactProduced": [
        Counts(_open, work(), "task:produced"),
        Counts(_open, work({}), "task:produced effect:proposed"),
        Counts(_open, work({"cost": Decimal(2)}), "task:produced effect:proposed funds:asked"),
        Counts(_started, work(ordinal=3, cost=Decimal(1)), "task:produced"),
        Counts(_stale, work(), "task:produced"),
        Counts(_open, work(confidence=None), "task:planned", reason="bad_value"),
        Counts(_open, work(confidence=float("nan")), "task:planned", reason="bad_value"),
        Counts(_open, work(confidence=1.5), "task:planned", reason="bad_value"),
        Counts(_open, work(cost=Decimal(-1)), "task:planned", reason="bad_value"),
        Counts(_open, work(cost=Decimal(10**9) + 1), "task:planned", reason="bad_value"),
        Counts(_open, work({"agent": "agent/other"}), "task:planned", reason="bad_value"),
        Counts(_open, work({"account": "@other"}), "task:planned", reason="bad_value"),
        Counts(_open, work({"platform": "mastodon"}), "task:planned", reason="bad_value"),
        Counts(_open, work({"input_version": 2}), "task:planned", reason="bad_value"),
        Counts(_open, work({"cost": Decimal(-2)}), "task:planned", reason="bad_value"),
        Counts(_open, work({"simhash": "zz"}), "task:planned", reason="bad_value"),
        Counts(_open, work({"effect_class": "financial", "cost": Decimal(1)}, taint="open"), "task:planned", reason="bad_value"),
    ],
    "WorkFailed": [
        Counts(_open, at(rec.WorkFailed, reason="model down"), "task:planned"),
        Counts(_open, at(rec.WorkFailed, reason="rate limit", not_before=START + MILLION), "task:planned"),
        Counts(_started, at(rec.WorkFailed, ordinal=3, reason="lost", lost=True), "task:planned", after=100),
        Counts(_started, at(rec.WorkFailed, ordinal=3, reason="lost", lost=True, needless=True), "task:planned", after=100),
        Counts(_open, at(rec.WorkFailed, reason="not wanted", needless=True), "task:closed task:closed"),
    ],
    "SignalObserved": [
        Counts(_open, signal(1), "signal:observed", 1),
        Counts(_all_heard, signal(MAX_HEARD + 1), "", reason="backlog"),
    ],
    "JudgeVerdict": [
        Counts(_draft, vote(), "commit:committed task:done", 1),
        Counts(_draft, vote(confidence=0.7), "commit:committed task:done", 1),
        Counts(_draft, vote(confidence=0.69), "task:planned"),
        Counts(_draft, vote(confidence=None), "task:planned", reason="bad_value"),
        Counts(_draft, vote(confidence=None, decision="people"), "commit:committed task:done", 1),
        Counts(_draft, vote(decision="fail"), "task:planned"),
        Counts(_proposed, vote(), "commit:committed effect:approved", 1),
        Counts(_proposed, vote(confidence=0.8), "effect:people"),
        Counts(_proposed, vote(confidence=0.6), "effect:rejected task:planned"),
        Counts(_proposed, vote(decision="fail"), "effect:rejected task:planned"),
        Counts(_proposed, vote(failed_rules=["no links"]), "effect:rejected task:planned"),
        Counts(_proposed, vote(tags=["politics"]), "effect:people"),
        Counts(_proposed, vote(decision="people"), "effect:people"),
        Counts(_proposed, vote(decision="people", confidence=None), "effect:people"),
        Counts(_proposed, vote(confidence=None), "effect:people", reason="bad_value"),
        Counts(_proposed, vote(confidence=float("nan")), "effect:people", reason="bad_value"),
        Counts(_paid, vote(), ""),
        Counts(_paid, vote(judge="cfo"), ""),
        Counts(_paid, vote(judge="cfo", decision="fail"), "effect:rejected funds:settled task:planned"),
    ],
    "HumanApproved": [
        Counts(_people, approve(), "commit:committed effect:approved", 1, actor="ann"),
        Counts(_people_for_money, approve(), "", actor="ann"),
    ],
    "HumanRejected": [Counts(_people, reject(), "effect:rejected task:closed task:closed", actor="ann")],
    "CardHoldSet": [
        Counts(_people, hold(), "hold:held", actor="kim"),
        Counts(_held, hold(until=START), "hold:held", actor="ann"),
        Counts(_held, hold(held=False), "hold:released", actor="ann"),
    ],
    "HumanEdited": [Counts(_people, edit(), "effect:proposed", actor="ann")],
    "FundsAnswered": [
        Counts(_paid, funds("held"), "funds:held"),
        Counts(_paid, funds("over_budget"), "funds:over_budget"),
        Counts(_funds("over_budget"), funds("held", 2), "funds:held"),
        Counts(_paid, funds("payee"), "funds:payee effect:closed funds:settled task:closed task:closed"),
        Counts(_paid, funds("held", attempt=2), "", reason="closed"),
        Counts(_funds("held"), funds("held", 2), "", reason="closed"),
        Counts(_proposed, funds("held"), "", reason="closed"),
        Counts(_closed, funds("held"), "", reason="closed"),
    ],
    "EffectWithdrawn": [Counts(_approved, withdraw(), "effect:withdrawn task:closed task:closed")],
    "EffectClaimed": [
        Counts(_approved, claim(), "effect:claimed", after=INLINE.undo_ms),
        Counts(_approved, claim(), "", reason="too_early", after=INLINE.undo_ms - 1),
        Counts(_approved_paused, claim(), "", reason="paused"),
        Counts(_crowded(2), claim(ordinal=2), "effect:claimed"),
        Counts(_crowded(1), claim(ordinal=2), "", reason="too_frequent"),
        Counts(_crowded(1), claim(ordinal=2), "effect:claimed", after=5_000),
        Counts(_crowded_by_a_deferral, claim(ordinal=2), "effect:claimed"),
        Counts(_deferred_until, claim(claim=2), "", reason="too_early", after=MILLION - 1),
        Counts(_deferred_until, claim(claim=2), "effect:claimed", after=MILLION),
        Counts(_twins, claim(ordinal=2), "effect:rejected task:planned", reason="too_similar"),
        Counts(_deferred, claim(claim=2), "effect:claimed"),
    ],
    "EffectSubmitted": [Counts(_claimed, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=9), "effect:submitted")],
    "EffectDeferred": [
        Counts(
            _claimed, at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason="switch"), "effect:deferred effect:approved"
        ),
        Counts(
            _unknown, at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason="found"), "effect:deferred effect:approved"
        ),
        Counts(
            _cancelled,
            at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason="switch"),
            "effect:deferred effect:closed task:closed campaign:closed",
        ),
    ],
    "EffectUnknown": [
        Counts(_claimed, at(rec.EffectUnknown, claim=1, token="t1", reason="timeout"), "effect:unknown"),
        Counts(_submitted, at(rec.EffectUnknown, claim=1, token="t1", reason="timeout"), "effect:unknown"),
        Counts(_claimed, at(rec.EffectUnknown, claim=1, reason="lease over"), "effect:unknown", after=200),
    ],
    "EffectEnded": [
        Counts(_claimed, end("executed", token="t1"), "effect:executed task:done"),
        Counts(_submitted, end("executed", token="t1"), "effect:executed task:done"),
        Counts(_unknown, end("executed", token="t1"), "effect:executed task:done"),
        Counts(_unknown, end("executed", proof={}), "effect:executed task:done"),
        Counts(_deferred, end("executed", token="t1"), "effect:executed task:done"),
        Counts(_reclaimed, end("executed", token="t1"), "effect:executed task:done"),
        Counts(_claimed, end("refused", token="t1"), "effect:refused task:planned"),
        Counts(_unknown, end("refused", proof={}), "effect:refused task:planned"),
        Counts(_unknown, end("not_executed", proof={}), "effect:not_executed effect:approved", after=LEASE_AND_GRACE),
        Counts(_cancelled, end("executed", token="t1"), "effect:executed task:done campaign:closed"),
        Counts(_cancelled, end("refused", token="t1"), "effect:refused task:closed campaign:closed"),
        Counts(
            _unknown,
            lambda log: end("executed", proof={}, command_no=_number(log))(log),
            "effect:executed task:done",
            actor="kim",
        ),
    ],
    "Expired": [
        Counts(_people, at(rec.Expired, what="card"), "effect:expired task:closed task:closed", after=INLINE.expiry_ms),
        Counts(_approved, at(rec.Expired, what="approval"), "effect:expired task:closed task:closed", after=INLINE.lapse_ms),
    ],
    "CopiesDelivered": [Counts(_owing, plain(rec.CopiesDelivered, target="tenant/acme", upto=1), "")],
    "CampaignCompleted": [
        Counts(_all_done, plain(rec.CampaignCompleted, campaign=1), "campaign:completed"),
        Counts(_listening, plain(rec.CampaignCompleted, campaign=1), "campaign:completed", after=MILLION),
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
    "PolicyAdopted": [Wrong(_planned, command(rec.PolicyAdopted, edition=1, **POLICY), "duplicate")],
    "ToolChanged": [Wrong(_enrolled, command(rec.ToolChanged, platform="x", tool="x.createPosts"), "unknown")],
    "AccountUnlinked": [Wrong(_enrolled, command(rec.AccountUnlinked, platform="x"), "unknown")],
    "AgentStatusSet": [
        Wrong(_planned, command(rec.AgentStatusSet, status="active"), "conflict"),
        Wrong(_planned, command(rec.AgentStatusSet, status="released"), "conflict"),
        Wrong(_retired, command(rec.AgentStatusSet, status="active"), "conflict"),
    ],
    "AllowanceSet": [Wrong(_enrolled, command(rec.AllowanceSet, limit_usd=Decimal(-1), window_ms=1), "bad_value")],
    "CampaignStarted": [Wrong(_retired, command(rec.CampaignStarted, **START_CAMPAIGN), "closed")],
    "BriefChanged": [
        Wrong(_planned, command(rec.BriefChanged, edition=1, **BRIEF), "duplicate"),
        Wrong(_planned, command(rec.BriefChanged, edition=3, **BRIEF), "conflict"),
        Wrong(_cancelled, command(rec.BriefChanged, edition=2, **BRIEF), "closed"),
    ],
    "CampaignStatusSet": [
        Wrong(_planned, command(rec.CampaignStatusSet, campaign=1, status="running"), "conflict"),
        Wrong(_cancelled, command(rec.CampaignStatusSet, campaign=1, status="running"), "closed"),
    ],
    "PlanDrafted": [
        Wrong(_planned, plan(row(6), round=1), "duplicate"),
        Wrong(_planned, plan(row(6), round=3), "conflict"),
        Wrong(_stale, plan(row(6)), "edition"),
        Wrong(_cancelled, plan(row(6)), "closed"),
        Wrong(_heard, plan(row(6), answers=2), "conflict"),
    ],
    "TaskPlanned": [
        Wrong(_open, at(rec.TaskPlanned, attempt=1), "duplicate"),
        Wrong(_planned, at(rec.TaskPlanned, attempt=2), "conflict"),
        Wrong(_open, at(rec.TaskPlanned, attempt=2), "conflict"),
        Wrong(_planned, at(rec.TaskPlanned, ordinal=2), "dependency"),
        Wrong(_full, at(rec.TaskPlanned, campaign=2), "too_many_open"),
    ],
    "WorkStarted": [
        Wrong(_started, at(rec.WorkStarted, ordinal=3, lease_ms=100), "duplicate"),
        Wrong(_open, at(rec.WorkStarted, lease_ms=0), "bad_value"),
        Wrong(_draft, at(rec.WorkStarted, lease_ms=1), "duplicate"),
    ],
    "ArtifactProduced": [
        Wrong(_draft, work(), "duplicate"),
        Wrong(_open, work(input_version=2), "conflict"),
        Wrong(_costly, work(ordinal=3), "not_started"),
    ],
    "WorkFailed": [
        Wrong(_draft, at(rec.WorkFailed, reason="late"), "duplicate"),
        Wrong(_started, at(rec.WorkFailed, ordinal=3, reason="lost", lost=True), "too_early", after=98),
        Wrong(_open, at(rec.WorkFailed, reason="lost", lost=True), "too_early", after=MILLION),
    ],
    "SignalObserved": [Wrong(_open, signal(0), "duplicate"), Wrong(_open, signal(2), "conflict")],
    "JudgeVerdict": [
        Wrong(_approved, vote(), "duplicate"),
        Wrong(_proposed, vote(judge="cfo"), "conflict"),
        Wrong(_proposed, vote(policy_edition=2), "edition"),
        Wrong(_proposed, vote(edit=1), "conflict"),
        Wrong(_proposed, vote(input_state_version=2), "conflict"),
        Wrong(_proposed, vote(artifact_hash="other"), "wrong_hash"),
        Wrong(_proposed, vote(effect_hash="other"), "wrong_hash"),
        Wrong(_proposed, vote(effect_hash=None), "wrong_hash"),
        Wrong(_proposed, vote(commit_hash="other"), "wrong_hash"),
        Wrong(_open, lambda log: vote()(log_of(_proposed)), "conflict"),
    ],
    "HumanApproved": [
        Wrong(_proposed, approve(), "conflict", actor="ann"),
        Wrong(_people, approve(), "not_entitled", actor="dee"),
        Wrong(_people, approve(), "not_entitled", actor="eve"),
        Wrong(_people, approve(), "not_entitled", actor="stranger"),
        Wrong(_people, approve(policy_edition=2), "edition", actor="ann"),
        Wrong(_people, approve(effect_hash="other"), "wrong_hash", actor="ann"),
        Wrong(_people, approve(not_after=START), "too_late", actor="ann"),
        Wrong(_open, lambda log: approve()(log_of(_people)), "conflict", actor="ann"),
    ],
    "HumanRejected": [
        Wrong(_proposed, reject(), "conflict", actor="ann"),
        Wrong(_people, reject(effect_hash="other"), "wrong_hash", actor="ann"),
        Wrong(_people, reject(edit=1), "wrong_hash", actor="ann"),
        Wrong(_people, reject(not_after=START), "too_late", actor="ann"),
        Wrong(_open, lambda log: reject()(log_of(_people)), "conflict", actor="ann"),
    ],
    "CardHoldSet": [
        Wrong(_proposed, hold(), "conflict", actor="ann"),
        Wrong(_people, hold(effect_hash="other"), "wrong_hash", actor="ann"),
        Wrong(_people, hold(edit=1), "wrong_hash", actor="ann"),
        Wrong(_people, hold(held=False), "conflict", actor="ann"),
        Wrong(_people, hold(), "not_entitled", actor="service/ci"),
        Wrong(_approved, hold(), "conflict", actor="ann"),
        Wrong(_open, lambda log: hold(command_no=_number(log))(log_of(_people)), "conflict", actor="ann"),
    ],
    "HumanEdited": [
        Wrong(_proposed, edit(), "conflict", actor="ann"),
        Wrong(_people, edit(edit=2), "conflict", actor="ann"),
        Wrong(_people, edit(edit=0), "duplicate", actor="ann"),
        Wrong(_people, edit(old_effect_hash="other"), "wrong_hash", actor="ann"),
        Wrong(_people, edit(policy_edition=2), "edition", actor="ann"),
        Wrong(_people, edit(), "not_entitled", actor="dee"),
        Wrong(_people, edit(effect={"cost": Decimal(3)}), "conflict", actor="ann"),
        Wrong(_people, edit(effect={"account": "@other"}), "conflict", actor="ann"),
        Wrong(_people, edit(effect={"thread": "t"}), "conflict", actor="ann"),
        Wrong(_people, edit(not_after=START), "too_late", actor="ann"),
        Wrong(_open, lambda log: edit()(log_of(_people)), "conflict", actor="ann"),
    ],
    "EffectWithdrawn": [
        Wrong(_proposed, withdraw(), "conflict"),
        Wrong(_claimed, withdraw(), "conflict"),
        Wrong(_approved, withdraw(effect_hash="other"), "wrong_hash"),
        Wrong(_draft, lambda log: withdraw(command_no=_number(log))(log_of(_approved)), "conflict"),
    ],
    "EffectClaimed": [
        Wrong(_proposed, claim(), "conflict"),
        Wrong(_claimed, claim(), "duplicate"),
        Wrong(_claimed, claim(claim=2), "conflict"),
        Wrong(_approved, claim(claim=2), "conflict"),
        Wrong(_approved, claim(effect_hash="other"), "wrong_hash"),
        Wrong(_approved, claim(lease_ms=0), "bad_value"),
        Wrong(_draft, lambda log: claim()(log_of(_approved)), "conflict"),
    ],
    "EffectSubmitted": [
        Wrong(_claimed, at(rec.EffectSubmitted, claim=1, token="forged", handle="h", lease_ms=9), "wrong_token"),
        Wrong(_submitted, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=9), "conflict"),
        Wrong(_claimed, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=-1), "bad_value"),
        Wrong(_reclaimed, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=9), "duplicate"),
        Wrong(_draft, at(rec.EffectSubmitted, claim=1, token="t1", handle="h", lease_ms=9), "conflict"),
    ],
    "EffectDeferred": [
        Wrong(_claimed, at(rec.EffectDeferred, claim=1, token="forged", not_before=0, reason=""), "wrong_token"),
        Wrong(_submitted, at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason=""), "conflict"),
        Wrong(_deferred, at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason=""), "duplicate"),
        Wrong(_draft, at(rec.EffectDeferred, claim=1, token="t1", not_before=0, reason=""), "conflict"),
    ],
    "EffectUnknown": [
        Wrong(_claimed, at(rec.EffectUnknown, claim=1, reason=""), "too_early", after=199),
        Wrong(_claimed, at(rec.EffectUnknown, claim=1, token="forged", reason=""), "wrong_token"),
        Wrong(_unknown, at(rec.EffectUnknown, claim=1, token="t1", reason=""), "duplicate"),
        Wrong(_deferred, at(rec.EffectUnknown, claim=1, token="t1", reason=""), "duplicate"),
        Wrong(_draft, at(rec.EffectUnknown, claim=1, reason=""), "conflict"),
    ],
    "EffectEnded": [
        Wrong(_claimed, end("executed", token="forged"), "wrong_token"),
        Wrong(_claimed, end("executed"), "no_proof"),
        Wrong(_claimed, end("executed", proof={}), "conflict"),
        Wrong(_reclaimed, end("refused", token="t1"), "duplicate"),
        Wrong(_reclaimed, end("executed", claim=2, token="t1"), "wrong_token"),
        Wrong(_claimed, end("not_executed", proof={}), "conflict", after=LEASE_AND_GRACE),
        Wrong(_unknown, end("not_executed", token="t1"), "wrong_token", after=LEASE_AND_GRACE),
        Wrong(_unknown, end("not_executed", proof={}), "too_early", after=1),
        Wrong(_draft, end("executed", token="t1"), "conflict"),
    ],
    "Expired": [
        Wrong(_people, at(rec.Expired, what="card"), "too_early", after=INLINE.expiry_ms - 1),
        Wrong(_approved, at(rec.Expired, what="approval"), "too_early", after=INLINE.lapse_ms - 1),
        Wrong(_people, at(rec.Expired, what="approval"), "conflict", after=MILLION),
        Wrong(_claimed, at(rec.Expired, what="approval"), "conflict", after=MILLION),
        Wrong(_draft, at(rec.Expired, what="card"), "conflict"),
    ],
    "CopiesDelivered": [
        Wrong(_owing, plain(rec.CopiesDelivered, target="tenant/acme", upto=2), "conflict"),
        Wrong(_owing, plain(rec.CopiesDelivered, target="tenant/acme", upto=0), "duplicate"),
        Wrong(_owing, plain(rec.CopiesDelivered, target="tenant/other", upto=1), "conflict"),
    ],
    "CampaignCompleted": [
        Wrong(_open, plain(rec.CampaignCompleted, campaign=1), "conflict"),
        Wrong(_stale, plain(rec.CampaignCompleted, campaign=1), "conflict"),
        Wrong(_listening, plain(rec.CampaignCompleted, campaign=1), "too_early"),
    ],
}
"""What is void in its own way, by row."""


def generated() -> Iterator[tuple[str, str, Wrong]]:
    """What is void in the same way in every row that has such a number: (row, name of the cell, cell)."""
    for name, cells in COUNTS.items():
        where, when, actor, after = cells[0].given, cells[0].when, cells[0].actor, cells[0].after
        fields = _model(name).model_fields

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


def _model(name: str) -> type[rec.Data]:
    return next(model for model in rec.ALL if name == model.TYPE)


COUNTING = [(name, i, cell) for name, cells in COUNTS.items() for i, cell in enumerate(cells)]
VOID = [
    *((name, f"{i} {cell.reason}", cell) for name, cells in WRONG.items() for i, cell in enumerate(cells)),
    *generated(),
]


def run(cell: Counts | Wrong) -> Then:
    g = given_of(cell.given)
    return g.when(cell.when(log_of(cell.given)), actor=cell.actor, after=cell.after)


@pytest.mark.parametrize("cell", [pytest.param(c, id=f"{name}-{i}") for name, i, c in COUNTING])
def test_a_record_that_counts_does_what_the_law_says(cell: Counts) -> None:
    then = run(cell)
    assert then.said == (("rejected", cell.reason) if cell.reason else ("applied", ""))
    assert " ".join(f"{c.what}:{c.status}" for c in then.ruling.changes) == cell.changes
    assert then.ruling.version - then.ruling.version_before == cell.version


@pytest.mark.parametrize("cell", [pytest.param(c, id=f"{name}-{why}") for name, why, c in VOID])
def test_a_record_that_does_not_count_is_void(cell: Wrong) -> None:
    assert run(cell).said == ("void", cell.reason)


@pytest.mark.parametrize("name", COUNTS)
class TestWhateverTheRecordIs:
    """Cells that every row has."""

    def cell(self, name: str) -> tuple[Given, Counts, rec.Data]:
        first = COUNTS[name][0]
        return given_of(first.given), first, first.when(log_of(first.given))

    def test_bytes_nobody_can_read_are_void_and_quarantine_the_agent(self, name: str) -> None:
        g, _, data = self.cell(name)
        then = g.when_record(replace(record(data, g.offset, g.now + 1), data=None, defect="no value"))
        assert then.said == ("void", "unreadable")
        assert then.state is None or (then.state.held and then.changed("agent") == ["quarantined"])

    def test_a_type_this_code_does_not_know_is_void(self, name: str) -> None:
        g, _, data = self.cell(name)
        unknown = replace(record(data, g.offset, g.now + 1), data=None, type=f"{name}2")
        assert g.when_record(unknown).said == ("void", "unknown_type")

    def test_content_that_does_not_match_its_hash_is_void(self, name: str) -> None:
        g, first, data = self.cell(name)
        assert g.when(data, actor=first.actor, after=first.after, hash_ok=False).said == ("void", "wrong_hash")

    def test_another_tenants_record_is_void(self, name: str) -> None:
        g, first, data = self.cell(name)
        if name != "AgentEnrolled":
            assert g.when(data, actor=first.actor, after=first.after, tenant="other").said == ("void", "forged")

    def test_before_the_agent_is_enrolled_it_is_void(self, name: str) -> None:
        _, first, data = self.cell(name)
        if name != "AgentEnrolled":
            assert given_of(_nobody).when(data, actor=first.actor).said == ("void", "unknown")

    def test_it_is_signed_where_the_law_lists_a_key_for_its_role(self, name: str) -> None:
        g, first, data = self.cell(name)
        role, copied = data.ROLE, getattr(data, "copied", None) is not None
        if role in ("command", "courier") or copied:
            for signer in (None, "another key"):
                assert g.when(data, actor=first.actor, after=first.after, signed_by=signer).said == ("void", "forged")
            assert g.when(data, actor=first.actor, after=first.after, signed_by=KEY).ruling.outcome == "applied"
        if role == "command":
            return
        hard = replace(g, law=replace(g.law, keys={**g.law.keys, role: frozenset(["role key"])}))
        for signer in (None, KEY):
            assert hard.when(data, actor=first.actor, after=first.after, signed_by=signer).said == ("void", "forged")
        assert hard.when(data, actor=first.actor, after=first.after, signed_by="role key").ruling.outcome == "applied"

    def test_after_its_campaign_has_closed_it_is_void(self, name: str) -> None:
        _, first, data = self.cell(name)
        if not hasattr(data, "campaign") or name == "FundsAnswered":
            return
        closed = log_of(_closed)
        if hasattr(data, "command_no") and data.command_no:
            data = data.model_copy(update={"command_no": _number(closed)})
        assert given_of(_closed).when(data, actor=first.actor).said == ("void", "closed")

    def test_after_its_task_has_closed_it_is_void(self, name: str) -> None:
        _, first, data = self.cell(name)
        if not hasattr(data, "ordinal") or name == "FundsAnswered":
            return
        closed = log_of(_task_closed)
        update: dict[str, Any] = {"ordinal": 1}
        if hasattr(data, "command_no") and data.command_no:
            update["command_no"] = _number(closed)
        assert given_of(_task_closed).when(data.model_copy(update=update), actor=first.actor).said == ("void", "closed")


def test_every_row_has_a_record_that_counts() -> None:
    assert COUNTS.keys() == TABLE.keys()


def test_every_guard_of_every_row_is_the_one_that_says_no_in_some_cell() -> None:
    walked = set()
    cells = [*((name, cell) for name, _, cell in VOID), *_closing_cells()]
    for name, cell in cells:
        g = given_of(cell.given)
        r = record(cell.when(log_of(cell.given)), g.offset, g.now + cell.after, actor=cell.actor)
        if not g.state:
            continue
        agent = state_from_json(g.state)
        walked.add((name, _refusing(name, agent, r)))
    expected = {(name, guard.__name__) for name, row_ in TABLE.items() for guard in (*_first(row_), *row_.counts_when)}
    assert walked >= expected, f"guards that no cell has seen saying no: {sorted(expected - walked)}"


def test_where_a_record_lands_is_told_as_its_first_guards_tell_it() -> None:
    counting: list[tuple[str, Any]] = [(name, cell) for name, found in COUNTS.items() for cell in found]
    told = set()
    for name, cell in [*counting, *((name, cell) for name, _, cell in VOID), *_closing_cells()]:
        state = given_of(cell.given).state
        if not isinstance(TABLE[name], TaskRow) or not state:
            continue
        agent, r = state_from_json(state), record(cell.when(log_of(cell.given)), 1, 1)
        at = spot_of(agent, r)
        said = next((reason for guard in THERE if (reason := guard(agent, r)) is not None), None)
        told.add(said)
        if said is None:
            assert isinstance(at, Spot)
            assert (at.campaign.number, at.task.ordinal) == (r.data.campaign, r.data.ordinal)  # type: ignore[union-attr]
        else:
            assert at == said
    assert told == {None, "closed", "unknown"}


def _first(row_: Row[Agent] | TaskRow) -> tuple[Callable[[Agent, Record], str | None], ...]:
    return THERE if isinstance(row_, TaskRow) else ()


def _refusing(name: str, agent: Agent, r: Record) -> str | None:
    """The guard of the record's row that says no, if any does."""
    row_ = TABLE[name]
    refusing = next((guard.__name__ for guard in _first(row_) if guard(agent, r) is not None), None)
    if refusing is not None:
        return refusing
    at: Any = spot_of(agent, r) if isinstance(row_, TaskRow) else agent
    return next((guard.__name__ for guard in row_.counts_when if guard(at, r) is not None), None)


def _closing_cells() -> Iterator[tuple[str, Wrong]]:
    for name, cells in COUNTS.items():
        if hasattr(cells[0].when(log_of(cells[0].given)), "ordinal") and name != "FundsAnswered":
            yield (
                name,
                Wrong(_task_closed, lambda log, c=cells[0]: c.when(log_of(c.given)).model_copy(update={"ordinal": 1}), "closed"),
            )


def test_a_copy_that_may_not_count_is_rejected_and_does_not_block_the_next() -> None:
    copied = rec.Copied(source="tenant/acme", number=1)
    refused = given_of(_closed).when(rec.BriefChanged(copied=copied, **TOLD))
    assert refused.said == ("rejected", "unknown")
    assert refused.state is not None
    assert refused.state.copies_in == {"tenant/acme": 1}


def test_a_command_is_answered_from_its_id_for_as_long_as_32_others_have_come() -> None:
    log = _enrolled()
    first = record(rec.SoulAdopted(command_no=2, digest="d", soul="s"), 1, log.now + 1, id_="the-one")
    log.add_record(first)
    for _ in range(31):
        log.command(rec.SoulAdopted, digest="d", soul="s")
    retried = replace(first, offset=99, data=first.data.model_copy(update={"command_no": _number(log)}))  # type: ignore[union-attr]
    assert given(log).when_record(retried).said == ("void", "duplicate")
    log.command(rec.SoulAdopted, digest="d", soul="s")
    retried = replace(first, offset=99, data=first.data.model_copy(update={"command_no": _number(log)}))  # type: ignore[union-attr]
    assert given(log).when_record(retried).said == ("applied", "")
