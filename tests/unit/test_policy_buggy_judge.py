"""A judge that is broken or bought approves nothing: the fold counts the numbers, whatever the judge says they mean."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chimera.events import records as rec
from chimera.events.fold import fold
from chimera.events.state import Agent
from chimera.policy.boardkit import Rules, inline
from tests.histories import INLINE, Log, artifact, planned, proposal, record, verdict

RANK = {"owner": 0, "allowlisted": 1, "open": 2}
TAINTS = st.sampled_from(sorted(RANK))
TAGS = st.lists(st.sampled_from(["politics", "health", "gossip"]), max_size=2)
VOTE = st.fixed_dictionaries(
    {
        "decision": st.sampled_from(["pass", "pass", "people", "fail"]),
        "confidence": st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.2, 0.7, 0.9, 0.9000001, 0.95, 1.0, 1.5, -1.0])),
        "confidence_raw": st.one_of(st.none(), st.floats(0, 1)),
        "tags": TAGS,
        "failed_rules": st.sampled_from([[], [], [], ["length"]]),
        "judge": st.sampled_from(["content", "content", "cfo"]),
        "commit_hash": st.sampled_from([None, None, None, "0" * 64]),
        "policy_edition": st.sampled_from([None, None, None, 7]),
        "artifact_hash": st.sampled_from([None, None, None, "0" * 64]),
    }
)
POLICY = st.fixed_dictionaries(
    {
        "taint_auto": st.dictionaries(st.sampled_from(["publish", "reply", "paid", "financial"]), TAINTS, max_size=4),
        "sensitive_tags": st.sampled_from([["politics"], ["politics", "health"]]),
        "shadow": st.sampled_from([False, False, True]),
        "approve_above": st.sampled_from([0.9, 0.5]),
        "people_from": st.just(0.3),
        "failures_allowed": st.just(9),
    }
)


def effect_of(agent: Agent) -> Any:
    return agent.campaigns[1].tasks[1].effect if 1 in agent.campaigns and 1 in agent.campaigns[1].tasks else None


def allowed_taint(numbers: rec.PolicyInline, effect_class: str, reply: bool) -> str:
    if effect_class == "financial":
        return "owner"
    if effect_class == "publish" and reply and "reply" in numbers.taint_auto:
        return numbers.taint_auto["reply"]
    return numbers.taint_auto.get(effect_class, "owner")


@given(
    st.lists(VOTE, min_size=1, max_size=6),
    POLICY,
    st.sampled_from(["publish", "publish", "paid", "financial"]),
    TAINTS,
    TAGS,
    st.booleans(),
)
def test_whatever_a_judge_says_nothing_is_approved_that_the_numbers_do_not_approve(
    votes: list[dict[str, Any]], policy: dict[str, Any], effect_class: str, taint: str, worker_tags: list[str], reply: bool
) -> None:
    numbers = INLINE.model_copy(update=policy)
    log = planned(inline=numbers)
    log.add(rec.TaskPlanned(campaign=1, ordinal=1, attempt=1))
    thread = "t1" if reply else None
    proposed = proposal(input_version=log.state["version"], effect_class=effect_class, thread=thread)
    log.add(artifact(1, 1, 1, log.state["version"], proposed, taint=taint, tags=worker_tags))
    if log.answers[-1][0] != "applied":  # tainted money is not even proposed
        assert (effect_class, taint != "owner") == ("financial", True)
        return
    task = log.state["campaigns"][1]["tasks"][1]
    assert task["effect"] is not None
    agent: Agent | None = None
    for r in log.records:
        agent, _ = fold(log.law, agent, r)
    for number, said in enumerate(votes):
        vote = verdict(log.state, 1, 1, **{k: v for k, v in said.items() if v is not None or k.startswith("confidence")})
        agent, ruling = fold(log.law, agent, record(vote, len(log.records) + number, log.now + 1))
        effect = effect_of(agent) if agent is not None else None
        if effect is None or effect.status != "approved":
            continue
        assert ruling.outcome == "applied"
        assert effect_class == "publish" or effect.cfo == "pass"
        assert effect_class != "financial", "people are asked about money, whatever judges say"
        content = next(v for v in votes[: number + 1] if v["judge"] == "content" and _counts(v))
        assert content["decision"] == "pass"
        assert content["confidence"] > numbers.approve_above
        tags = {*worker_tags, *(t for v in votes[: number + 1] if _counts(v) for t in v["tags"])}
        assert not tags & set(numbers.sensitive_tags), "a sensitive tag from anyone asks people"
        assert RANK[taint] <= RANK[allowed_taint(numbers, effect_class, reply)]
        assert not numbers.shadow
        return


def _counts(vote: dict[str, Any]) -> bool:
    """A vote on exactly these bytes under the edition in force."""
    return vote["commit_hash"] is None and vote["policy_edition"] is None and vote["artifact_hash"] is None


def decided(taint: str, *, reply: bool, taint_auto: dict[str, rec.Taint]) -> str:
    """Where a confident, clean vote leads."""
    log = planned(inline=INLINE.model_copy(update={"taint_auto": taint_auto}))
    log.add(rec.TaskPlanned(campaign=1, ordinal=1, attempt=1))
    effect = proposal(input_version=log.state["version"], thread="t1" if reply else None)
    log.add(artifact(1, 1, 1, log.state["version"], effect, taint=taint))
    log.add(verdict(log.state, 1, 1, confidence=0.95))
    return _status(log)


def _status(log: Log) -> str:
    agent: Agent | None = None
    for r in log.records:
        agent, _ = fold(log.law, agent, r)
    assert agent is not None
    status: str = effect_of(agent).status
    return status


def test_by_default_strangers_words_may_answer_them_and_nothing_else() -> None:
    default = inline(Rules.model_validate({"boardkit": 1, "name": "t", "approvers": {"publish": ["kim"]}})).taint_auto
    assert decided("open", reply=True, taint_auto=default) == "approved"
    assert decided("open", reply=False, taint_auto=default) == "people"
    assert decided("allowlisted", reply=False, taint_auto=default) == "approved"


def test_where_policy_says_nothing_of_answers_they_count_as_publications() -> None:
    assert decided("open", reply=True, taint_auto={"publish": "allowlisted"}) == "people"
    assert decided("allowlisted", reply=True, taint_auto={"publish": "allowlisted", "reply": "owner"}) == "people"
