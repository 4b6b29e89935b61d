"""What each role owes, as given(history) at a time, and when(record) what it owes then: `due` is a pure question.

The rule not to break: every history here is folded by the real fold, and asking twice gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from chimera.events import records as rec
from chimera.events.fold import fold
from chimera.events.hashes import digest
from chimera.events.state import Agent
from chimera.processors import executor, judge, planner, worker
from chimera.processors.jobs import Due, Job
from tests.histories import INLINE, Log, artifact, planned, proposal, row, verdict, vote_fields

AT = {"campaign": 1, "ordinal": 1, "attempt": 1}
LEASE_MS = 60_000
Asked = Callable[[Agent, int], Due]


def state(log: Log) -> Agent:
    """The real fold's state after a history."""
    agent: Agent | None = None
    for r in log.records:
        agent, _ = fold(log.law, agent, r)
    assert agent is not None
    return agent


def owed(due: Asked, log: Log, *, after: int = 0) -> list[tuple[str, int, int]]:
    """(what, ordinal, attempt) of every debt `after` milliseconds."""
    return [(job.what, job.ordinal, job.attempt) for job in jobs(due, log, after=after)]


def jobs(due: Asked, log: Log, *, after: int = 0) -> list[Job]:
    """The debts; asked twice, because nothing may be remembered between."""
    agent = state(log)
    first, second = due(agent, log.now + after), due(agent, log.now + after)
    assert first == second
    assert len({job.key for job in first.jobs}) == len(first.jobs), "two debts under one key"
    return first.jobs


def wake(due: Asked, log: Log) -> int | None:
    """When to ask again, in milliseconds from the last record."""
    at = due(state(log), log.now).wake_at
    return None if at is None else at - log.now


# --- histories -------------------------------------------------------------------------------------------------------


def plan(*rows: rec.PlanRow) -> Log:
    return planned(*rows) if rows else planned(row(1), row(2, depends_on=[1]))


def started() -> Log:
    """A campaign that nobody has planned yet."""
    log = planned()
    log.command(rec.CampaignStarted, actor="dee", campaign_id="c-2", name="two", brief={}, brief_hash="b")
    return log


def opened(*rows: rec.PlanRow) -> Log:
    log = plan(*rows)
    assert log.add(rec.TaskPlanned(**AT))[0] == "applied"
    return log


def proposed(**effect: Any) -> Log:
    log = opened()
    assert log.add(artifact(1, 1, 1, 3, proposal(input_version=3, **effect)))[0] == "applied"
    return log


def people() -> Log:
    log = proposed()
    log.add(verdict(log.state, 1, 1, confidence=0.8))
    return log


def approved(**effect: Any) -> Log:
    log = proposed(**effect)
    log.add(verdict(log.state, 1, 1))
    return log


def claimed(**effect: Any) -> Log:
    log = approved(**effect)
    claim = rec.EffectClaimed(
        **AT, effect_hash=proposal(input_version=3, **effect).effect_hash, claim=1, token="t1", lease_ms=LEASE_MS
    )
    assert log.add(claim, after=INLINE.undo_ms)[0] == "applied"
    return log


def unknown(**effect: Any) -> Log:
    log = claimed(**effect)
    assert log.add(rec.EffectUnknown(**AT, claim=1, token="t1", reason="timeout"))[0] == "applied"
    return log


def paused(log: Log) -> Log:
    log.command(rec.AgentStatusSet, status="paused")
    return log


def resumed(log: Log, *, after: int) -> Log:
    log.command(rec.AgentStatusSet, status="active", after=after)
    return log


# --- planner ---------------------------------------------------------------------------------------------------------


def test_a_started_campaign_owes_its_plan_and_nothing_more_until_it_has_one() -> None:
    assert owed(planner.due, started()) == [("open", 1, 1), ("plan", 0, 0)]


def test_a_plan_that_was_rejected_thrice_is_owed_no_more_until_the_brief_changes() -> None:
    log = started()
    for round_ in (1, 2, 3):
        assert ("plan", 0, 0) in owed(planner.due, log)
        assert log.add(rec.PlanDrafted(campaign=2, round=round_, brief_edition=1, rows=[row(7)]))[0] == "rejected"
    assert ("plan", 0, 0) not in owed(planner.due, log)
    log.command(rec.BriefChanged, campaign=2, edition=2, brief={}, brief_hash="b2")
    assert ("plan", 0, 0) in owed(planner.due, log)


def test_only_tasks_whose_dependencies_are_done_are_opened() -> None:
    log = plan()
    assert owed(planner.due, log) == [("open", 1, 1)]
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3))
    assert owed(planner.due, log) == []
    log.add(verdict(log.state, 1, 1))
    assert owed(planner.due, log) == [("open", 2, 1)]


