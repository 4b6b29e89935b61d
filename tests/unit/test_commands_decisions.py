"""Decisions given a folded state: what they append, that the law lets it count, and that repeating them appends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from chimera.commands import agents, campaigns, cards, reviews
from chimera.commands.agents import Enrolment, PolicyText, UnknownAgent
from chimera.commands.cards import Address, BadCard, Sight, parse_card
from chimera.commands.decision import Answer, Decision, Refused
from chimera.events.envelope import Record, dump
from chimera.events.fold import fold
from chimera.events.hashes import commit_hash, digest, simhash, text_hash
from chimera.events.records import (
    ArtifactProduced,
    Command,
    Data,
    EffectEnded,
    EffectProposal,
    JudgeVerdict,
    PlanDrafted,
    PlanRow,
    PolicyInline,
    TaskPlanned,
    effect_body,
)
from chimera.events.state import Agent, Law, Ref, Ruling

KEY = "agent/1"
LAW = Law(keys={"command": frozenset(("k",))})
POLICY = PolicyText("d1", "rules", PolicyInline(approvers={"publish": ["kim", "lee", "op", "ed"]}, people={"publish": 2}))
AVA = Enrolment("ava", ("north",), "s1", "a soul", POLICY, {"x": "ava_x"}, Decimal(1), 1000)
AT = Address("ava", 1, 1, 0)


class Log:
    """One agent's log: decides, numbers as the service does, folds, and keeps what was ruled."""

    def __init__(self) -> None:
        self.agent: Agent | None = None
        self.offset = 0
        self.contents: dict[int, Data] = {}

    @property
    def ava(self) -> Agent:
        assert self.agent is not None
        return self.agent

    def take(self, data: Data, actor: str = "op") -> Ruling:
        number = self.agent.command_no + 1 if self.agent is not None else 1
        if isinstance(data, Command) or (isinstance(data, EffectEnded) and data.proof is not None):
            data = data.model_copy(update={"command_no": number})
        record = Record(
            topic="t",
            partition=0,
            offset=self.offset,
            append_ts=1000 + self.offset,
            key=KEY,
            id=f"r{self.offset}",
            type=data.TYPE,
            version=1,
            tenant="acme",
            actor=actor,
            time="",
            causation="",
            correlation="",
            data=data,
            signed_by="k",
            value=dump(data),
        )
        self.contents[self.offset] = data
        self.offset += 1
        self.agent, ruling = fold(LAW, self.agent, record)
        return ruling

    def when(self, decide: Decision, actor: str = "op") -> list[str]:
        """Types appended; the law must apply them all, and deciding again must find nothing left to do."""
        wanted = decide(self.agent)
        for data in wanted:
            assert self.take(data, actor).outcome == "applied"
        assert decide(self.agent) == []
        return types(wanted)

    def seen(self) -> Sight:
        card = cards.card_at(self.ava, AT)
        return cards.sight(card, self.contents[card.effect.ref.offset])


def types(records: Sequence[Data]) -> list[str]:
    return [data.TYPE for data in records]


def enrolled() -> Log:
    log = Log()
    log.when(agents.enrol(AVA, "ed"))
    return log


def with_card(text: str = "Soup warms.") -> Log:
    """Campaign of `op`, one post that waits for two people."""
    log = enrolled()
    log.when(campaigns.start("Soup", {"goal": "warm"}))
    log.take(PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[PlanRow(ordinal=1, kind="publish", reads=["soul"])]))
    log.take(TaskPlanned(campaign=1, ordinal=1, attempt=1))
    version = log.ava.campaigns[1].tasks[1].input_state_version
    content = {"text": text}
    body = EffectProposal(
        effect_hash="",
        effect_class="publish",
        tool_class="keyed",
        profile="x",
        mode="sandbox",
        tool="createPosts",
        schema_sha256="0",
        arguments={"text": text},
        platform="x",
        account="ava_x",
        disclosure="automated",
        agent=KEY,
        input_state_version=version,
        salt="00",
        text_hash=text_hash(text),
        simhash=f"{simhash(text):016x}",
    )
    produced = ArtifactProduced(
        campaign=1,
        ordinal=1,
        attempt=1,
        input_state_version=version,
        kind="publish",
        artifact_hash=digest(content),
        content=content,
        confidence_score=0.8,
        taint="owner",
        effect=body.model_copy(update={"effect_hash": digest(effect_body(body))}),
    )
    assert log.take(produced).outcome == "applied"
    judge(log)
    return log


