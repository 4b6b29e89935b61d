"""Edges and sizes: thresholds to the last digit, many tasks side by side, changed briefs, pauses, and how small it stays."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from chimera.events import records as rec
from chimera.events.envelope import NewRecord, Record, SigningKey, decode, encode
from chimera.events.hashes import commit_hash, digest
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.state import Agent, Ruling
from chimera.events.state_codec import state_from_json, state_to_json
from tests.histories import (
    AGENT,
    INLINE,
    LAW,
    PEOPLE,
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
)
from tests.lawspec import fold, fold_all, given

AT = {"campaign": 1, "ordinal": 1, "attempt": 1}
TOPICS = ("tea", "rain", "stone", "bread", "glass", "moss", "wool", "salt", "clay", "reed")


class Writer:
    """Appends to the real fold only: fast enough for hundreds of tasks. `last` is the last ruling."""

    def __init__(self, log: Log) -> None:
        self.agent, _ = fold_all(log.law, log.records)
        self.offset, self.now, self.rulings = len(log.records), log.now, list[Ruling]()

    @property
    def state(self) -> Agent:
        assert self.agent is not None
        return self.agent

    def add(self, data: rec.Data, *, after: int = 1, actor: str = "svc") -> Ruling:
        self.now += after
        self.agent, ruling = fold(LAW, self.agent, record(data, self.offset, self.now, actor=actor))
        self.offset += 1
        self.rulings.append(ruling)
        return ruling

    def open(self, ordinal: int, attempt: int = 1) -> int:
        """Open an attempt; the version it reads."""
        assert self.add(rec.TaskPlanned(campaign=1, ordinal=ordinal, attempt=attempt)).outcome == "applied"
        return self.state.version

    def propose(self, ordinal: int, version: int, attempt: int = 1, *, thread: str | None = None) -> rec.ArtifactProduced:
        """The worker's answer, with words like no other's."""
        words = " ".join(f"{TOPICS[(ordinal * 7 + i * i) % 10]}{ordinal * 31 + i}" for i in range(9))
        made = artifact(1, ordinal, attempt, version, proposal(words, input_version=version, thread=thread), text=words)
        assert self.add(made).outcome == "applied"
        return made

    def vote(self, made: rec.ArtifactProduced, confidence: float | None = 0.97) -> Ruling:
        """The content judge's vote."""
        assert made.effect is not None
        at = {"campaign": made.campaign, "ordinal": made.ordinal, "attempt": made.attempt}
        named = (made.artifact_hash, made.effect.effect_hash)
        assert self.state.policy is not None
        return self.add(
            rec.JudgeVerdict(
                **at,
                policy_edition=self.state.policy.edition,
                input_state_version=made.input_state_version,
                artifact_hash=named[0],
                effect_hash=named[1],
                expected_output_version=self.state.version + 1,
                commit_hash=commit_hash(AGENT, f"1.{made.ordinal}", made.input_state_version, *named),
                judge="content",
                decision="pass",
                confidence_raw=confidence,
                confidence=confidence,
            )
        )

    def execute(self, made: rec.ArtifactProduced) -> Ruling:
        """Claim and end."""
        assert made.effect is not None
        at = {"campaign": made.campaign, "ordinal": made.ordinal, "attempt": made.attempt}
        claimed = rec.EffectClaimed(**at, effect_hash=made.effect.effect_hash, claim=1, token="t", lease_ms=1_000)
        ruling = self.add(claimed, after=INLINE.undo_ms)
        if ruling.outcome == "applied":
            ruling = self.add(rec.EffectEnded(**at, claim=1, token="t", outcome="executed", platform_id=f"p{made.ordinal}"))
        return ruling


# --- thresholds ------------------------------------------------------------------------------------------------------

APPROVED, PEOPLE_ASKED, FAILED = ["approved"], ["people"], ["rejected"]


