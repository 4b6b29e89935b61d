"""Situations of an agent, each the log that led to it: what the cells of the law's table begin from.

A situation is a function without arguments; `given_of` folds each once, and nobody adds to what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

from chimera.events import records as rec
from chimera.events.state import MAX_HEARD
from tests.histories import INLINE, START, Log, agent_with_policy, artifact, proposal, record, row, verdict
from tests.histories import planned as log_of_plan
from tests.lawspec import Given, given
from tests.makes import AT, MILLION, START_CAMPAIGN, claim, hold, plan, reject, signal


def nobody() -> Log:
    return Log()


def enrolled() -> Log:
    log = Log()
    log.command(rec.AgentEnrolled, name="ava")
    return log


def planned() -> Log:
    return log_of_plan(
        row(1), row(2, depends_on=[1]), row(3, costly=True, max_cost_usd=Decimal(1)), row(4, not_before=START + MILLION), row(5)
    )


def open() -> Log:
    log = planned()
    log.add(rec.TaskPlanned(**AT))
    return log


def costly() -> Log:
    log = planned()
    log.add(rec.TaskPlanned(**{**AT, "ordinal": 3}))
    return log


def started() -> Log:
    log = costly()
    log.add(rec.WorkStarted(**{**AT, "ordinal": 3}, lease_ms=100))
    return log


def stale() -> Log:
    log = open()
    log.command(rec.BriefChanged, campaign=1, edition=2, brief={}, brief_hash="b2")
    return log


def draft() -> Log:
    log = open()
    log.add(artifact(1, 1, 1, 3))
    return log


def proposed(**effect: Any) -> Log:
    log = open()
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3, **effect)))
    return log


def paid() -> Log:
    return proposed(effect_class="paid", cost=Decimal(2))


def funds(answer: str) -> Callable[[], Log]:
    def build() -> Log:
        log = paid()
        log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer=answer))
        return log

    return build


def people() -> Log:
    log = proposed()
    log.add(verdict(log.state, 1, 1, confidence=0.8))
    return log


def held() -> Log:
    """A card that waits for people, and that somebody looks into."""
    log = people()
    log.add(hold()(log), actor="kim")
    return log


def people_for_money() -> Log:
    """A financial effect that waits for two people."""
    log = proposed(effect_class="financial", cost=Decimal(2))
    log.add(verdict(log.state, 1, 1))
    log.add(verdict(log.state, 1, 1, judge="cfo"))
    log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    return log


def approved() -> Log:
    log = proposed()
    log.add(verdict(log.state, 1, 1))
    return log


def claimed() -> Log:
    log = approved()
    log.add(claim()(log), after=INLINE.undo_ms)
    return log


def submitted() -> Log:
    log = claimed()
    log.add(rec.EffectSubmitted(**AT, claim=1, token="t1", handle="h", lease_ms=200))
    return log


def unknown() -> Log:
    log = claimed()
    log.add(rec.EffectUnknown(**AT, claim=1, token="t1", reason="timeout"))
    return log


def deferred() -> Log:
    log = claimed()
    log.add(rec.EffectDeferred(**AT, claim=1, token="t1", not_before=0, reason="switch"))
    return log


def reclaimed() -> Log:
    log = deferred()
    log.add(claim(claim=2, token="t2")(log))
    return log


def cancelled() -> Log:
    """A campaign that closes, with one effect in flight."""
    log = claimed()
    log.command(rec.CampaignStatusSet, campaign=1, status="cancelled")
    return log


def closed() -> Log:
    log = planned()
    log.command(rec.CampaignStatusSet, campaign=1, status="cancelled")
    return log


def task_closed() -> Log:
    log = people()
    log.add(reject()(log), actor="ann")
    return log


def paused() -> Log:
    log = planned()
    log.command(rec.AgentStatusSet, status="paused")
    return log


def approved_paused() -> Log:
    log = approved()
    log.command(rec.CampaignStatusSet, campaign=1, status="paused", after=INLINE.undo_ms)
    return log


def retired() -> Log:
    log = planned()
    log.command(rec.AgentStatusSet, status="retired")
    return log


def quarantined() -> Log:
    log = planned()
    log.add_record(replace(record(rec.CampaignCompleted(campaign=1), len(log.records), log.now + 1), defect="no value", data=None))
    return log


def all_done() -> Log:
    log = log_of_plan(row(1))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3))
    log.add(verdict(log.state, 1, 1))
    return log


def heard() -> Log:
    """One signal waits for the planner."""
    log = open()
    log.add(signal(1)(log))
    return log


def all_heard() -> Log:
    """As many signals wait as may wait."""
    log = open()
    for number in range(1, MAX_HEARD + 1):
        log.add(signal(number)(log))
    return log


def answering() -> Log:
    """Two rows answer the signal: one open, and one that is to be made from it."""
    log = heard()
    log.add(plan(row(6), row(7, depends_on=[6]), answers=1)(log))
    log.add(rec.TaskPlanned(campaign=1, ordinal=6, attempt=1))
    return log


def listening() -> Log:
    """All is done, and the campaign goes on listening."""
    log = agent_with_policy()
    log.command(rec.CampaignStarted, **START_CAMPAIGN, listens_until=START + MILLION)
    log.add(rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[]))
    return log


def no_policy() -> Log:
    log = enrolled()
    log.command(rec.CampaignStarted, campaign_id="c", name="n", brief={}, brief_hash="b")
    log.add(rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[row(1)]))
    return log


def poor() -> Log:
    log = planned()
    log.command(rec.AllowanceSet, limit_usd=Decimal("0.5"), window_ms=MILLION)
    return log


def full() -> Log:
    log = agent_with_policy()
    log.command(rec.CampaignStarted, campaign_id="c", name="n", brief={}, brief_hash="b")
    log.command(rec.CampaignStarted, campaign_id="d", name="n", brief={}, brief_hash="b")
    for campaign, count in ((1, 500), (2, 1)):
        log.add(rec.PlanDrafted(campaign=campaign, round=1, brief_edition=1, rows=[row(i + 1) for i in range(count)]))
    for i in range(500):
        log.states[-1]["campaigns"][1]["tasks"][i + 1]["status"] = "open"  # type: ignore[index]  # only the real fold counts here
        log.records.append(record(rec.TaskPlanned(campaign=1, ordinal=i + 1, attempt=1), len(log.records), log.now + 1))
    return log


def crowded(claims: int) -> Callable[[], Log]:
    """One claim on the account has been made; a second effect is approved."""

    def build() -> Log:
        log = log_of_plan(
            row(1), row(2), inline=INLINE.model_copy(update={"frequency": {"x": rec.Frequency(claims=claims, window_ms=5_000)}})
        )
        for ordinal, text in ((1, "one thing about tea"), (2, "quite another matter altogether")):
            log.add(rec.TaskPlanned(campaign=1, ordinal=ordinal, attempt=1))
            log.add(artifact(1, ordinal, 1, log.state["version"], proposal(text, input_version=log.state["version"])))
            log.add(verdict(log.state, 1, ordinal))
        log.add(claim()(log), after=INLINE.undo_ms)
        return log

    return build


def crowded_by_a_deferral() -> Log:
    """The one claim that fits was not sent."""
    log = crowded(1)()
    log.add(rec.EffectDeferred(**AT, claim=1, token="t1", not_before=0, reason="switch"))
    return log


def deferred_until() -> Log:
    """Deferred by a million milliseconds, then claimed and deferred without a time: the later time stands."""
    log = claimed()
    log.add(rec.EffectDeferred(**AT, claim=1, token="t1", not_before=log.now + 1 + MILLION, reason="switch"))
    return log


def twins() -> Log:
    """Two approved effects with the same words; one is claimed."""
    log = log_of_plan(row(1), row(2))
    for ordinal in (1, 2):
        log.add(rec.TaskPlanned(campaign=1, ordinal=ordinal, attempt=1))
        log.add(artifact(1, ordinal, 1, log.state["version"], proposal(input_version=log.state["version"], salt=str(ordinal))))
    for ordinal in (1, 2):
        log.add(verdict(log.state, 1, ordinal))
    log.add(claim()(log), after=INLINE.undo_ms)
    return log


def owing() -> Log:
    return paid()


@cache
def log_of(situation: Callable[[], Log]) -> Log:
    return situation()


@cache
def given_of(situation: Callable[[], Log]) -> Given:
    return given(log_of(situation))