def test_a_paused_agent_owes_no_new_attempt_and_a_resumed_one_owes_it_again() -> None:
    log = plan()
    assert owed(planner.due, paused(log), after=10**9) == []
    assert owed(planner.due, resumed(log, after=1_000)) == [("open", 1, 1)]


def test_a_paused_campaign_owes_no_new_attempt() -> None:
    log = plan()
    log.command(rec.CampaignStatusSet, campaign=1, status="paused")
    assert owed(planner.due, log) == []


def test_an_attempt_that_was_rejected_for_a_closed_gate_is_not_owed_while_the_gate_is_closed() -> None:
    log = paused(plan())
    assert log.add(rec.TaskPlanned(**AT))[0] == "rejected"
    assert owed(planner.due, log) == []
    assert owed(planner.due, resumed(log, after=1)) == [("open", 1, 2)]


def test_an_attempt_that_costs_more_than_is_left_waits_for_the_next_window() -> None:
    log = plan(row(1, max_cost_usd=Decimal(6)), row(2, max_cost_usd=Decimal(6)))
    assert owed(planner.due, log) == [("open", 1, 1), ("open", 2, 1)]
    log.add(rec.TaskPlanned(**AT))
    assert owed(planner.due, log) == []
    ahead = wake(planner.due, log)
    assert ahead is not None
    assert owed(planner.due, log, after=ahead) == [("open", 2, 1)]


def test_a_task_planned_for_later_is_opened_then() -> None:
    log = plan(row(1))
    log = planned(row(1, not_before=log.now + 500))
    ahead = wake(planner.due, log)
    assert ahead is not None
    assert owed(planner.due, log, after=ahead - 1) == []
    assert owed(planner.due, log, after=ahead) == [("open", 1, 1)]


def test_a_stale_task_is_owed_again_and_its_neighbour_that_read_something_else_is_not() -> None:
    log = opened(row(1, reads=["soul"]), row(2, reads=["account/x"]))
    log.add(rec.TaskPlanned(**{**AT, "ordinal": 2}))
    assert owed(planner.due, log) == []
    log.command(rec.SoulAdopted, digest="d2", soul="loud")
    assert owed(planner.due, log) == [("open", 1, 2)]


def test_a_committed_effect_is_not_planned_again_whatever_is_written_afterwards() -> None:
    log = approved()
    log.command(rec.CampaignStatusSet, campaign=1, status="paused")
    log.command(rec.CampaignStatusSet, campaign=1, status="running")
    log.command(rec.SoulAdopted, digest="d2", soul="loud")
    assert ("open", 1, 2) not in owed(planner.due, log)


def test_a_card_expires_after_its_time_and_held_time_does_not_count() -> None:
    log = people()
    assert wake(planner.due, log) == INLINE.expiry_ms
    assert owed(planner.due, log, after=INLINE.expiry_ms - 1) == []
    assert owed(planner.due, log, after=INLINE.expiry_ms) == [("expire", 1, 1)]
    paused(log)
    assert owed(planner.due, log, after=10 * INLINE.expiry_ms) == []
    resumed(log, after=10 * INLINE.expiry_ms)
    left = wake(planner.due, log)
    assert left is not None
    assert INLINE.expiry_ms - 10 <= left <= INLINE.expiry_ms
    assert owed(planner.due, log, after=left) == [("expire", 1, 1)]


def test_an_expiry_that_the_planner_owes_is_accepted_by_the_law_at_that_very_time() -> None:
    log = people()
    paused(log)
    resumed(log, after=700)
    left = wake(planner.due, log)
    assert left is not None
    expired = rec.Expired(**AT, what="card")
    assert log.copy().add(expired, after=left - 1)[0] == "void"
    assert log.copy().add(expired, after=left)[0] == "applied"


def test_an_approval_lapses_when_nobody_claims_it() -> None:
    log = approved()
    assert wake(planner.due, log) == INLINE.lapse_ms
    assert owed(planner.due, log, after=INLINE.lapse_ms) == [("expire", 1, 1)]


def test_a_campaign_whose_tasks_are_all_over_is_completed_once() -> None:
    log = opened(row(1))
    log.add(artifact(1, 1, 1, 3))
    log.add(verdict(log.state, 1, 1))
    assert owed(planner.due, log) == [("complete", 0, 0)]
    assert log.add(rec.CampaignCompleted(campaign=1))[0] == "applied"
    assert owed(planner.due, log) == []


# --- worker ----------------------------------------------------------------------------------------------------------


def test_an_open_task_is_worked_on_until_its_artifact_is_there() -> None:
    log = opened()
    assert owed(worker.due, log) == [("work", 1, 1)]
    log.add(artifact(1, 1, 1, 3))
    assert owed(worker.due, log) == []