@pytest.mark.parametrize(
    ("confidence", "said", "effect"),
    [
        (0.9000001, ("applied", ""), APPROVED),
        (1.0, ("applied", ""), APPROVED),
        (0.90, ("applied", ""), PEOPLE_ASKED),
        (0.7000001, ("applied", ""), PEOPLE_ASKED),
        (0.70, ("applied", ""), PEOPLE_ASKED),
        (0.6999999, ("applied", ""), FAILED),
        (0.0, ("applied", ""), FAILED),
        (float("nan"), ("rejected", "bad_value"), PEOPLE_ASKED),
        (float("inf"), ("rejected", "bad_value"), PEOPLE_ASKED),
        (-1.0, ("rejected", "bad_value"), PEOPLE_ASKED),
        (1.5, ("rejected", "bad_value"), PEOPLE_ASKED),
        (None, ("rejected", "bad_value"), PEOPLE_ASKED),
    ],
)
def test_above_090_approves_from_070_asks_people_and_below_fails(
    confidence: float | None, said: tuple[str, str], effect: list[str]
) -> None:
    log = planned(row(1))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3)))
    then = given(log).when(verdict(log.state, 1, 1, confidence=confidence))
    assert (then.said, then.changed("effect")) == (said, effect)


@pytest.mark.parametrize("confidence", [-0.0000001, 1.0000001, float("nan"), float("-inf"), None])
def test_a_worker_that_scores_out_of_range_has_failed_its_attempt(confidence: float | None) -> None:
    log = planned(row(1))
    log.add(rec.TaskPlanned(**AT))
    then = given(log).when(artifact(1, 1, 1, 3, confidence=confidence))
    assert then.said == ("rejected", "bad_value")
    assert (then.task().status, then.task().failures) == ("planned", 1)


def test_what_is_made_from_a_middling_draft_is_not_approved_without_people() -> None:
    log = planned(row(1), row(2, depends_on=[1]))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3))
    log.add(verdict(log.state, 1, 1, confidence=0.8))
    log.add(rec.TaskPlanned(**{**AT, "ordinal": 2}))
    log.add(artifact(1, 2, 1, 4, proposal(input_version=4)))
    assert given(log).when(verdict(log.state, 1, 2, confidence=0.99)).changed("effect") == ["people"]


def test_the_third_failure_closes_the_task_and_what_waits_for_it() -> None:
    log = planned(row(1), row(2, depends_on=[1]), row(3, depends_on=[2]), row(4))
    for attempt in (1, 2, 3):
        log.add(rec.TaskPlanned(**{**AT, "attempt": attempt}))
        if attempt < 3:
            log.add(rec.WorkFailed(**{**AT, "attempt": attempt}, reason="model down"))
    then = given(log).when(rec.WorkFailed(**{**AT, "attempt": 3}, reason="model down"))
    assert then.state is not None
    assert then.state.campaigns[1].closed == {1: "failures", 2: "dependency", 3: "dependency"}
    assert list(then.state.campaigns[1].tasks) == [4]


# --- side by side ----------------------------------------------------------------------------------------------------


def test_fifty_replies_to_fifty_threads_commit_side_by_side() -> None:
    w = Writer(planned(*(row(i + 1, kind="reply", reads=[f"thread/{i + 1}"]) for i in range(50))))
    versions = [w.open(i + 1) for i in range(50)]
    assert set(versions) == {3}
    made = [w.propose(i + 1, 3, thread=str(i + 1)) for i in range(50)]
    committed = [w.vote(one) for one in reversed(made)]
    assert [(ruling.outcome, ruling.version) for ruling in committed] == [("applied", 4 + i) for i in range(50)]


def test_a_second_reply_in_the_same_thread_is_stale_after_the_first() -> None:
    w = Writer(planned(row(1, reads=["thread/a"]), row(2, reads=["thread/a"])))
    made = [w.propose(ordinal, w.open(ordinal), thread="a") for ordinal in (1, 2)]
    assert w.vote(made[1]).outcome == "applied"
    second = w.vote(made[0])
    assert (second.outcome, second.reason) == ("rejected", "stale")
    assert w.state.campaigns[1].tasks[1].failures == 0
    assert w.vote(w.propose(1, w.open(1, 2), 2, thread="a")).outcome == "applied"