def judge(log: Log) -> None:
    task = log.ava.campaigns[1].tasks[1]
    assert task.effect is not None
    verdict = JudgeVerdict(
        campaign=1,
        ordinal=1,
        attempt=1,
        policy_edition=1,
        input_state_version=task.input_state_version,
        artifact_hash=task.artifact_hash,
        effect_hash=task.effect.hash,
        edit=task.effect.edit,
        expected_output_version=log.ava.version + 1,
        commit_hash=commit_hash(KEY, "1.1", task.input_state_version, task.artifact_hash, task.effect.hash),
        judge="content",
        decision="pass",
        confidence_raw=0.8,
        confidence=0.8,
    )
    assert log.take(verdict).outcome == "applied"


def test_enrolling_appends_all_once_and_later_what_is_missing() -> None:
    log = Log()
    assert log.when(agents.enrol(AVA, "ed")) == ["AgentEnrolled", "SoulAdopted", "PolicyAdopted", "AccountLinked", "AllowanceSet"]
    half = Log()
    for data in agents.enrol(AVA, "ed")(None)[:2]:
        half.take(data)
    assert half.when(agents.enrol(AVA, "ed")) == ["PolicyAdopted", "AccountLinked", "AllowanceSet"]


def test_updating_appends_just_what_differs() -> None:
    log = enrolled()
    other = Enrolment(**{**AVA.__dict__, "policy": PolicyText("d2", "r", POLICY.inline), "accounts": {"y": "ava_y"}})
    assert agents.enrol(other, "ed")(log.agent) != []  # the account on y is missing
    assert log.when(agents.enrol(other, "ed", "s1", update=True)) == ["PolicyAdopted", "AccountLinked", "AccountUnlinked"]
    assert types(agents.enrol(other, "ed", "s0", update=True)(log.agent)) == ["SoulAdopted"]


def test_an_agent_is_paused_resumed_and_retired_for_good() -> None:
    log = enrolled()
    assert log.when(agents.pause()) == ["AgentStatusSet"]
    assert log.when(agents.resume()) == ["AgentStatusSet"]
    assert log.when(agents.resume()) == []
    assert log.when(agents.release()) == []
    assert log.when(agents.retire()) == ["AgentStatusSet"]
    with pytest.raises(Refused, match="retired"):
        agents.resume()(log.agent)
    with pytest.raises(Refused, match="retired"):
        agents.enrol(AVA, "ed")(log.agent)


@pytest.mark.parametrize("decide", [agents.pause(), agents.release(), campaigns.start("S", {}), campaigns.pause("s")])
def test_what_nobody_enrolled_takes_no_command(decide: Decision) -> None:
    with pytest.raises(Refused, match="enrol it first"):
        decide(None)


def test_a_quarantine_is_released() -> None:
    log = enrolled()
    log.ava.quarantine = Ref(0, 1)
    assert log.when(agents.release("looked at it")) == ["AgentStatusSet"]


def test_a_campaign_is_changed_held_and_cancelled() -> None:
    log = enrolled()
    log.when(campaigns.start("Soup Days", {"goal": "a"}))
    assert types(campaigns.change("soup-days", {"goal": "b"}, digest({"goal": "a"}))(log.agent)) == ["BriefChanged"]
    assert campaigns.change("soup-days", {"goal": "a"}, digest({"goal": "a"}))(log.agent) == []
    assert log.when(campaigns.pause("soup-days")) == ["CampaignStatusSet"]
    assert log.when(campaigns.resume("#1")) == ["CampaignStatusSet"]
    log.take(campaigns.cancel("soup-days")(log.agent)[0])
    with pytest.raises(Refused, match="not open"):
        campaigns.cancel("soup-days")(log.agent)


