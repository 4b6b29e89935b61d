"""Sentences of the law that two readings read differently, as they were settled: each with what must come of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from chimera.events import records as rec
from chimera.events.fold import fold
from chimera.events.hashes import digest
from chimera.events.state import Agent
from tests.histories import INLINE, Log, agent_with_policy, artifact, planned, proposal, record, row, verdict, vote_fields
from tests.lawspec import fold_all, given

AT = {"campaign": 1, "ordinal": 1, "attempt": 1}


def proposed(inline: rec.PolicyInline = INLINE, **effect: Any) -> Log:
    """An effect that waits for votes."""
    log = planned(row(1), inline=inline)
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3, **effect)))
    return log


def held(log: Log) -> Log:
    """The tenant holds the funds."""
    log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    return log


def edited(log: Log) -> rec.HumanEdited:
    """The card's bytes, replaced."""
    old, content = log.state["campaigns"][1]["tasks"][1]["effect"]["proposal"], {"text": "better words"}
    new = proposal("better words", input_version=3, effect_class=old.effect_class, cost=old.max_cost_usd)
    return rec.HumanEdited(
        **AT,
        policy_edition=log.state["policy"]["edition"],
        old_effect_hash=old.effect_hash,
        edit=1,
        artifact_hash=digest(content),
        content=content,
        effect=new,
    )


def test_at_or_above_an_amount_people_must_approve() -> None:
    """AmountTier: "At or above `amount_usd`, `people` distinct people must approve." """
    inline = INLINE.model_copy(update={"amount_tiers": [rec.AmountTier(amount_usd=Decimal(1), people=2)]})
    log = held(proposed(inline, effect_class="paid", cost=Decimal(2)))
    log.add(verdict(log.state, 1, 1, judge="cfo"))
    assert given(log).when(verdict(log.state, 1, 1)).changed("effect") == ["people"]


def test_a_financial_effect_that_says_it_costs_nothing_still_needs_people() -> None:
    """ "financial also people, unless policy names a small automatic limit"; the worker names its own max cost."""
    log = proposed(effect_class="financial", cost=Decimal(0))
    log.add(verdict(log.state, 1, 1, judge="cfo"))
    assert given(log).when(verdict(log.state, 1, 1)).changed("effect") == ["people"]


def test_a_sensitive_tag_from_the_cfo_judge_asks_people() -> None:
    """ "no sensitive tag from anyone"."""
    log = held(proposed(effect_class="paid", cost=Decimal(2)))
    log.add(verdict(log.state, 1, 1, judge="cfo", tags=["politics"]))
    assert given(log).when(verdict(log.state, 1, 1)).changed("effect") == ["people"]


def test_an_unusable_vote_after_an_edit_asks_people_and_commits_nothing() -> None:
    """Rejected "changes only that task or effect", and "bad_value → people": the editor voted before, nobody voted after."""
    log = proposed()
    log.add(verdict(log.state, 1, 1, confidence=0.8))
    log.add(edited(log), actor="ann")
    then = given(log).when(verdict(log.state, 1, 1, confidence=None))
    assert then.said == ("rejected", "bad_value")
    assert then.changed("effect") == ["people"]
    assert then.ruling.version == then.ruling.version_before


def test_work_that_costs_nothing_goes_on_when_the_allowance_is_overdrawn() -> None:
    """ "max_cost reserved": nothing is to be reserved. (Actual cost above max_cost is applied, so this happens.)"""
    log = planned(row(1, max_cost_usd=Decimal(10)), row(2))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3, cost=Decimal(11)))
    assert given(log).when(rec.TaskPlanned(**{**AT, "ordinal": 2})).said == ("applied", "")


def test_a_kind_that_policy_makes_strict_reads_everything_from_then_on() -> None:
    """ "`*` is what policy may demand for a kind of task": also for rows that an earlier round planned and nobody opened."""
    log = planned(row(1))
    strict = INLINE.model_copy(update={"strict_kinds": ["post"]})
    log.command(rec.PolicyAdopted, edition=2, digest="p", editor="eve", inline=strict)
    assert given(log).when(rec.TaskPlanned(**AT)).task().aspects == ("*",)


