"""Where people are asked and how many of them count: each border to the unit, and machines on neither side of it."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import pytest

from chimera.commands import reviews
from chimera.commands.decision import Refused
from chimera.events import records as rec
from chimera.events.principals import is_machine
from chimera.policy.boardkit import parse_rules
from chimera.policy.documents import DocumentError
from tests.histories import INLINE, Log, artifact, planned, proposal, row, verdict
from tests.lawspec import fold_all, given
from tests.slowfold.base import is_person
from tests.unit.test_commands_decisions import AT as CARD
from tests.unit.test_commands_decisions import with_card

AT = {"campaign": 1, "ordinal": 1, "attempt": 1}
MACHINES = ("service/ci", "judge@brain-1", "courier", "installer", "executor@gate-1", "agent/1", "tenant/acme")


def proposed(**inline: object) -> Log:
    """A post that costs nothing and waits for the content vote, under the house's numbers but these."""
    log = planned(row(1), inline=INLINE.model_copy(update=inline))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3)))
    return log


def asked(**inline: object) -> Log:
    """The same, judged at 0.8: it waits for people."""
    log = proposed(**inline)
    log.add(verdict(log.state, 1, 1, confidence=0.8))
    return log


def approval(log: Log) -> rec.HumanApproved:
    named = verdict(log.state, 1, 1).model_dump(include=set(rec.Vote.model_fields))
    return rec.HumanApproved(**{**named, "shown_hash": "h"})


# --- the audit sample and shadow -------------------------------------------------------------------------------------


def test_an_automatic_approval_is_drawn_for_audit_exactly_below_the_share() -> None:
    """The draw is the vote's offset and the effect's hash, so that nobody can choose it and anybody can repeat it."""
    log = proposed()
    effect = log.state["campaigns"][1]["tasks"][1]["effect"]["proposal"].effect_hash
    drawn = int.from_bytes(hashlib.sha256(f"{len(log.records)}:{effect}".encode()).digest()[:8], "big") % 1_000_000
    for share, becomes in ((0, "approved"), (drawn, "approved"), (drawn + 1, "people"), (1_000_000, "people")):
        sampled = proposed(audit_sample_ppm=share)
        then = given(sampled).when(verdict(sampled.state, 1, 1, confidence=1.0))
        assert then.changed("effect") == [becomes], share
        effect_now = then.task().effect
        assert effect_now is not None
        assert effect_now.content_ask == ("audit_sample" if becomes == "people" else "")


def test_in_shadow_people_see_what_is_perfectly_sure() -> None:
    log = proposed(shadow=True)
    then = given(log).when(verdict(log.state, 1, 1, confidence=1.0))
    assert then.changed("effect") == ["people"]
    assert then.task().effect.content_ask == "shadow"  # type: ignore[union-attr]


# --- n people --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needed", [1, 2, 3])
def test_the_last_of_n_distinct_people_approves_and_nobody_counts_twice(needed: int) -> None:
    log = asked(people={"publish": needed})
    for person in ("ann", "bob", "cyd")[: needed - 1]:
        assert log.add(approval(log), actor=person)[0] == "applied"
        assert given(log).when(approval(log), actor=person).said == ("void", "duplicate")
    then = given(log).when(approval(log), actor="cyd")
    assert (then.said, then.changed("effect")) == (("applied", ""), ["approved"])


@pytest.mark.parametrize(("cost", "needed"), [("4.99", 1), ("5.00", 2), ("5.01", 2)])
def test_from_its_amount_on_a_tier_asks_more_people(cost: str, needed: int) -> None:
    tiers = [rec.AmountTier(amount_usd=Decimal(5), people=2)]
    log = planned(row(1), inline=INLINE.model_copy(update={"amount_tiers": tiers}))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3, effect_class="paid", cost=Decimal(cost))))
    log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    for judge in ("cfo", "content"):
        log.add(verdict(log.state, 1, 1, judge=judge, confidence=0.8))
    for person in ("ann", "bob")[: needed - 1]:
        log.add(approval(log), actor=person)
    assert log.state["campaigns"][1]["tasks"][1]["effect"]["status"] == "people"
    assert given(log).when(approval(log), actor="cyd").changed("effect") == ["approved"]