def test_which_threads_are_remembered_does_not_depend_on_when_the_state_was_written_and_read_back() -> None:
    """The one answered longest ago gives way, not the one whose name comes first."""
    w = Writer(planned(*(row(i + 1, kind="reply") for i in range(40))))
    made = [w.propose(i + 1, w.open(i + 1), thread=str(40 - i)) for i in range(40)]
    for one in made[:32]:
        assert w.vote(one).outcome == "applied"
    other = Writer(Log())
    other.agent, other.offset, other.now = state_from_json(state_to_json(w.state)), w.offset, w.now
    for one in made[32:]:
        assert (w.vote(one).outcome, other.vote(one).outcome) == ("applied", "applied")
    assert state_to_json(other.state) == state_to_json(w.state)


def test_a_task_that_reads_everything_is_stale_after_any_commit() -> None:
    w = Writer(planned(row(1, reads=[]), row(2, reads=["soul"])))
    made = [w.propose(ordinal, w.open(ordinal)) for ordinal in (1, 2)]
    assert w.vote(made[1]).outcome == "applied"
    assert w.vote(made[0]).reason == "stale"


def test_what_a_task_writes_itself_makes_it_not_stale() -> None:
    """A reply writes the thread that it read: its own effect may still be claimed, another's in the thread may not."""
    w = Writer(planned(row(1, reads=["thread/a"]), row(2, reads=["thread/a"])))
    mine, other = (w.propose(ordinal, w.open(ordinal), thread="a") for ordinal in (1, 2))
    assert w.vote(mine).outcome == "applied"
    assert not w.state.campaigns[1].tasks[1].stale
    assert w.state.campaigns[1].tasks[2].stale
    assert w.execute(mine).outcome == "applied"
    assert w.vote(other).reason == "stale"


def test_an_attempt_opened_after_a_write_does_not_inherit_the_conflict_of_the_one_before() -> None:
    w = Writer(planned(row(1)))
    w.open(1)
    w.add(rec.BriefChanged(command_no=w.state.command_no + 1, campaign=1, edition=2, brief={}, brief_hash="b2"))
    assert w.state.campaigns[1].tasks[1].stale
    w.open(1, attempt=2)
    assert not w.state.campaigns[1].tasks[1].stale


def test_a_task_that_policy_makes_strict_is_still_marked_after_its_state_was_written_and_read_back() -> None:
    w = Writer(planned(row(1), inline=INLINE.model_copy(update={"strict_kinds": ["post"]})))
    made = w.propose(1, w.open(1))
    w.agent = state_from_json(state_to_json(w.state))
    w.add(rec.SoulAdopted(command_no=w.state.command_no + 1, digest="d", soul="other"))
    assert w.vote(made).reason == "stale"


def test_an_undisturbed_campaign_of_200_tasks_has_no_stale_ruling() -> None:
    """Drafts, posts made from them and replies, several open at a time, finished out of order."""
    rows = [row(i + 1, depends_on=[i] if i % 4 == 3 else [], reads=["brief/1", "soul", "account/x"]) for i in range(200)]
    w = Writer(planned(*rows))
    for first in range(1, 201, 20):
        pending = list(range(first, first + 20))
        while pending:
            ready = [o for o in pending if all(d in w.state.campaigns[1].done for d in rows[o - 1].depends_on)]
            made = [w.propose(o, w.open(o), thread=f"t{o}" if o % 3 == 0 else None) for o in ready]
            for one in reversed(made):
                assert w.vote(one).outcome == "applied"
            for one in made:
                assert w.execute(one).outcome == "applied"
            pending = [o for o in pending if o not in ready]
    assert len(w.state.campaigns[1].done) == 200
    assert w.state.version == 3 + 200
    assert {ruling.outcome for ruling in w.rulings} == {"applied"}
    assert w.add(rec.CampaignCompleted(campaign=1)).outcome == "applied"


