"""Properties of the fold over random histories by several writers, some of them late, wrong or dead without knowing it.

`CHIMERA_DEEP=1` runs many more and longer histories and shrinks what fails; without it all of this takes about half a minute.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from chimera.events.envelope import NewRecord, Record, SigningKey, decode, encode
from chimera.events.fold import fold
from chimera.events.law import TABLE
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.records import ALL, LawAdopted, Probation, Threshold
from chimera.events.state import Agent, Change, Ruling
from chimera.events.state_codec import state_from_json, state_to_json
from tests import histories as h
from tests.lawspec import fold_all, snapshot
from tests.slowfold import summary_of_agent, summary_of_slow

DEEP = bool(os.environ.get("CHIMERA_DEEP"))
LENGTH = 300 if DEEP else 120
settings.register_profile(
    "fold",
    max_examples=3_000 if DEEP else 100,
    deadline=None,
    phases=list(Phase) if DEEP else [Phase.explicit, Phase.generate],
    derandomize=not DEEP,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
PROFILE = settings.get_profile("fold")
IN_FLIGHT = ("claimed", "submitted", "unknown")


@st.composite
def histories(draw: st.DrawFn, /, **numbers: Any) -> h.Log:
    """A log that began properly, under a policy with these `numbers`, and went on at random."""
    steps = st.tuples(st.integers(0, 19), st.integers(0, 11), st.integers(0, 2**16 - 1), st.integers(0, 9))
    many = draw(st.lists(steps, min_size=1, max_size=LENGTH // 3))
    rest = random.Random(draw(st.integers(0, 2**32 - 1)))
    tail = draw(st.sampled_from([LENGTH - LENGTH // 3, LENGTH // 3, 0]))
    more = [(rest.randrange(20), rest.randrange(12), rest.randrange(2**16), rest.randrange(10)) for _ in range(tail)]
    return h.play(h.planned(inline=h.INLINE.model_copy(update=numbers)), [*many, *more])


def folded(log: h.Log) -> Iterator[tuple[Record, Agent | None, Ruling, Agent | None]]:
    """(record, state before, ruling, state after): the states are copies."""
    agent: Agent | None = None
    for r in log.records:
        before = snapshot(agent)
        agent, ruling = fold(log.law, agent, r)
        yield r, state_from_json(before) if before else None, ruling, agent


@PROFILE
@given(histories())
def test_two_readings_of_the_law_agree_on_every_ruling_version_and_state(log: h.Log) -> None:
    agent: Agent | None = None
    for i, r in enumerate(log.records):
        agent, ruling = fold(log.law, agent, r)
        assert (ruling.outcome, ruling.reason, ruling.version) == log.answers[i], f"{r.type} at {i}"
        assert summary_of_agent(agent) == summary_of_slow(log.states[i + 1]), f"{r.type} at {i}"


def test_two_readings_agree_over_long_lives_in_which_every_row_has_counted() -> None:
    """Longer than Hypothesis draws them; and the histories are worth something: every row counts, every usual refusal occurs."""
    counted: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for seed in range(2_000 if DEEP else 90):
        draw = random.Random(seed)
        steps = [(draw.randrange(20), draw.randrange(12), draw.randrange(2**16), draw.randrange(10)) for _ in range(200)]
        log = h.play(h.planned(), steps)
        agent: Agent | None = None
        for i, r in enumerate(log.records):
            agent, ruling = fold(log.law, agent, r)
            assert (ruling.outcome, ruling.reason, ruling.version) == log.answers[i], f"{r.type} at {i} of {seed}"
            assert summary_of_agent(agent) == summary_of_slow(log.states[i + 1]), f"{r.type} at {i} of {seed}"
            counted[r.type if ruling.outcome == "applied" else ""] += 1
            refused[ruling.reason if ruling.outcome == "rejected" else ""] += 1
    assert counted.keys() >= TABLE.keys()
    assert refused.keys() >= {"stale", "paused", "too_early", "too_frequent", "too_similar", "bad_value", "no_allowance", "closed"}


@PROFILE
@given(histories(), st.integers(0, 2**32 - 1))
def test_a_second_copy_of_any_record_at_any_later_place_is_void_and_changes_nothing(log: h.Log, seed: int) -> None:
    draw = random.Random(seed)
    agent: Agent | None = None
    past: list[tuple[Record, bool]] = []
    for i, r in enumerate(log.records):
        agent, ruling = fold(log.law, agent, r)
        past.append((r, ruling.outcome != "void"))
        for again, counted in (past[-1], past[draw.randrange(len(past))]):
            if not counted or agent is None:
                continue
            before = snapshot(agent)
            agent, second = fold(
                log.law, agent, replace(again, offset=i, append_ts=max(log.now, again.append_ts) + draw.randrange(10_000))
            )
            assert second.outcome == "void", f"{again.type} of {again.offset} again after {i}: {second}"
            assert snapshot(agent) == before


@PROFILE
@given(histories())
def test_void_changes_nothing_and_only_an_applied_record_raises_the_version_by_one(log: h.Log) -> None:
    version = 0
    for r, before, ruling, after in folded(log):
        assert ruling.version_before == version
        assert ruling.version - version in ((0, 1) if ruling.outcome == "applied" else (0,)), f"{r.type}: {ruling}"
        version = ruling.version
        assert after is None or after.version == version
        if ruling.outcome == "void" and ruling.reason != "unreadable":
            assert snapshot(before) == snapshot(after)
            assert ruling.changes == ()


@PROFILE
@given(histories())
def test_nothing_is_claimed_without_its_quorum(log: h.Log) -> None:
    """Recounted from the records alone: votes on exactly these bytes under the edition in force, and people who may."""
    votes: dict[tuple[str, int], list[Record]] = {}
    for r, before, ruling, _ in folded(log):
        d: Any = r.data
        if ruling.outcome == "void" or before is None:
            continue
        if r.type in ("JudgeVerdict", "HumanApproved") and d.effect_hash:
            votes.setdefault((d.effect_hash, d.policy_edition), []).append(r)
        if r.type == "HumanEdited":
            votes.setdefault((d.effect.effect_hash, d.policy_edition), []).append(r)
        if r.type != "EffectClaimed" or ruling.outcome != "applied":
            continue
        assert before.policy is not None
        inline = before.policy.inline
        c = before.campaigns[d.campaign]
        e = c.tasks[d.ordinal].effect
        assert e is not None
        cast = votes.get((d.effect_hash, before.policy.edition), [])
        content = [v.data for v in cast if v.type == "JudgeVerdict" and v.data.judge == "content"]  # type: ignore[union-attr]
        assert len(content) == 1, "the content judge voted once on these bytes under this edition"
        verdict: Any = content[0]
        assert verdict.decision != "fail"
        people = {v.actor for v in cast if v.type != "JudgeVerdict"}
        assert people <= set(inline.approvers[e.effect_class]) - {c.requester, before.policy.editor}
        by_itself = verdict.decision == "pass" and verdict.confidence is not None and 0.90 < verdict.confidence <= 1.0
        calm = not set(verdict.tags) & set(inline.sensitive_tags) and not inline.shadow and e.taint != "open"
        needed = inline.people.get(e.effect_class, 2 if e.effect_class == "financial" else 1)
        if e.effect_class == "financial" and e.max_cost > inline.auto_financial_usd:
            by_itself = False
        assert (by_itself and calm) or len(people) >= needed
        if e.effect_class != "publish" or e.max_cost > 0:
            assert any(v.type == "JudgeVerdict" and v.data.judge == "cfo" for v in cast)  # type: ignore[union-attr]
            assert e.max_cost == 0 or e.funds == "held"


STRICT = {"platform_thresholds": {"x": Threshold(approve_above=0.96)}, "tag_thresholds": {"tea": Threshold(approve_above=0.97)}}
WATCHFUL = {"probation": Probation(decisions=1, overrides_ppm=0, demote_above_ppm=300_000, window=3)}


@PROFILE
@given(st.one_of(histories(**STRICT), histories(**WATCHFUL)))
def test_what_nobody_approved_was_above_every_threshold_and_its_agent_not_in_shadow(log: h.Log) -> None:
    """Thresholds taken from the policy line by line, trust from the state before the record that approved."""
    confidences: dict[str, float] = {}
    for r, before, ruling, after in folded(log):
        d: Any = r.data
        if ruling.outcome == "applied" and r.type == "JudgeVerdict" and d.judge == "content" and d.confidence is not None:
            confidences[d.effect_hash] = d.confidence
        for change in ruling.changes:
            if (change.what, change.status) != ("effect", "approved") or change.reason in ("deferred", "not_executed"):
                continue
            assert before is not None
            assert before.policy is not None
            assert after is not None
            e = after.campaigns[change.campaign].tasks[change.ordinal].effect
            assert e is not None
            if e.approvals:
                continue
            p = before.policy.inline
            assert not p.shadow
            assert p.probation is None or before.trusted
            said = [p.approve_above, *(t.approve_above for tag, t in p.tag_thresholds.items() if tag in e.tags)]
            said += [t.approve_above for platform, t in p.platform_thresholds.items() if platform == e.platform]
            assert all(threshold is None or confidences[e.hash] > threshold for threshold in said)


@PROFILE
@given(histories())
def test_an_effect_has_one_live_claim_and_its_task_ends_once(log: h.Log) -> None:
    live: dict[tuple[int, int], int] = {}
    ended: dict[tuple[int, int], Change] = {}
    for r, _, ruling, after in folded(log):
        for change in ruling.changes:
            place = (change.campaign, change.ordinal)
            if change.what == "effect" and change.status == "claimed":
                assert place not in live, f"{r.type} claims what is claimed"
                live[place] = int(change.detail)
            elif change.what == "effect" and change.status not in IN_FLIGHT:
                live.pop(place, None)
            if change.what == "task" and change.status in ("done", "closed", "dropped"):
                assert place not in ended, f"{place} ended twice: {ended[place]} and {change}"
                ended[place] = change
        flying = {
            (c.number, t.ordinal)
            for c in (after.campaigns.values() if after else ())
            for t in c.tasks.values()
            if t.effect is not None and t.effect.status in IN_FLIGHT
        }
        assert flying == set(live)


@PROFILE
@given(histories())
def test_no_commit_is_stale_by_the_record_of_all_writes(log: h.Log) -> None:
    """Rule 3, counted again from the changes: nobody else wrote what the attempt read between its opening and its commit."""
    writes: list[tuple[int, set[str], tuple[int, int] | None]] = []
    for r, before, ruling, after in folded(log):
        if ruling.version == ruling.version_before or after is None or before is None:
            continue
        committed = [change for change in ruling.changes if change.what == "commit"]
        d: Any = r.data
        for change in committed:
            place = (change.campaign, change.ordinal)
            t = before.campaigns[place[0]].tasks[place[1]]
            opened, written, _ = change.detail.split(" ")
            assert (int(opened), int(written)) == (t.input_state_version, ruling.version)
            for version, aspects, by in writes:
                if version > t.input_state_version and by != place:
                    assert "*" not in t.aspects
                    assert not aspects & set(t.aspects)
            thread = t.effect.thread if t.effect is not None else None
            writes.append((ruling.version, {f"thread/{thread}"} if thread else set(), place))
        if not committed:
            aspects = {
                "SoulAdopted": lambda d: {"soul"},
                "PolicyAdopted": lambda d: {"policy"},
                "AccountLinked": lambda d: {f"account/{d.platform}"},
                "AccountUnlinked": lambda d: {f"account/{d.platform}"},
                "ToolChanged": lambda d: {f"account/{d.platform}"},
                "BriefChanged": lambda d: {f"brief/{d.campaign}"},
                "SignalObserved": lambda d: {f"thread/{item.thread}" for item in d.items},
            }[r.type](d)
            writes.append((ruling.version, aspects, None))


@PROFILE
@given(histories())
def test_a_state_written_and_read_back_goes_on_the_same(log: h.Log) -> None:
    agent: Agent | None = None
    for i, r in enumerate(log.records):
        if i % 7 == 0 and agent is not None:
            written = state_to_json(agent)
            agent = state_from_json(written)
            assert state_to_json(agent) == written
        agent, ruling = fold(log.law, agent, r)
        assert (ruling.outcome, ruling.reason, ruling.version) == log.answers[i]
    whole, _ = fold_all(log.law, log.records)
    assert agent == whole


@PROFILE
@given(histories())
def test_the_index_and_the_counts_are_what_a_scan_finds(log: h.Log) -> None:
    for _, _, _, agent in folded(log):
        if agent is None:
            continue
        opened = [(c.number, t) for c in agent.campaigns.values() for t in c.tasks.values() if t.status != "planned"]
        assert agent.open_tasks == len(opened)
        readers: dict[str, set[tuple[int, int]]] = {}
        for number, t in opened:
            for aspect in t.aspects:
                readers.setdefault(aspect, set()).add((number, t.ordinal))
        assert agent.readers == readers


# --- bytes -----------------------------------------------------------------------------------------------------------

ROOT, COMMAND_KEY = SigningKey.from_bytes(b"r" * 32), SigningKey.from_bytes(b"c" * 32)


def wire(
    data: Any, offset: int, *, key: str = h.AGENT, signer: SigningKey | None = COMMAND_KEY, actor: str = "svc", ts: int = 0
) -> RawRecord:
    """A record as the broker holds it."""
    made = encode(NewRecord(key, data, "acme", actor, "2026-01-01T00:00:00Z", f"id-{offset}"), signer)
    return RawRecord("chimera.log", 0, offset, ts or h.START + offset, made.key.encode(), made.value, made.headers)


def partition_in_force() -> PartitionFold:
    """A partition whose law lists the command key."""
    fold_ = PartitionFold(0, 24, ROOT.public)
    adopted = wire(LawAdopted(edition=1, law=1, keys={"command": [COMMAND_KEY.public]}), 0, key="law/0", signer=ROOT)
    assert fold_.apply(adopted)[1].outcome == "applied"
    return fold_


def as_bytes(log: h.Log) -> list[RawRecord]:
    """The readable records of a log, encoded and signed."""
    return [
        wire(r.data, r.offset + 1, actor=r.actor, ts=r.append_ts, signer=COMMAND_KEY if r.signed_by else None)
        for r in log.records
        if r.data is not None and r.hash_ok and r.type != "SignalObserved"
    ]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1E+999999999", "-1E-999999999", "NaN", "Infinity", "\x00", "agent/x", "1.0", "0x1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def dumps_any(value: Any) -> bytes:
    """JSON with numbers of any size and NaN: what a foreign writer might send."""
    return json.dumps(value).encode()


def spoiled(value: bytes, path: list[int], leaf: Any) -> bytes:
    """The same JSON with one value somewhere replaced."""
    body = json.loads(value)
    node: Any = body
    for depth, step in enumerate(path):
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        at = keys[step % len(keys)]
        if depth == len(path) - 1 or not isinstance(node[at], dict | list):
            node[at] = leaf
            break
        node = node[at]
    return dumps_any(body)


@settings(PROFILE, max_examples=20_000 if DEEP else 250)
@given(
    key=st.none() | st.binary(max_size=8) | st.sampled_from([h.AGENT.encode(), b"law/0", b"law/", b"\xff"]),
    value=st.none() | st.binary(max_size=40) | JSON.map(dumps_any),
    type_=st.sampled_from([model.TYPE for model in ALL] + ["Other", ""]),
    headers=st.lists(
        st.tuples(st.sampled_from(["ce_id", "ce_type", "ce_keyid", "ce_signature", "x", ""]), st.binary(max_size=6)), max_size=3
    ),
    drop=st.integers(0, 12),
)
def test_no_bytes_make_a_partition_raise(
    key: bytes | None, value: bytes | None, type_: str, headers: list[tuple[str, bytes]], drop: int
) -> None:
    fold_ = partition_in_force()
    for raw in as_bytes(h.planned()):
        fold_.apply(raw)
    proper = wire(h.rec.CampaignCompleted(campaign=1), 20)
    named = [(name, type_.encode() if name == "ce_type" else content) for name, content in proper.headers]
    mixed = [*named[:drop], *named[drop + 1 :], *headers]
    for raw in (proper._replace(value=value, headers=mixed), proper._replace(key=key, value=value, headers=named)):
        _, ruling = fold_.apply(raw)
        assert ruling.outcome in ("applied", "rejected", "void")
    for agent in fold_.agents.values():
        state_to_json(agent)


def _lived() -> list[RawRecord]:
    """A history in which most types have counted."""
    log = h.planned()
    draw = random.Random(7)
    h.play(log, [(draw.randrange(17), 0, draw.randrange(2**16), draw.randrange(9)) for _ in range(150)])
    return as_bytes(log)


LIVED = _lived()


@settings(PROFILE, max_examples=20_000 if DEEP else 400)
@given(st.integers(0, len(LIVED) - 1), st.lists(st.integers(0, 30), min_size=1, max_size=3), JSON, st.booleans())
def test_no_spoilt_value_makes_a_partition_raise_and_the_state_can_still_be_written(
    n: int, path: list[int], leaf: Any, signed: bool
) -> None:
    fold_ = partition_in_force()
    for raw in LIVED[:n]:
        fold_.apply(raw)
    raw = LIVED[n]
    value = spoiled(raw.value or b"", path, leaf)
    record = decode(raw._replace(value=value))
    rulings = [fold_.rule(replace(record, signed_by=COMMAND_KEY.id if signed else None))[1]]
    rulings += [fold_.apply(later)[1] for later in LIVED[n + 1 : n + 12]]
    assert all(ruling.outcome in ("applied", "rejected", "void") for ruling in rulings)
    for agent in fold_.agents.values():
        assert state_to_json(state_from_json(state_to_json(agent))) == state_to_json(agent)


@PROFILE
@given(histories())
@example(h.planned())
def test_the_partition_rules_bytes_as_the_fold_rules_records(log: h.Log) -> None:
    fold_, agent = partition_in_force(), None
    law = fold_.law
    for raw in as_bytes(log):
        record, ruling = fold_.apply(raw)
        assert record.defect is None, record.defect
        agent, plain = fold(law, agent, record)
        assert plain == ruling
    assert snapshot(fold_.agents.get(h.AGENT)) == snapshot(agent)
    assert agent is not None