def test_a_stale_attempt_can_be_replaced_while_500_are_open() -> None:
    """ "< 500 open": with 500 stale attempts open none could ever be planned again."""
    log = planned(*(row(i + 1) for i in range(500)))
    for i in range(500):
        log.records.append(record(rec.TaskPlanned(campaign=1, ordinal=i + 1, attempt=1), len(log.records), log.now + 1))
    changed = rec.BriefChanged(command_no=log.state["command_no"] + 1, campaign=1, edition=2, brief={}, brief_hash="b")
    log.records.append(record(changed, len(log.records), log.now + 1))
    assert given(log).when(rec.TaskPlanned(**{**AT, "attempt": 2})).said == ("applied", "")


def test_a_frequency_of_no_claims_lets_nothing_out() -> None:
    """ "At most `claims` effects on one account within `window_ms`": who writes 0 wants none, not any number."""
    inline = INLINE.model_copy(update={"frequency": {"x": rec.Frequency(claims=0, window_ms=1_000)}})
    log = proposed(inline)
    log.add(verdict(log.state, 1, 1))
    effect_hash = log.state["campaigns"][1]["tasks"][1]["effect"]["proposal"].effect_hash
    claimed = rec.EffectClaimed(**AT, effect_hash=effect_hash, claim=1, token="t", lease_ms=9)
    assert given(log).when(claimed, after=INLINE.undo_ms).said == ("rejected", "too_frequent")


def test_a_refusal_with_proof_counts_while_the_job_is_submitted() -> None:
    """ "refused: current token or proof" (only not_executed asks for unknown): any executor may poll a submitted job."""
    log = proposed()
    log.add(verdict(log.state, 1, 1))
    effect_hash = log.state["campaigns"][1]["tasks"][1]["effect"]["proposal"].effect_hash
    log.add(rec.EffectClaimed(**AT, effect_hash=effect_hash, claim=1, token="t", lease_ms=99), after=INLINE.undo_ms)
    log.add(rec.EffectSubmitted(**AT, claim=1, token="t", handle="job", lease_ms=99))
    assert given(log).when(rec.EffectEnded(**AT, claim=1, outcome="refused", proof={"job": "failed"})).said == ("applied", "")


def test_a_draft_that_failed_a_rule_needs_no_confidence() -> None:
    """ "a failed rule → failure": of an effect the same verdict is applied, of a draft it is rejected(bad_value)."""
    log = planned(row(1))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3))
    assert given(log).when(verdict(log.state, 1, 1, decision="fail", confidence=None)).said == ("applied", "")


# --- open ---------------------------------------------------------


def test_a_copy_is_signed() -> None:
    """ "facts cross as signed copies": a `copied` field must not be a way around the command service's signature."""
    log = agent_with_policy()
    policy = {"edition": 2, "digest": "p", "editor": "mallory", "inline": INLINE}
    forged = rec.PolicyAdopted(copied=rec.Copied(source="tenant/acme", number=1), **policy)
    assert given(log).when(forged, signed_by=None).said == ("void", "forged")


@pytest.mark.parametrize("row_", ["AgentStatusSet", "EffectWithdrawn"])
def test_what_only_the_command_service_may_write_is_no_copy(row_: str) -> None:
    """The rows AgentStatusSet and EffectWithdrawn say (command), not (command, courier)."""
    log = proposed()
    log.add(verdict(log.state, 1, 1))
    copied = rec.Copied(source="tenant/acme", number=1)
    effect_hash = log.state["campaigns"][1]["tasks"][1]["effect"]["proposal"].effect_hash
    forged: rec.Data = rec.AgentStatusSet(copied=copied, status="retired")
    if row_ == "EffectWithdrawn":
        forged = rec.EffectWithdrawn(**AT, copied=copied, effect_hash=effect_hash)
    assert given(log).when(forged).ruling.outcome != "applied"