def test_a_changed_brief_stales_exactly_its_readers_and_they_are_planned_again() -> None:
    w = Writer(planned(*(row(o, reads=["brief/1"] if o % 2 else ["soul"]) for o in range(1, 21))))
    made = {o: w.propose(o, w.open(o)) for o in range(1, 21)}
    changed = rec.BriefChanged(command_no=w.state.command_no + 1, campaign=1, edition=2, brief={}, brief_hash="b2")
    assert w.add(changed).version == 4
    rulings = {o: w.vote(one) for o, one in made.items()}
    assert {o for o, ruling in rulings.items() if ruling.reason == "stale"} == set(range(1, 21, 2))
    assert {o for o, ruling in rulings.items() if ruling.outcome == "applied"} == set(range(2, 21, 2))
    for o in range(1, 21, 2):
        task = w.state.campaigns[1].tasks[o]
        assert (task.status, task.failures, task.wait_reason) == ("planned", 0, "stale")
        assert w.vote(w.propose(o, w.open(o, 2), 2)).outcome == "applied"


# --- a pause holds work and destroys none ----------------------------------------------------------------------------


def _gate(w: Writer, closed: bool, by: str, after: int = 1) -> None:
    fields: dict[str, Any] = {"command_no": w.state.command_no + 1}
    if by == "agent":
        data: rec.Data = rec.AgentStatusSet(**fields, status="paused" if closed else "active")
    else:
        data = rec.CampaignStatusSet(**fields, campaign=1, status="paused" if closed else "running")
    assert w.add(data, after=after).outcome == "applied"


@pytest.mark.parametrize("by", ["agent", "campaign"])
def test_a_pause_holds_work_and_destroys_none(by: str) -> None:
    w = Writer(planned(row(1), row(2), row(3)))
    approved = w.propose(1, w.open(1))
    w.vote(approved)
    judged = w.propose(2, w.open(2))
    _gate(w, True, by)
    assert w.add(rec.TaskPlanned(**{**AT, "ordinal": 3})).reason == "paused"
    assert w.execute(approved).reason == "paused"
    assert w.vote(judged).outcome == "applied"
    _gate(w, False, by, after=10_000_000)
    assert w.open(3, attempt=2) == w.state.version
    assert w.state.campaigns[1].tasks[3].failures == 0
    assert w.execute(judged).outcome == "applied"
    at = {"effect_hash": approved.effect.effect_hash, "claim": 2, "token": "t2", "lease_ms": 9}  # type: ignore[union-attr]
    assert w.add(rec.EffectClaimed(**AT, **at)).outcome == "applied"


@pytest.mark.parametrize("by", ["agent", "campaign"])
@pytest.mark.parametrize("what", ["card", "approval"])
def test_held_time_counts_towards_no_expiry_and_no_lapse(by: str, what: str) -> None:
    w = Writer(planned(row(1)))
    ruling = w.vote(w.propose(1, w.open(1)), 0.8 if what == "card" else 0.97)
    assert ruling.outcome == "applied"
    since, allowed = w.now, INLINE.expiry_ms if what == "card" else INLINE.lapse_ms
    _gate(w, True, by, after=1_000)
    expired = rec.Expired(**AT, what=what)
    assert w.add(expired, after=allowed * 10).reason == "too_early"
    _gate(w, False, by, after=1_000)
    lived = 1_000
    assert w.add(expired, after=allowed - lived - 1).reason == "too_early"
    assert w.add(expired, after=1).outcome == "applied"
    assert w.now - since > allowed * 10


def test_held_time_adds_up_over_many_pauses() -> None:
    w = Writer(planned(row(1)))
    w.vote(w.propose(1, w.open(1)), 0.8)
    for _ in range(3):
        _gate(w, True, "agent")
        _gate(w, False, "agent", after=INLINE.expiry_ms)
    lived = 3
    assert w.add(rec.Expired(**AT, what="card"), after=INLINE.expiry_ms - lived - 1).reason == "too_early"
    assert w.add(rec.Expired(**AT, what="card")).outcome == "applied"


def test_a_gate_that_two_close_is_open_when_both_have_opened_it() -> None:
    w = Writer(planned(row(1)))
    w.vote(w.propose(1, w.open(1)), 0.8)
    _gate(w, True, "agent")
    _gate(w, True, "campaign", after=5_000)
    _gate(w, False, "agent", after=5_000)
    assert w.add(rec.Expired(**AT, what="card"), after=60_000).reason == "too_early"
    _gate(w, False, "campaign")
    assert w.add(rec.Expired(**AT, what="card"), after=INLINE.expiry_ms).outcome == "applied"


# --- people ----------------------------------------------------------------------------------------------------------


