"""Shadow by counters: when an agent is trusted and when no more, each border to the unit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from chimera.commands import views
from chimera.commands.telling import shadow as told
from chimera.events import records as rec
from chimera.events.does.trust import MOST_DECISIONS, in_shadow, standing
from chimera.events.hashes import commit_hash, digest
from chimera.events.state import Agent
from chimera.events.state_codec import state_from_json, state_to_json
from chimera.policy.boardkit import Rules, inline, load_text, parse_rules
from tests.histories import INLINE, artifact, planned, proposal, row
from tests.unit.test_fold_boundaries import Writer
from tests.unit.test_policy_contradictions import ROOT

NEW = rec.Probation(decisions=4, overrides_ppm=250_000, demote_above_ppm=500_000, window=6)
AGREED, EDITED, REJECTED = "a", "e", "r"


class House(Writer):
    """An agent under a probation, whose cards people decide on one after the other."""

    def __init__(self, probation: rec.Probation | None = NEW, rows: int = 40, **numbers: Any) -> None:
        policy = INLINE.model_copy(update={"probation": probation, **numbers})
        super().__init__(planned(*(row(o + 1) for o in range(rows)), inline=policy))
        self.next = 1

    def card(self, confidence: float = 0.99) -> rec.ArtifactProduced:
        """The next task's effect, judged."""
        made = self.propose(self.next, self.open(self.next))
        self.next += 1
        assert self.vote(made, confidence).outcome == "applied"
        return made

    def status(self, made: rec.ArtifactProduced) -> str:
        task = self.state.campaigns[1].tasks.get(made.ordinal)
        return task.effect.status if task is not None and task.effect is not None else "gone"

    def decide(self, made: rec.ArtifactProduced, what: str, actor: str = "ann") -> None:
        assert made.effect is not None
        assert self.state.policy is not None
        at = {"campaign": 1, "ordinal": made.ordinal, "attempt": 1, "policy_edition": self.state.policy.edition}
        if what == REJECTED:
            self.add(rec.HumanRejected(**at, effect_hash=made.effect.effect_hash, reason_code="other"), actor=actor)
        elif what == EDITED:
            words = f"quite other words number {made.ordinal}"
            new = proposal(words, input_version=made.input_state_version)
            body = {"artifact_hash": digest({"text": words}), "content": {"text": words}, "effect": new}
            self.add(rec.HumanEdited(**at, old_effect_hash=made.effect.effect_hash, edit=1, **body), actor=actor)
        else:
            self.add(_approval(self.state, made), actor=actor)
        assert self.rulings[-1].outcome == "applied"

    def after(self, *decisions: str) -> House:
        """So many cards, decided like this."""
        for what in decisions:
            self.decide(self.card(0.8), what)  # between the thresholds: a card whether it is trusted or not
        return self

    @property
    def trust(self) -> list[tuple[str, str]]:
        return [(c.status, c.detail) for ruling in self.rulings for c in ruling.changes if c.what == "trust"]


def _approval(agent: Agent, made: rec.ArtifactProduced) -> rec.HumanApproved:
    assert made.effect is not None
    assert agent.policy is not None
    named = (made.artifact_hash, made.effect.effect_hash)
    return rec.HumanApproved(
        campaign=1,
        ordinal=made.ordinal,
        attempt=1,
        policy_edition=agent.policy.edition,
        input_state_version=made.input_state_version,
        artifact_hash=named[0],
        effect_hash=named[1],
        expected_output_version=agent.version + 1,
        commit_hash=commit_hash(agent.key, f"1.{made.ordinal}", made.input_state_version, *named),
        shown_hash="h",
    )


def test_a_new_agent_is_in_shadow_and_people_see_what_is_perfectly_sure() -> None:
    house = House()
    made = house.card(1.0)
    assert house.status(made) == "people"
    assert house.state.campaigns[1].tasks[1].effect.content_ask == "shadow"  # type: ignore[union-attr]


def test_without_probation_a_new_agent_is_not_in_shadow() -> None:
    house = House(None)
    assert house.status(house.card(1.0)) == "approved"


@pytest.mark.parametrize(
    ("decisions", "leaves"),
    [
        ("aaa", False),
        ("aaaa", True),
        ("raaa", True),
        ("eaaa", True),
        ("rraa", False),
        ("eraa", False),
        ("rraaa", False),
        ("rraaaa", False),
        ("rraaaaa", True),
        ("rrrrrraaaaa", True),
    ],
)
def test_it_leaves_shadow_with_so_many_decisions_and_at_most_so_many_overridden_in_the_window(decisions: str, leaves: bool) -> None:
    house = House().after(*decisions)
    assert in_shadow(house.state) is not leaves
    assert house.status(house.card(1.0)) == ("approved" if leaves else "people")


@pytest.mark.parametrize(("after", "demoted"), [("rr", False), ("rrr", False), ("rrrr", True), ("rarr", False), ("eree", True)])
def test_it_is_in_shadow_again_exactly_above_the_second_limit_and_counts_anew(after: str, demoted: bool) -> None:
    """Four agreed decisions and then these: the window holds the last six, and more than half of them is four."""
    house = House().after(*"aaaa", *after)
    assert in_shadow(house.state) is demoted
    if demoted:
        assert house.trust == [("trusted", "0 of 4 overridden"), ("shadow", "4 of 6 overridden")]
        assert house.state.decided == ""
        assert in_shadow(house.after(*"aaa").state)
        assert not in_shadow(house.after("a").state)