def test_an_impossible_cost_of_an_executed_effect_settles_as_the_most_it_may_have_been() -> None:
    """ "owes FundsSettled(actual or 0)": an actual of -100 would give the tenant's budget money that nobody had, and 0 would
    give back what may well have been paid."""
    log = held(proposed(effect_class="paid", cost=Decimal(2)))
    log.add(verdict(log.state, 1, 1, judge="cfo"))
    log.add(verdict(log.state, 1, 1))
    effect_hash = log.state["campaigns"][1]["tasks"][1]["effect"]["proposal"].effect_hash
    log.add(rec.EffectClaimed(**AT, effect_hash=effect_hash, claim=1, token="t", lease_ms=99), after=INLINE.undo_ms)
    then = given(log).when(rec.EffectEnded(**AT, claim=1, token="t", outcome="executed", cost_usd=Decimal(-100)))
    assert then.changed("task") == ["done"]
    assert then.state is not None
    assert [owed.amount for owed in then.state.owed["tenant/acme"] if owed.what == "FundsSettled"] == [Decimal(2)]


def test_a_financial_effect_may_be_edited_but_its_editor_has_no_vote() -> None:
    """ "new hash with the editor's vote (never for finance)"; people: "none of them ... the editor for finance"."""
    log = held(proposed(effect_class="financial", cost=Decimal(2)))
    log.add(verdict(log.state, 1, 1, judge="cfo"))
    log.add(verdict(log.state, 1, 1))
    then = given(log).when(edited(log), actor="ann")
    assert then.said == ("applied", "")
    effect = then.task().effect
    assert effect is not None
    assert effect.approvals == []


def test_bytes_that_were_edited_after_their_commit_are_committed_again_or_not_at_all() -> None:
    """A commit's hash is "over artifact and metadata": what is approved after an edit must be what some commit binds."""
    log = proposed()
    log.add(verdict(log.state, 1, 1))
    log.command(rec.PolicyAdopted, edition=2, digest="p", editor="eve", inline=INLINE)
    log.add(verdict(log.state, 1, 1, confidence=0.8))
    log.add(edited(log), actor="ann")
    last = verdict(log.state, 1, 1)
    _, rulings = fold_all(log.law, [*log.records, record(last, len(log.records), log.now + 1)])
    changes = [change for ruling in rulings for change in ruling.changes]
    assert [change.status for change in changes if change.what == "effect"][-1] == "approved"
    assert last.commit_hash in {change.detail.split(" ")[2] for change in changes if change.what == "commit"}


def test_a_vote_on_the_card_as_it_was_before_the_edit_is_void() -> None:
    log = proposed()
    log.add(verdict(log.state, 1, 1, confidence=0.8))
    before = rec.HumanApproved(**vote_fields(1, 1, 1, log.state), shown_hash="h")
    log.add(edited(log), actor="ann")
    log.add(verdict(log.state, 1, 1, decision="people"))
    assert given(log).when(before, actor="bob").ruling.outcome == "void"


@pytest.mark.parametrize("back", ["deferred", "not_executed"])
def test_what_comes_back_from_a_claim_under_a_newer_policy_is_judged_again_before_the_next(back: str) -> None:
    """Rule 3 names the policy edition among the gates of a claim; effects "approved but unclaimed" are judged again. What was in
    flight when the edition came has the same votes of the old edition when it is approved and unclaimed again."""
    log = proposed()
    log.add(verdict(log.state, 1, 1))
    effect_hash = log.state["campaigns"][1]["tasks"][1]["effect"]["proposal"].effect_hash
    claimed = {**AT, "effect_hash": effect_hash, "lease_ms": 99}
    log.add(rec.EffectClaimed(**claimed, claim=1, token="t"), after=INLINE.undo_ms)
    log.command(rec.PolicyAdopted, edition=2, digest="p", editor="eve", inline=INLINE.model_copy(update={"shadow": True}))
    if back == "deferred":
        log.add(rec.EffectDeferred(**AT, claim=1, token="t", not_before=0, reason="switch"))
    else:
        log.add(rec.EffectUnknown(**AT, claim=1, token="t", reason="timeout"))
        log.add(rec.EffectEnded(**AT, claim=1, outcome="not_executed", proof={}), after=99 + INLINE.grace_ms)
    assert given(log).when(rec.EffectClaimed(**claimed, claim=2, token="u"), after=INLINE.undo_ms).ruling.outcome != "applied"