def test_two_distinct_entitled_people_for_money_and_none_of_them_the_requester_or_the_editor_of_the_policy() -> None:
    log = planned(row(1), inline=INLINE.model_copy(update={"approvers": {"financial": list(PEOPLE)}}))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3, effect_class="financial", cost=2)))  # type: ignore[arg-type]
    log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    for judge in ("cfo", "content"):
        vote = verdict(log.state, 1, 1, judge=judge)
        log.add(vote)
    approved = rec.HumanApproved(**{**vote.model_dump(include=set(rec.Vote.model_fields)), "shown_hash": "h"})
    for person, said in (
        ("dee", ("void", "not_entitled")),
        ("eve", ("void", "not_entitled")),
        ("ann", ("applied", "")),
        ("ann", ("void", "duplicate")),
    ):
        assert log.add(approved, actor=person)[:2] == said
    then = given(log).when(approved, actor="bob")
    assert (then.said, then.changed("effect")) == (("applied", ""), ["approved"])
    assert then.task().effect.approvals == ["ann", "bob"]  # type: ignore[union-attr]


def test_a_new_policy_takes_back_what_people_had_said() -> None:
    log = planned(row(1))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3, effect_class="paid", cost=2)))  # type: ignore[arg-type]
    log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    for judge in ("cfo", "content"):
        log.add(verdict(log.state, 1, 1, judge=judge, confidence=0.8))
    assert log.state["campaigns"][1]["tasks"][1]["effect"]["status"] == "people"
    named = {f: getattr(verdict(log.state, 1, 1), f) for f in rec.Vote.model_fields}
    two = INLINE.model_copy(update={"people": {"paid": 2}})
    log.command(rec.PolicyAdopted, edition=2, digest="p", editor="eve", inline=two)
    for judge in ("cfo", "content"):
        log.add(verdict(log.state, 1, 1, judge=judge, confidence=0.8))
    assert log.add(rec.HumanApproved(**{**named, "policy_edition": 2, "shown_hash": "h"}), actor="ann")[0] == "applied"
    log.command(rec.PolicyAdopted, edition=3, digest="p", editor="eve", inline=two)
    for judge in ("cfo", "content"):
        log.add(verdict(log.state, 1, 1, judge=judge, confidence=0.8))
    then = given(log).when(rec.HumanApproved(**{**named, "policy_edition": 3, "shown_hash": "h"}), actor="bob")
    assert then.said == ("applied", "")
    assert then.task().effect.approvals == ["bob"]  # type: ignore[union-attr]
    assert then.task().effect.status == "people"  # type: ignore[union-attr]


def test_who_edited_a_payment_is_not_entitled_to_approve_it() -> None:
    log = planned(row(1))
    log.add(rec.TaskPlanned(**AT))
    old = proposal(input_version=3, effect_class="financial", cost=2)  # type: ignore[arg-type]
    log.add(artifact(1, 1, 1, 3, old))
    log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    for judge in ("cfo", "content"):
        log.add(verdict(log.state, 1, 1, judge=judge))
    new, content = proposal("other", input_version=3, effect_class="financial", cost=2), {"text": "other"}  # type: ignore[arg-type]
    changed = {"artifact_hash": digest(content), "content": content, "effect": new, "edit": 1, "old_effect_hash": old.effect_hash}
    assert log.add(rec.HumanEdited(**AT, policy_edition=1, **changed), actor="ann")[0] == "applied"
    for judge in ("cfo", "content"):
        log.add(verdict(log.state, 1, 1, judge=judge))
    named = {f: getattr(verdict(log.state, 1, 1), f) for f in rec.Vote.model_fields}
    approved = rec.HumanApproved(**named, shown_hash="h")
    assert given(log).when(approved, actor="ann").said == ("void", "not_entitled")
    assert given(log).when(approved, actor="bob").said == ("applied", "")


def test_work_that_nobody_answered_for_has_cost_its_maximum() -> None:
    w = Writer(planned(row(1, max_cost_usd=Decimal(4)), row(2, max_cost_usd=Decimal(4))))
    w.open(1)
    w.open(2)
    assert w.state.allowance is not None
    assert w.state.allowance.used == 8
    w.add(rec.WorkFailed(**AT, reason="down", cost_usd=Decimal(1)))
    assert w.state.allowance.used == 5
    w.add(rec.CampaignStatusSet(command_no=w.state.command_no + 1, campaign=1, status="cancelled"))
    assert w.state.allowance.used == 5