def test_a_card_is_approved_by_two_people_that_the_law_lets_count() -> None:
    log = with_card()
    seen = log.seen()
    assert log.when(reviews.approve(AT, "kim", seen), "kim") == ["HumanApproved"]
    log.take(reviews.approve(AT, "lee", seen)(log.agent)[0], "lee")
    effect = log.ava.campaigns[1].tasks[1].effect
    assert effect is not None
    assert (effect.status, effect.approvals) == ("approved", ["kim", "lee"])


@pytest.mark.parametrize(("actor", "words"), [("eve", "kim or lee"), ("op", "started the campaign"), ("ed", "edited the policy")])
def test_who_may_not_approve_is_told_why(actor: str, words: str) -> None:
    log = with_card()
    with pytest.raises(Refused, match=words):
        reviews.approve(AT, actor, log.seen())(log.agent)


def test_an_edit_is_a_new_effect_with_the_editors_vote() -> None:
    log = with_card()
    seen = log.seen()
    assert log.when(reviews.edit(AT, "kim", seen, "Soup warms all.", "01" * 16), "kim") == ["HumanEdited"]
    with pytest.raises(Refused, match="changed by kim"):
        reviews.approve(AT, "lee", seen)(log.agent)
    with pytest.raises(Refused, match="asked first"):
        reviews.approve(AT, "lee", log.seen())(log.agent)
    judge(log)
    assert log.seen().card["text"] == "Soup warms all."
    log.take(reviews.approve(AT, "lee", log.seen())(log.agent)[0], "lee")
    effect = log.ava.campaigns[1].tasks[1].effect
    assert effect is not None
    assert (effect.status, effect.approvals, effect.edit) == ("approved", ["kim", "lee"], 1)


def test_the_same_words_and_no_words_are_no_edit() -> None:
    log = with_card("Soup warms.")
    assert reviews.edit(AT, "kim", log.seen(), "Soup warms.", "00")(log.agent) == []
    with pytest.raises(Refused, match="empty"):
        reviews.edit(AT, "kim", log.seen(), "  ", "00")


def test_a_rejected_card_closes_its_task() -> None:
    log = with_card()
    assert log.when(reviews.reject(AT, "unsafe", log.seen()), "kim") == ["HumanRejected"]
    with pytest.raises(Refused, match="use one of"):
        reviews.reject(AT, "ugly", Sight({}, "", "", 0, None))  # type: ignore[arg-type]


def test_what_was_shown_is_bound_to_the_bytes() -> None:
    first, second = with_card().seen(), with_card("Other words.").seen()
    assert first.shown_hash != second.shown_hash
    assert first.card["arguments"] == {"text": "Soup warms."}
    assert first.card["approvals_needed"] == 2


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ava/1.4.2", Address("ava", 1, 4, 2)),
        ("ava/1.4", Address("ava", 1, 4, 0)),
        ("agent/0a-1/2.3.4", Address("agent/0a-1", 2, 3, 4)),
    ],
)
def test_a_card_is_read(text: str, address: Address) -> None:
    assert parse_card(text) == address


@pytest.mark.parametrize("text", ["", "ava", "ava/", "ava/1", "ava/1.x", "a b/1.2", "ava/1.2.3.4", "ava/-1.2"])
def test_what_is_no_card_says_how_one_is_written(text: str) -> None:
    with pytest.raises(BadCard, match=r"ava/1\.4\.2"):
        parse_card(text)


@pytest.mark.parametrize(("at", "words"), [((2, 1, 0), "no campaign 2"), ((1, 9, 0), "no task 9"), ((1, 1, 2), "has not begun")])
def test_a_card_that_is_not_there_is_explained(at: tuple[int, int, int], words: str) -> None:
    with pytest.raises(Refused, match=words):
        cards.card_at(with_card().ava, Address("ava", *at))


def test_a_mistyped_name_is_answered_with_near_ones() -> None:
    log = enrolled()
    assert agents.find([log.ava], "ava") is log.ava
    with pytest.raises(UnknownAgent, match="did you mean ava"):
        agents.find([log.ava], "eva")
    with pytest.raises(UnknownAgent, match="none is enrolled"):
        agents.find([], "eva")


def test_an_answer_without_records_changed_nothing() -> None:
    assert not Answer("k", "c", "applied", "no change", 1).changed
    assert Answer("k", "c", "applied", "", 1, (0, 0), 1).changed