def test_an_edited_card_counts_once_whatever_becomes_of_it() -> None:
    house = House()
    made = house.card()
    house.decide(made, EDITED)
    effect = house.state.campaigns[1].tasks[made.ordinal].effect
    assert effect is not None
    edited = rec.HumanRejected(
        campaign=1, ordinal=made.ordinal, attempt=1, policy_edition=1, effect_hash=effect.hash, edit=1, reason_code="other"
    )
    changed = made.model_copy(
        update={"artifact_hash": house.state.campaigns[1].tasks[made.ordinal].artifact_hash, "effect": made.effect}
    )
    vote = _approval(house.state, changed).model_dump(include=set(rec.Vote.model_fields))
    named = {"effect_hash": effect.hash, "edit": 1}
    named["commit_hash"] = commit_hash(
        house.state.key, f"1.{made.ordinal}", made.input_state_version, changed.artifact_hash, effect.hash
    )
    low = {"judge": "content", "decision": "people", "confidence": 0.8, "confidence_raw": 0.8}
    ruling = house.add(rec.JudgeVerdict(**{**vote, **named, **low}))
    assert ruling.outcome == "applied"
    assert house.state.decided == "e"
    house.add(edited, actor="bob")
    assert house.state.decided == "e"


def test_of_two_people_that_are_asked_only_the_vote_that_completes_the_quorum_is_the_decision() -> None:
    house = House(people={"publish": 2})
    made = house.card()
    house.decide(made, AGREED, "ann")
    assert house.state.decided == ""
    house.decide(made, AGREED, "bob")
    assert house.state.decided == "a"


def test_what_expires_is_no_decision_and_a_machines_no_is_none_either() -> None:
    house = House()
    made = house.card()
    house.add(rec.Expired(campaign=1, ordinal=made.ordinal, attempt=1, what="card"), after=INLINE.expiry_ms)
    house.decide(house.card(), REJECTED, actor="service/ci")
    assert (house.status(made), house.state.decided) == ("gone", "")


def test_a_card_that_was_opened_in_shadow_stays_one_and_two_people_are_still_asked() -> None:
    house = House(people={"publish": 2})
    waiting = house.card(1.0)
    for _ in range(4):
        made = house.card(1.0)
        for person in ("ann", "bob"):
            house.decide(made, AGREED, person)
    assert not in_shadow(house.state)
    house.decide(waiting, AGREED, "ann")
    assert house.status(waiting) == "people"
    house.decide(waiting, AGREED, "cyd")
    assert house.status(waiting) == "approved"


def test_an_effect_that_waits_for_funds_when_its_agent_is_demoted_becomes_a_card() -> None:
    house = House().after(*"aaaa")
    version = house.open(house.next)
    at: dict[str, Any] = {"campaign": 1, "ordinal": house.next, "attempt": 1}
    words = "a boost that waits for its money"
    paid = artifact(**at, input_version=version, effect=proposal(words, input_version=version, cost=Decimal(2)), text=words)
    house.next += 1
    house.add(paid)
    house.vote(paid)
    cfo = _approval(house.state, paid).model_dump(include=set(rec.Vote.model_fields))
    house.add(rec.JudgeVerdict(**cfo, judge="cfo", decision="pass", confidence=1.0, confidence_raw=1.0))
    assert house.status(paid) == "proposed"
    house.after(*"rrrr")
    house.add(rec.FundsAnswered(**at, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    assert house.status(paid) == "people"


def test_an_edition_that_asks_for_less_finds_enough_in_what_was_decided_already() -> None:
    house = House(rec.Probation(decisions=20, overrides_ppm=0, demote_above_ppm=500_000, window=20)).after(*"aaa")
    assert in_shadow(house.state)
    easier = INLINE.model_copy(update={"probation": NEW.model_copy(update={"decisions": 3})})
    house.add(rec.PolicyAdopted(command_no=house.state.command_no + 1, edition=2, digest="p2", editor="eve", inline=easier))
    assert not in_shadow(house.state)


def test_no_more_than_the_last_hundred_are_kept_and_they_survive_a_snapshot() -> None:
    house = House(rows=MOST_DECISIONS + 3).after(*"rr", *"a" * (MOST_DECISIONS + 1))
    assert house.state.decided == "a" * MOST_DECISIONS
    assert state_from_json(state_to_json(house.state)).decided == house.state.decided
    assert standing(house.state) == (NEW.window, 0)


def test_people_at_the_desk_are_told_what_the_standing_rests_on() -> None:
    house = House().after(*"aar")
    assert views.shadow(house.state) == {
        "in_shadow": True,
        "because": "probation",
        "decided": 3,
        "overridden": 1,
        "needed": 4,
        "overrides": 0.25,
        "demote_above": 0.5,
    }
    said = told(views.shadow(house.state))
    assert said == "in shadow: people overrode 1 of its last 3 cards (4 decisions asked for, up to 25% overridden)"
    said = told(views.shadow(house.after("a").state))
    assert said == "not in shadow: people overrode 1 of its last 4 cards (4 decisions asked for, shadow again above 50% overridden)"
    assert views.agent_row(house.state)["in_shadow"] is False
    assert told(views.shadow(House(None, shadow=True).state)).endswith("no card was decided yet (policy says so of all agents)")


def test_shares_of_the_file_reach_the_fold_as_whole_parts_of_a_million() -> None:
    template = parse_rules(load_text(ROOT / "policies/AGENTS.md"))
    rules = Rules.model_validate(template.model_dump() | {"probation": {"decisions": 20, "overrides": 0.29, "demote_above": 0.57}})
    numbers = inline(rules).probation
    assert numbers == rec.Probation(decisions=20, overrides_ppm=290_000, demote_above_ppm=570_000, window=50)
    assert inline(template).probation is None
