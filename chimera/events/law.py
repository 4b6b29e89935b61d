"""The law as two tables, the agent's and the tenant's: for every record who may write it, what must hold for it to count, and
what it does.

Read it beside the law's page (`docs/law.md`). The guards are asked in order and the first reason given makes the record
void; what is left to `does` either applies or rejects. `chimera.events.fold` is the only reader of this table.

The rule not to break: a guard never changes anything, and nothing outside this table decides what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from chimera.events.does import agents as a
from chimera.events.does import campaigns as c
from chimera.events.does import copies as k
from chimera.events.does import effects as e
from chimera.events.does import ledger as m
from chimera.events.does import publishing as p
from chimera.events.does import quorum as q
from chimera.events.does import tenants as t
from chimera.events.does import work as w
from chimera.events.envelope import Record
from chimera.events.state import Agent, Change
from chimera.events.tenant import Tenant

LAW = 1
"""The law number of this code. Before release 1.0 it may change (corpora are frozen anew)."""

Stream = TypeVar("Stream", Agent, Tenant)


class Row(NamedTuple, Generic[Stream]):
    """One row of the law."""

    who: str
    numbered: str
    """Which number makes a second copy void."""
    counts_when: tuple[Callable[[Stream, Record], str | None], ...]
    does: Callable[[Stream, Record, list[Change]], str]


class TaskRow(NamedTuple):
    """One row of the law about a task: `THERE` is asked first, and all else where the record lands, which is found once."""

    who: str
    numbered: str
    counts_when: tuple[Callable[[c.Spot, Record], str | None], ...]
    does: Callable[[c.Spot, Record, list[Change]], str]


THERE = (c.campaign_open, c.task_there)
"""Guards of every record about a task, before those of its row: `spot_of` gives their reasons."""
COMMAND = "command number, or copy number of its source"
ATTEMPT = "campaign, ordinal, attempt"

_votable = (q.artifact_waits, q.same_edition, q.same_hashes)
_card = (q.artifact_waits, q.waits_for_people)

TABLE: Mapping[str, Row[Agent] | TaskRow] = {
    # --- the agent ---
    "AgentEnrolled": Row("command", COMMAND, (), a.enrolled),
    "SoulAdopted": Row("command, courier", COMMAND, (), a.soul_adopted),
    "PolicyAdopted": Row("courier, command", COMMAND, (a.newer_edition,), a.policy_adopted),
    "AccountLinked": Row("command, courier", COMMAND, (), a.account_linked),
    "AccountUnlinked": Row("command, courier", COMMAND, (a.account_there,), a.account_unlinked),
    "ToolChanged": Row("command", COMMAND, (a.account_there,), a.tool_changed),
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
    "TaskPlanned": TaskRow("planner", ATTEMPT, (c.next_attempt, c.dependencies_done, c.room_for_task), c.task_planned),
    "CampaignCompleted": Row("planner", "campaign", (c.campaign_open, c.all_over), c.campaign_completed),
    # --- work ---
    "WorkStarted": TaskRow("worker", ATTEMPT, (w.attempt_open, w.not_started, w.sane_lease), w.work_started),
    "ArtifactProduced": TaskRow("worker", ATTEMPT, (w.attempt_open, w.same_input, w.started_if_costly), w.artifact_produced),
    "WorkFailed": TaskRow(
        "worker; anyone once the start's lease is over", ATTEMPT, (w.attempt_open, w.lost_only_after_lease), w.work_failed
    ),
    "SignalObserved": Row("worker", "number of its source", (a.next_signal,), a.signal_observed),
    # --- votes ---
    "JudgeVerdict": TaskRow("judge", f"{ATTEMPT}, edit, edition, judge", (*_votable, q.first_vote_of_judge), q.judge_verdict),
    "HumanApproved": TaskRow(
        "command", f"{ATTEMPT}, edit, edition, person", (*_votable, q.waits_for_people, q.entitled), q.human_approved
    ),
    "HumanRejected": TaskRow("command", f"{ATTEMPT}, edit", (*_card, q.names_effect), q.human_rejected),
    "HumanEdited": TaskRow("command", f"{ATTEMPT}, edit", (*_card, q.next_edit, q.same_edition, q.entitled), q.human_edited),
    "CardHoldSet": TaskRow("command", COMMAND, (*_card, q.names_effect, q.may_hold), q.card_hold_set),
    "FundsAnswered": Row("courier", "copy number of its source", (), q.funds_answered),
    # --- effects ---
    "EffectWithdrawn": TaskRow("command", COMMAND, (e.effect_open, e.names_hash, e.is_approved), e.effect_withdrawn),
    "EffectClaimed": TaskRow(
        "executor", f"{ATTEMPT}, claim", (e.effect_open, e.names_hash, e.next_claim, e.is_approved, w.sane_lease), e.effect_claimed
    ),
    "EffectSubmitted": TaskRow(
        "executor",
        f"{ATTEMPT}, claim",
        (e.effect_open, e.current_claim, e.current_token, e.just_claimed, w.sane_lease),
        e.effect_submitted,
    ),
    "EffectDeferred": TaskRow(
        "executor", f"{ATTEMPT}, claim", (e.effect_open, e.current_claim, e.current_token, e.known_not_sent), e.effect_deferred
    ),
    "EffectUnknown": TaskRow(
        "holder; anyone once the lease is over",
        f"{ATTEMPT}, claim",
        (e.effect_open, e.current_claim, e.may_say_unknown),
        e.effect_unknown,
    ),
    "EffectEnded": TaskRow("executor; command with proof", f"{ATTEMPT}, claim", (e.effect_open, e.may_end), e.effect_ended),
    "Expired": TaskRow("planner", ATTEMPT, (e.effect_open, e.is_over), e.expired),
    # --- copies ---
    "CopiesDelivered": Row("courier", "copy number", (k.undelivered,), k.copies_delivered),
}
"""The agent's stream. `LawAdopted` is not here: it belongs to the partition, not to an agent (`chimera.events.partition`)."""