def test_a_planner_that_could_make_no_plan_has_made_none() -> None:
    """ "An impossible plan is rejected(bad_value)": the campaign must not end as completed because its brief is unreadable."""
    log = agent_with_policy()
    log.command(rec.CampaignStarted, campaign_id="c", name="n", brief={}, brief_hash="b")
    no_plan = rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[], reason="unreadable brief: goal: missing")
    assert given(log).when(no_plan).said == ("rejected", "bad_value")
    nothing_left = rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[])
    assert given(log).when(nothing_left).said == ("applied", "")


def refusal(**effect: Any) -> Log:
    """A person has refused the one card that waited."""
    log = proposed(**effect)
    log.add(verdict(log.state, 1, 1, decision="people"))
    named = {"policy_edition": 1, "effect_hash": log.state["campaigns"][1]["tasks"][1]["effect"]["proposal"].effect_hash}
    assert log.add(rec.HumanRejected(**AT, **named, reason_code="off_brand"), actor="ann")[0] == "applied"
    return log


def folded(log: Log) -> Agent:
    agent: Agent | None = None
    for r in log.records:
        agent, _ = fold(log.law, agent, r)
    assert agent is not None
    return agent


def test_refused_words_are_remembered_by_the_place_of_the_no_and_of_the_words() -> None:
    log = refusal()
    [lesson] = folded(log).lessons
    assert lesson.by.offset == log.records[-1].offset
    assert [r.offset for r in log.records if r.type == "ArtifactProduced"] == [lesson.about.offset]


def test_a_refused_takedown_says_nothing_about_words() -> None:
    assert folded(refusal(text_hash="")).lessons == []


def test_an_attempt_without_an_artifact_leaves_the_verdicts_reasons_standing_and_a_lost_one_does_not() -> None:
    log = proposed()
    log.add(verdict(log.state, 1, 1, decision="fail"))
    judged = log.records[-1].offset
    log.add(rec.TaskPlanned(campaign=1, ordinal=1, attempt=2))
    log.add(rec.WorkFailed(campaign=1, ordinal=1, attempt=2, reason="timeout", not_before=0))
    task = folded(log).campaigns[1].tasks[1]
    assert task.feedback is not None
    assert (task.wait_reason, task.feedback.offset) == ("timeout", judged)

    log.add(rec.TaskPlanned(campaign=1, ordinal=1, attempt=3))
    log.add(rec.WorkStarted(campaign=1, ordinal=1, attempt=3, lease_ms=100))
    log.add(rec.WorkFailed(campaign=1, ordinal=1, attempt=3, reason="lost", lost=True), after=100)
    task = folded(log).campaigns[1].tasks[1]
    assert task.feedback is not None
    assert task.feedback.offset == log.records[-1].offset


def test_what_is_to_wait_after_something_may_be_opened_so_long_after_that_was_done_and_no_earlier() -> None:
    log = planned(row(1), row(2, depends_on=[1], wait_ms=1_000))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3))
    log.add(verdict(log.state, 1, 1))
    done = log.now
    second = rec.TaskPlanned(campaign=1, ordinal=2, attempt=1)
    assert log.add(second, after=999)[:2] == ("rejected", "too_early")
    assert folded(log).campaigns[1].tasks[2].not_before == done + 1_000
    assert log.add(second.model_copy(update={"attempt": 2}))[0] == "applied"


def test_what_went_out_is_known_by_the_record_that_says_so_and_a_draft_by_none() -> None:
    log = proposed()
    log.add(verdict(log.state, 1, 1))
    log.add(rec.EffectClaimed(**AT, claim=1, token="t", effect_hash=_card(log).effect_hash, lease_ms=1_000), after=40_000)
    log.add(rec.EffectEnded(**AT, claim=1, token="t", outcome="executed", platform_id="p"))
    ended = folded(log).campaigns[1].done[1].ended
    assert ended is not None
    assert ended.offset == log.records[-1].offset

    draft = planned(row(1))
    draft.add(rec.TaskPlanned(**AT))
    draft.add(artifact(1, 1, 1, 3))
    draft.add(verdict(draft.state, 1, 1))
    assert folded(draft).campaigns[1].done[1].ended is None


def _card(log: Log) -> rec.EffectProposal:
    effect: rec.EffectProposal = log.state["campaigns"][1]["tasks"][1]["effect"]["proposal"]
    return effect