def test_a_window_of_another_length_is_not_credited_with_what_was_reserved_before_it() -> None:
    """Both windows begin at the same time: what is free again of the old one is no money of the new one."""
    w = Writer(planned(row(1, max_cost_usd=Decimal(4))))
    w.open(1)
    assert w.state.allowance is not None
    begins, longer = w.state.allowance.window_start, 10 * w.state.allowance.window_ms
    w.add(rec.AllowanceSet(command_no=w.state.command_no + 1, limit_usd=Decimal(10), window_ms=longer))
    assert w.state.allowance.window_start == begins
    w.add(rec.WorkFailed(**AT, reason="down", cost_usd=Decimal(1)))
    assert w.state.allowance.used == 0


def test_a_chain_of_tasks_longer_than_any_stack_closes_behind_its_first() -> None:
    """Rounds that answer add to what is planned: a chain over three of them is three times the longest plan."""
    w = Writer(planned(row(1)))
    for heard in _seen_from_afar(9)[::3]:
        assert w.add(heard).outcome == "applied"
        first, round_ = w.state.campaigns[1].next_ordinal, w.state.campaigns[1].round + 1
        rows = [row(ordinal, depends_on=[ordinal - 1]) for ordinal in range(first, first + 500)]
        assert w.add(rec.PlanDrafted(campaign=1, round=round_, brief_edition=1, rows=rows, answers=1)).outcome == "applied"
    w.open(1)
    closed = w.add(rec.WorkFailed(**AT, reason="not wanted", needless=True))
    assert closed.outcome == "applied"
    assert [change.ordinal for change in closed.changes if change.status == "closed"] == list(range(1, 1502))
    assert not w.state.campaigns[1].tasks


# --- sizes -----------------------------------------------------------------------------------------------------------


def _seen_from_afar(items: int) -> list[rec.Data]:
    return [
        rec.SignalObserved.model_construct(
            source=f"mentions/x{n % 3}",
            number=n // 3 + 1,
            cursor=f"cursor-{n:020d}",
            items=[
                rec.Signal.model_construct(thread=f"t{n}", external_id="e", author=UNREAD, text=UNREAD, observed_at=1, taint="open")
            ],
        )
        for n in range(items)
    ]


def test_an_idle_agent_is_at_most_4_kb() -> None:
    """After a life: campaigns completed, signals seen, commands retried, copies taken in; a real policy adopted."""
    inline = INLINE.model_copy(
        update={
            "sensitive_tags": ["politics", "health", "minors", "finance", "religion", "violence"],
            "frequency": {p: rec.Frequency(claims=5, window_ms=3_600_000) for p in ("x", "instagram", "bluesky")},
            "taint_auto": {"publish": "allowlisted", "paid": "owner"},
        }
    )
    w = Writer(agent_with_policy(inline))
    for data in _seen_from_afar(200):
        w.add(data)
    for n in range(1, 41):
        start = {"campaign_id": f"c-{n}", "name": "n", "brief": {}, "brief_hash": "b"}
        w.add(rec.CampaignStarted(command_no=w.state.command_no + 1, **start))
        w.add(rec.PlanDrafted(campaign=n, round=1, brief_edition=1, rows=[row(1)]))
        w.add(rec.CampaignStatusSet(command_no=w.state.command_no + 1, campaign=n, status="cancelled"))
    assert w.state.campaigns == {}
    size = len(state_to_json(w.state))
    assert size <= 4_096, f"an idle agent is {size} bytes"


def _per_task(w: Writer, count: int, before: int) -> float:
    return (len(state_to_json(w.state)) - before) / count