COPY = "copy number of its source"

_campaign = (p.opened_there,)

TENANT_TABLE: Mapping[str, Row[Tenant]] = {
    # --- the tenant: who belongs to it, what is whose, who may be paid how much ---
    "TenantCreated": Row("command", "command number", (), t.tenant_created),
    "BudgetSet": Row("command", "command number", (t.sane_budget, t.may_vote), t.budget_set),
    "PayeeAllowed": Row("command", "command number", (t.other_payee, t.may_vote), t.payee_allowed),
    "PayeeRemoved": Row("command", "command number", (t.payee_there,), t.payee_removed),
    "AgentJoined": Row("command", "command number", (t.other_groups,), t.agent_joined),
    "AgentLeft": Row("command", "command number", (t.member_there,), t.agent_left),
    "AccountClaimed": Row("command", "command number", (t.member_there,), t.account_claimed),
    "AccountReleased": Row("command", "command number", (t.account_claimed_there,), t.account_released),
    "AccountVerified": Row("command", "command number", (t.account_claimed_there, t.same_credential), t.account_verified),
    "SubjectForgotten": Row("command", "command number", (), t.subject_forgotten),
    # --- what it publishes: owed to each agent that it is for ---
    "PolicyPublished": Row("command", "command number", (p.newer_policy,), p.policy_published),
    "SoulPublished": Row("command", "command number", (p.newer_soul,), p.soul_published),
    "CampaignOpened": Row("command", "command number", (p.id_free,), p.campaign_opened),
    "CampaignChanged": Row("command", "command number", (*_campaign, p.next_change), p.campaign_changed),
    "TenantCampaignStatusSet": Row("command", "command number", (*_campaign, p.other_tenant_status), p.tenant_campaign_status_set),
    # --- the ledger ---
    "FundsRequested": Row("courier", COPY, (m.from_agent, m.sane_request, m.asked_once), m.funds_requested),
    "FundsSettled": Row("courier", COPY, (m.was_asked,), m.funds_settled),
    "DayOpened": Row("courier", "day", (m.day_is_new, m.somebody_waits), m.day_opened),
    # --- copies ---
    "CopiesDelivered": Row("courier", "copy number", (k.undelivered,), k.copies_delivered),
}
"""The tenant's stream."""