def test_work_that_began_before_a_pause_is_finished_in_it() -> None:
    """A pause holds what is new; an attempt that is open already ends by its own record (law, rule 3: gates destroy nothing)."""
    assert owed(worker.due, paused(opened())) == [("work", 1, 1)]


def test_a_costly_task_is_started_first_and_lost_when_the_lease_is_over() -> None:
    log = opened(row(1, costly=True, max_cost_usd=Decimal(1)))
    assert [job.facts["start"] for job in jobs(worker.due, log)] == [True]
    log.add(rec.WorkStarted(**AT, lease_ms=1_000))
    assert wake(worker.due, log) == 1_000
    assert owed(worker.due, log, after=999) == [], "it belongs to whoever started it"
    assert owed(worker.due, log, after=1_000) == [("lost", 1, 1)]
    assert log.copy().add(rec.WorkFailed(**AT, reason="lost", lost=True), after=1_000)[0] == "applied"


def test_a_task_open_for_longer_than_a_lease_asks_for_a_start() -> None:
    log = opened()
    assert [job.facts["start"] for job in jobs(worker.due, log, after=worker.LONG_OPEN_MS)] == [False]
    assert [job.facts["start"] for job in jobs(worker.due, log, after=worker.LONG_OPEN_MS + 1)] == [True]


def test_work_that_failed_waits_for_the_planner_and_knows_why() -> None:
    log = opened()
    log.add(rec.WorkFailed(**AT, reason="the feed is broken"))
    assert owed(worker.due, log) == []
    assert owed(planner.due, log) == [("open", 1, 2)]
    log.add(rec.TaskPlanned(**{**AT, "attempt": 2}))
    (job,) = jobs(worker.due, log)
    assert job.attempt == 2
    assert job.facts["feedback"] is not None


# --- judge -----------------------------------------------------------------------------------------------------------


def test_an_artifact_is_voted_on_once_per_edition() -> None:
    log = proposed()
    (job,) = jobs(judge.due, log)
    assert job.what == "content"
    log.add(verdict(log.state, 1, 1, confidence=0.8))
    assert owed(judge.due, log) == []
    log.command(rec.PolicyAdopted, edition=2, digest="p2", editor="eve", inline=INLINE)
    (again,) = jobs(judge.due, log)
    assert again.key != job.key
    assert again.facts["edition"] == 2


def test_an_edited_card_is_judged_again() -> None:
    log = people()
    text = "a better post about tea"
    effect = proposal(text, input_version=3)
    content = {"text": text}
    votes = {k: v for k, v in vote_fields(1, 1, 1, log.state).items() if k in rec.HumanEdited.model_fields}
    edited = rec.HumanEdited(
        **{**votes, "edit": 1, "artifact_hash": digest(content)},
        old_effect_hash=proposal(input_version=3).effect_hash,
        content=content,
        effect=effect,
        shown_hash="h",
    )
    assert log.add(edited, actor="ann")[0] == "applied"
    (job,) = jobs(judge.due, log)
    assert (job.what, job.facts["edit"], job.facts["effect_hash"]) == ("content", 1, effect.effect_hash)


def test_what_costs_money_is_also_asked_of_the_cfo() -> None:
    log = proposed(effect_class="paid", cost=Decimal(2))
    assert {job.what for job in jobs(judge.due, log)} == {"content"}, "the ledger answers first"
    copied = rec.Copied(source="tenant/acme", number=1)
    log.add(rec.FundsAnswered(campaign=1, ordinal=1, attempt=1, copied=copied, answer="over_budget"))
    assert {job.what for job in jobs(judge.due, log)} == {"content"}
    log.add(rec.FundsAnswered(campaign=1, ordinal=1, attempt=1, copied=copied.model_copy(update={"number": 2}), answer="held"))
    assert {job.what for job in jobs(judge.due, log)} == {"content", "cfo"}


def test_the_judge_owes_nothing_on_what_was_approved_or_waits_for_people() -> None:
    assert owed(judge.due, approved()) == owed(judge.due, people()) == []


# --- executor --------------------------------------------------------------------------------------------------------


def test_an_approved_effect_is_claimed_after_its_undo_window() -> None:
    log = approved()
    assert owed(executor.due, log, after=INLINE.undo_ms - 1) == []
    assert owed(executor.due, log, after=INLINE.undo_ms) == [("claim", 1, 1)]
    assert wake(executor.due, log) == INLINE.undo_ms


def test_nothing_is_claimed_without_a_quorum() -> None:
    assert owed(executor.due, proposed(), after=10**9) == owed(executor.due, people(), after=10**9) == []