# --- expiry ----------------------------------------------------------------------------------------------------------


def test_a_card_expires_at_its_time_and_not_a_millisecond_before_and_until_then_people_decide() -> None:
    log = asked()
    expired = rec.Expired(**AT, what="card")
    assert given(log).when(expired, after=INLINE.expiry_ms - 1).said == ("void", "too_early")
    assert given(log).when(expired, after=INLINE.expiry_ms).said == ("applied", "")
    assert given(log).when(approval(log), after=INLINE.expiry_ms, actor="ann").changed("effect") == ["approved"]


def test_after_it_expired_nobody_approves_it() -> None:
    log = asked()
    late = approval(log)
    log.add(rec.Expired(**AT, what="card"), after=INLINE.expiry_ms)
    assert given(log).when(late, actor="ann").said[0] == "void"


# --- machines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_never_approves_even_where_a_policy_lists_it(machine: str) -> None:
    log = asked(approvers={"publish": [machine, "ann"]})
    assert given(log).when(approval(log), actor=machine).said == ("void", "not_entitled")
    assert given(log).when(approval(log), actor="ann").changed("effect") == ["approved"]


@pytest.mark.parametrize("machine", MACHINES)
def test_both_readings_of_the_law_know_the_same_machines(machine: str) -> None:
    assert is_machine(machine)
    assert not is_person(machine)


@pytest.mark.parametrize("person", ["kim", "kim@example.org", "human/kim", "judge judy", "judges", "services", "gatekeeper"])
def test_both_readings_of_the_law_know_the_same_people(person: str) -> None:
    assert not is_machine(person)
    assert is_person(person)


@pytest.mark.parametrize("machine", ["service/ci", "judge@brain-1"])
def test_a_policy_that_lists_a_machine_is_no_policy(machine: str) -> None:
    with pytest.raises(DocumentError, match="machines never approve"):
        parse_rules(f"---\nboardkit: 1\nname: house\napprovers: {{publish: [kim, {machine}]}}\n---\nBe kind.\n")


def test_a_machine_at_the_desk_is_told_so() -> None:
    log = with_card()
    log.ava.policy.inline.approvers["publish"].append("service/ci")  # type: ignore[union-attr]
    try:
        with pytest.raises(Refused, match="is no person"):
            reviews.approve(CARD, "service/ci", log.seen())(log.agent)
    finally:
        log.ava.policy.inline.approvers["publish"].remove("service/ci")  # type: ignore[union-attr]


def test_a_payment_that_a_person_found_executed_has_cost_the_most_that_it_may_have_cost() -> None:
    """People say that it is there, not what it cost: were it nothing, the budget would pay twice."""
    log = planned(row(1))
    log.add(rec.TaskPlanned(**AT))
    paid = proposal(input_version=3, effect_class="paid", cost=Decimal(5))
    log.add(artifact(1, 1, 1, 3, paid))
    log.add(rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=1), answer="held"))
    for judge in ("cfo", "content"):
        log.add(verdict(log.state, 1, 1, judge=judge))
    call = {**AT, "claim": 1, "token": "t"}
    log.add(rec.EffectClaimed(**call, effect_hash=paid.effect_hash, lease_ms=200), after=INLINE.undo_ms)
    assert log.add(rec.EffectUnknown(**call, reason="timeout"))[0] == "applied"
    agent, _ = fold_all(log.law, log.records)
    proof = {"kind": "person", "finding": "it is on the bill"}
    (there,) = reviews.resolve(CARD, "executed", proof, "7")(agent)
    (not_there,) = reviews.resolve(CARD, "not_executed", proof)(agent)
    assert isinstance(there, rec.EffectEnded)
    assert isinstance(not_there, rec.EffectEnded)
    assert (there.cost_usd, not_there.cost_usd) == (5, 0)
    settled = given(log).when(there.model_copy(update={"command_no": log.state["command_no"] + 1}))
    assert [(c.status, c.detail) for c in settled.ruling.changes if c.what == "funds"] == [("settled", "5")]
