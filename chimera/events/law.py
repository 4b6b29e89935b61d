"""The law as a table: for every record who may write it, what must hold for it to count, and what it does.

Read it beside the law's page (`docs/law.md`). The guards are asked in order and the first reason given makes the record
void; what is left to `does` either applies or rejects. `chimera.events.fold` is the only reader of this table.

The rule not to break: a guard never changes anything, and nothing outside this table decides what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from chimera.events.does import agents as a
from chimera.events.does import campaigns as c
from chimera.events.does import effects as e
from chimera.events.does import quorum as q
from chimera.events.does import work as w
from chimera.events.envelope import Record
from chimera.events.state import Agent, Change

LAW = 1
"""The law number of this code. Before release 1.0 it may change (corpora are frozen anew)."""

Guard = Callable[[Agent, Record], str | None]
Does = Callable[[Agent, Record, list[Change]], str]


class Row(NamedTuple):
    """One row of the law."""

    who: str
    numbered: str
    """Which number makes a second copy void."""
    counts_when: tuple[Guard, ...]
    does: Does


COMMAND = "command number, or copy number of its source"
ATTEMPT = "campaign, ordinal, attempt"

_task = (c.campaign_open, c.task_there)
_votable = (*_task, q.artifact_waits, q.same_edition, q.same_hashes)
_effect = (*_task, e.effect_open)
_card = (*_task, q.artifact_waits, q.waits_for_people)

TABLE: Mapping[str, Row] = {
    # --- the agent ---
    "AgentEnrolled": Row("command", COMMAND, (), a.enrolled),
    "SoulAdopted": Row("command, courier", COMMAND, (), a.soul_adopted),
    "PolicyAdopted": Row("courier, command", COMMAND, (a.newer_edition,), a.policy_adopted),
    "AccountLinked": Row("command, courier", COMMAND, (), a.account_linked),
    "AccountUnlinked": Row("command, courier", COMMAND, (a.account_there,), a.account_unlinked),
    "AgentStatusSet": Row("command", COMMAND, (a.legal_step,), a.status_set),
    "AllowanceSet": Row("command, courier", COMMAND, (a.sane_allowance,), a.allowance_set),
    # --- campaigns and plans ---
    "CampaignStarted": Row("command, courier", COMMAND, (c.not_retired,), c.campaign_started),
    "BriefChanged": Row("command, courier", COMMAND, (c.campaign_open, c.not_cancelled, c.next_brief), c.brief_changed),
    "CampaignStatusSet": Row(
        "command, courier", COMMAND, (c.campaign_open, c.not_cancelled, c.other_status), c.campaign_status_set
    ),
    "PlanDrafted": Row(
        "planner",
        "campaign, round",
        (c.campaign_open, c.not_cancelled, c.next_round, c.current_brief, c.heard_so_many),
        c.plan_drafted,
    ),
    "TaskPlanned": Row("planner", ATTEMPT, (*_task, c.next_attempt, c.dependencies_done, c.room_for_task), c.task_planned),
    "CampaignCompleted": Row("planner", "campaign", (c.campaign_open, c.all_over), c.campaign_completed),
    # --- work ---
    "WorkStarted": Row("worker", ATTEMPT, (w.attempt_open, w.not_started, w.sane_lease), w.work_started),
    "ArtifactProduced": Row("worker", ATTEMPT, (w.attempt_open, w.same_input, w.started_if_costly), w.artifact_produced),
    "WorkFailed": Row(
        "worker; anyone once the start's lease is over", ATTEMPT, (w.attempt_open, w.lost_only_after_lease), w.work_failed
    ),
    "SignalObserved": Row("worker", "number of its source", (a.next_signal,), a.signal_observed),
    # --- votes ---
    "JudgeVerdict": Row("judge", f"{ATTEMPT}, edit, edition, judge", (*_votable, q.first_vote_of_judge), q.judge_verdict),
    "HumanApproved": Row(
        "command", f"{ATTEMPT}, edit, edition, person", (*_votable, q.waits_for_people, q.entitled), q.human_approved
    ),
    "HumanRejected": Row("command", f"{ATTEMPT}, edit", (*_card, q.names_effect), q.human_rejected),
    "HumanEdited": Row("command", f"{ATTEMPT}, edit", (*_card, q.next_edit, q.same_edition, q.entitled), q.human_edited),
    "FundsAnswered": Row("courier", "copy number of its source", (), q.funds_answered),
    # --- effects ---
    "EffectWithdrawn": Row("command", COMMAND, (*_effect, e.names_hash, e.is_approved), e.effect_withdrawn),
    "EffectClaimed": Row(
        "executor", f"{ATTEMPT}, claim", (*_effect, e.names_hash, e.next_claim, e.is_approved, w.sane_lease), e.effect_claimed
    ),
    "EffectSubmitted": Row(
        "executor",
        f"{ATTEMPT}, claim",
        (*_effect, e.current_claim, e.current_token, e.just_claimed, w.sane_lease),
        e.effect_submitted,
    ),
    "EffectDeferred": Row(
        "executor", f"{ATTEMPT}, claim", (*_effect, e.current_claim, e.current_token, e.known_not_sent), e.effect_deferred
    ),
    "EffectUnknown": Row(
        "holder; anyone once the lease is over",
        f"{ATTEMPT}, claim",
        (*_effect, e.current_claim, e.may_say_unknown),
        e.effect_unknown,
    ),
    "EffectEnded": Row("executor; command with proof", f"{ATTEMPT}, claim", (*_effect, e.may_end), e.effect_ended),
    "Expired": Row("planner", ATTEMPT, (*_effect, e.is_over), e.expired),
    # --- copies ---
    "CopiesDelivered": Row("courier", "copy number", (a.undelivered,), a.copies_delivered),
}
"""`LawAdopted` is not here: it belongs to the partition, not to an agent (`chimera.events.partition`)."""