@pytest.mark.parametrize("stage", ["planned", "open", "produced", "people", "approved", "claimed"])
def test_an_open_task_is_at_most_400_bytes(stage: str) -> None:
    """Measured as growth per task; a task with an effect also holds the effect, whose hashes alone are 150 bytes."""
    count = 50
    w = Writer(agent_with_policy())
    start = {"campaign_id": "c-1", "name": "n", "brief": {}, "brief_hash": "b"}
    w.add(rec.CampaignStarted(command_no=w.state.command_no + 1, **start))
    before = len(state_to_json(w.state))
    rows = [row(o, kind="short_video", reads=["brief/1", "soul", "account/x"]) for o in range(1, count + 1)]
    w.add(rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=rows))
    made = []
    if stage != "planned":
        versions = [w.open(o) for o in range(1, count + 1)]
        if stage != "open":
            made = [w.propose(o, versions[o - 1], thread=f"thread-{o}") for o in range(1, count + 1)]
    for one in made if stage in ("people", "approved", "claimed") else []:
        assert w.vote(one, 0.8 if stage == "people" else 0.97).outcome == "applied"
    for one in made if stage == "claimed" else []:
        at = {"campaign": 1, "ordinal": one.ordinal, "attempt": 1, "effect_hash": one.effect.effect_hash}  # type: ignore[union-attr]
        assert w.add(rec.EffectClaimed(**at, claim=1, token="t" * 32, lease_ms=60_000), after=INLINE.undo_ms).outcome == "applied"
    size = _per_task(w, count, before)
    limit = 400 if stage in ("planned", "open") else 1_000
    assert size <= limit, f"a task that is {stage} is {size:.0f} bytes"


# --- bytes that nobody should be able to stop a partition with -------------------------------------------------------

ROOT, COMMAND = SigningKey.from_bytes(b"r" * 32), SigningKey.from_bytes(b"c" * 32)


def _raw(data: rec.Data, offset: int, key: str = AGENT, signer: SigningKey | None = COMMAND) -> RawRecord:
    made = encode(NewRecord(key, data, "acme", "kim", "2026-01-01T00:00:00Z", f"id-{offset}"), signer)
    return RawRecord("chimera.log", 0, offset, START + offset, made.key.encode(), made.value, made.headers)


def _partition() -> PartitionFold:
    fold_ = PartitionFold(0, 24, ROOT.public)
    fold_.apply(_raw(rec.LawAdopted(edition=1, law=1, keys={"command": [COMMAND.public]}), 0, "law/0", ROOT))
    fold_.apply(_raw(rec.AgentEnrolled(command_no=1, name="ava"), 1))
    return fold_


HUGE = str(10**30).encode()


@pytest.mark.parametrize("threshold", [b"NaN", b"Infinity", b"-0.1", b"1.1", b"null", b"1e400"])
@pytest.mark.parametrize("field", [b'"approve_above":0.9', b'"people_from":0.7'])
def test_a_threshold_that_is_no_share_is_unreadable(field: bytes, threshold: bytes) -> None:
    fold_ = _partition()
    raw = _raw(rec.PolicyAdopted(command_no=2, edition=1, digest="p", editor="eve", inline=INLINE), 2)
    assert raw.value is not None
    assert field in raw.value
    _, ruling = fold_.apply(raw._replace(value=raw.value.replace(field, field.split(b":")[0] + b":" + threshold)))
    assert (ruling.outcome, ruling.reason) == ("void", "unreadable")
    assert state_to_json(state_from_json(state_to_json(fold_.agents[AGENT]))) == state_to_json(fold_.agents[AGENT])