@pytest.mark.parametrize("gate", ["agent", "campaign"])
def test_nothing_is_claimed_while_a_gate_is_closed(gate: str) -> None:
    log = approved()
    if gate == "agent":
        paused(log)
    else:
        log.command(rec.CampaignStatusSet, campaign=1, status="paused")
    assert owed(executor.due, log, after=10**6) == []
    assert wake(executor.due, log) is None
    if gate == "agent":
        resumed(log, after=1_000)
    else:
        log.command(rec.CampaignStatusSet, campaign=1, status="running", after=1_000)
    assert owed(executor.due, log) == [("claim", 1, 1)]


def test_an_effect_is_not_claimed_before_its_own_time() -> None:
    at = approved().now + 3_000
    log = approved(not_before=at)
    assert owed(executor.due, log, after=at - log.now - 1) == []
    assert owed(executor.due, log, after=at - log.now) == [("claim", 1, 1)]


def test_a_claim_belongs_to_whoever_made_it_until_its_lease_is_over() -> None:
    log = claimed()
    assert owed(executor.due, log) == []
    assert wake(executor.due, log) == LEASE_MS
    assert owed(executor.due, log, after=LEASE_MS) == [("lost", 1, 1)]


def test_a_lost_lease_stays_owed_while_the_agent_is_paused() -> None:
    assert owed(executor.due, paused(claimed()), after=LEASE_MS) == [("lost", 1, 1)]


def test_an_unknown_call_of_a_keyed_tool_ends_as_not_executed_after_lease_and_grace_and_is_claimed_again() -> None:
    log = unknown()
    left = LEASE_MS + INLINE.grace_ms - 1
    assert owed(executor.due, log, after=left - 1) == []
    assert owed(executor.due, log, after=left) == [("keyed", 1, 1)]
    ended = rec.EffectEnded(**AT, claim=1, outcome="not_executed", proof={"rule": "keyed"}, reason="unknown, keyed tool")
    assert log.copy().add(ended, after=left - 1)[0] == "void"
    assert log.add(ended, after=left)[0] == "applied"
    (job,) = jobs(executor.due, log)
    assert (job.what, job.number) == ("claim", 2)


def test_an_unknown_call_that_can_be_looked_up_is_looked_up_after_lease_and_grace() -> None:
    log = unknown(tool_class="reconcilable")
    left = LEASE_MS + INLINE.grace_ms - 1
    assert owed(executor.due, log, after=left - 1) == []
    assert owed(executor.due, log, after=left) == [("look", 1, 1)]


def test_an_unknown_call_of_a_tool_that_may_be_called_once_only_waits_for_a_person() -> None:
    assert owed(executor.due, unknown(tool_class="at_most_once"), after=10**9) == []


def test_a_submitted_job_is_polled_and_unknown_when_its_lease_is_over() -> None:
    log = claimed()
    assert log.add(rec.EffectSubmitted(**AT, claim=1, token="t1", handle="job-7", lease_ms=10_000))[0] == "applied"
    (job,) = jobs(executor.due, log)
    assert (job.what, job.facts["handle"], job.facts["token"]) == ("poll", "job-7", "t1")
    assert owed(executor.due, log, after=9_999) == [("poll", 1, 1)]
    assert owed(executor.due, log, after=10_000) == [("lost", 1, 1)]


@pytest.mark.parametrize("tool_class", ["at_most_once", "reconcilable"])
def test_an_unknown_end_of_a_submitted_job_is_asked_for_by_its_handle(tool_class: str) -> None:
    log = claimed(tool_class=tool_class)
    log.add(rec.EffectSubmitted(**AT, claim=1, token="t1", handle="job-7", lease_ms=10_000))
    log.add(rec.EffectUnknown(**AT, claim=1, reason="lease over"), after=10_000)
    assert owed(executor.due, log, after=INLINE.grace_ms) == [("look", 1, 1)]


def test_a_deferred_effect_is_claimed_again_not_before_its_time() -> None:
    log = claimed()
    log.add(rec.EffectDeferred(**AT, claim=1, token="t1", not_before=log.now + 5_000, reason="rate limit"))
    assert owed(executor.due, log) == []
    ahead = wake(executor.due, log)
    assert ahead is not None
    assert 4_000 < ahead <= 5_000
    assert [job.number for job in jobs(executor.due, log, after=ahead)] == [2]


def test_an_executed_effect_owes_nothing_to_anybody() -> None:
    log = claimed()
    log.add(rec.EffectEnded(**AT, claim=1, token="t1", outcome="executed", platform_id="1"))
    for due in (executor.due, judge.due, worker.due):
        assert owed(due, log, after=10**9) == []