@pytest.mark.parametrize(
    "content",
    [HUGE, b"NaN", b"-Infinity", b"1e400", b'"\\ud800"', b'"\\u0000"', b"[" * 150 + b"]" * 150, b'{"a":1,"a":2}', b"-0.0", b"1E5"],
    ids=["huge", "nan", "infinity", "overflow", "surrogate", "nul", "deep", "twice", "minus zero", "exponent"],
)
@pytest.mark.parametrize("where", ["content", "arguments", "brief", "trace"])
def test_no_json_in_a_records_free_parts_stops_a_partition(content: bytes, where: str) -> None:
    """Content and arguments are hashed as canonical JSON while decoding: what has no canonical form is a ruling, not a crash."""
    made = artifact(1, 1, 1, 3, proposal(input_version=3))
    records: dict[str, tuple[rec.Data, bytes, bytes]] = {
        "content": (made, b'"content":{"text":"a first post about tea"}', b'"content":{"text":' + content + b"}"),
        "arguments": (made, b'"arguments":{"text":"a first post about tea"}', b'"arguments":{"text":' + content + b"}"),
        "brief": (
            rec.CampaignStarted(command_no=2, campaign_id="c", name="n", brief={"a": 1}, brief_hash="b"),
            b'"brief":{"a":1}',
            b'"brief":{"a":' + content + b"}",
        ),
        "trace": (
            rec.EffectEnded(**AT, claim=1, outcome="executed", proof={"a": 1}),
            b'"proof":{"a":1}',
            b'"proof":{"a":' + content + b"}",
        ),
    }
    data, old, new = records[where]
    fold_ = _partition()
    raw = _raw(data, 2)
    assert raw.value is not None
    assert old in raw.value
    _, ruling = fold_.apply(raw._replace(value=raw.value.replace(old, new)))
    assert ruling.outcome in ("applied", "void")
    assert state_to_json(fold_.agents[AGENT])


@pytest.mark.parametrize("number", [HUGE, b"-" + HUGE, b"9223372036854775808", b"18446744073709551616", b"2147483648"])
@pytest.mark.parametrize("field", [b"edition", b"expiry_ms", b"undo_ms", b"failures_allowed", b"similar_bits", b"grace_ms"])
def test_no_number_of_a_policy_makes_a_state_that_cannot_be_written(field: bytes, number: bytes) -> None:
    fold_ = _partition()
    raw = _raw(rec.PolicyAdopted(command_no=2, edition=77, digest="p", editor="eve", inline=INLINE), 2)
    assert raw.value is not None
    now = {b"edition": b"77"}.get(field, str(getattr(INLINE, field.decode(), 0)).encode())
    value = raw.value.replace(b'"' + field + b'":' + now, b'"' + field + b'":' + number)
    assert value != raw.value
    read: Record = decode(raw._replace(value=value))
    fold_.rule(read)
    assert state_to_json(fold_.agents[AGENT])


@pytest.mark.parametrize("money", ["1E+999999999", "-1E+999999999", "1E-999999999", "1E+1000000", "0E+999999", "1000000000.01"])
def test_no_amount_makes_the_fold_raise(money: str) -> None:
    amount = Decimal(money)
    log = planned(row(1), row(2, max_cost_usd=Decimal(1)))
    log.add(rec.TaskPlanned(**AT))
    w = Writer(log)
    free = {"campaign": 1, "round": 2, "brief_edition": 1}
    w.add(artifact(1, 1, 1, 3, cost=amount))
    w.add(rec.TaskPlanned(**{**AT, "ordinal": 2}))
    w.add(rec.WorkFailed(**{**AT, "ordinal": 2}, reason="r", cost_usd=amount))
    w.add(rec.AllowanceSet(command_no=w.state.command_no + 1, limit_usd=amount, window_ms=1))
    w.add(rec.PlanDrafted(**free, rows=[row(3, max_cost_usd=amount)]))
    assert w.state.allowance is not None
    assert state_to_json(w.state)


def test_a_campaign_of_twelve_tasks_is_cancelled_in_the_order_of_their_numbers_also_after_a_snapshot() -> None:
    """JSON sorts "10" before "2": a reader that started from a snapshot would number the copies it owes otherwise."""
    log = planned(*(row(i + 1) for i in range(12)))
    for ordinal in range(1, 13):
        log.add(rec.TaskPlanned(campaign=1, ordinal=ordinal, attempt=1))
        effect = proposal(f"text {ordinal}", input_version=log.state["version"], effect_class="paid", cost=Decimal(1))
        log.add(artifact(1, ordinal, 1, log.state["version"], effect))
    folded, _ = fold_all(log.law, log.records)
    assert folded is not None
    number = folded.command_no + 1
    r = record(rec.CampaignStatusSet(command_no=number, campaign=1, status="cancelled"), len(log.records), log.now + 1)
    restored = state_from_json(state_to_json(folded))
    assert fold(log.law, restored, r)[1] == fold(log.law, folded, r)[1]
    assert state_to_json(restored) == state_to_json(folded)
