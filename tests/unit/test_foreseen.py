"""What a vote is foreseen to do is what the fold then does with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from chimera.events import records as rec
from chimera.events.does.people import foreseen
from chimera.events.envelope import decode
from chimera.events.hashes import digest
from chimera.events.raw import RawRecord
from chimera.events.records import JudgeVerdict
from chimera.events.state import Ruling
from chimera.events.state_codec import state_to_json
from tests.integration.projection_data import History, attempt, day, enrol, propose, start, vote


class Watched(History):
    """A history in which every content vote is foreseen before it is ruled."""

    def _add(self, partition: int, wire: Any) -> Ruling:
        key, value, headers = wire
        fold = self.folds[partition]
        record = decode(RawRecord(self.topic, partition, fold.next_offset, self.now, key.encode(), value, headers))
        told = None
        agent = fold.agents.get(key)
        d = record.data
        if isinstance(d, JudgeVerdict) and d.judge == "content" and agent is not None and d.campaign in agent.campaigns:
            c = agent.campaigns[d.campaign]
            t = c.tasks.get(d.ordinal)
            if t is not None and t.attempt == d.attempt and t.status == "produced":
                before = state_to_json(agent)
                told = foreseen(agent, c, t, d, record)
                assert state_to_json(agent) == before, "looking ahead changed the state"
        ruling = super()._add(partition, wire)
        if told is not None and ruling.outcome != "void" and ruling.reason not in ("stale", "too_similar"):
            self.seen[told[0]] += 1
            assert told == happened(ruling), f"{told} was foreseen, {ruling.changes} came"
        return ruling

    def __post_init__(self) -> None:
        self.seen: Counter[str] = Counter()
        super().__post_init__()


def happened(ruling: Ruling) -> tuple[str, str]:
    """Where the vote led, by what changed."""
    for change in ruling.changes:
        if (change.what, change.status) == ("effect", "people"):
            return "people", change.reason
        if change.what == "commit":
            return "auto", ""
    failed = next(change for change in ruling.changes if change.what == "task")
    return "retry", failed.reason


def edited_by_a_person_then_judged_doubtful(h: Watched, key: str, c: int) -> None:
    """The editor's vote is there before the judge's, so nobody is asked again."""
    t = next(t for t in h.agent(key).campaigns[c].tasks.values() if t.effect is not None and t.effect.status == "people")
    assert t.effect is not None
    assert t.artifact is not None
    content = {"text": "other words, by a person"}
    new = propose(h, key, t.input_state_version, content["text"])
    edited = rec.HumanEdited(
        campaign=c, ordinal=t.ordinal, attempt=t.attempt, policy_edition=1, old_effect_hash=t.effect.hash, edit=1,
        artifact_hash=digest(content), content=content, effect=new,
    )  # fmt: skip
    assert h.add(key, edited, actor="kim").outcome == "applied"
    before = h.seen["auto"]
    vote(h, key, c, t.ordinal, 0.8)
    assert h.seen["auto"] == before + 1


def test_votes_of_every_kind_do_what_was_foreseen() -> None:
    h = Watched("foreseen-chimera.log")
    for name in ("ava", "ben", "cleo"):
        day(h, name, 16)
    key = enrol(h, "dov")
    c = start(h, key, 9)
    kinds: list[dict[str, Any]] = [
        {"confidence": 0.95}, {"confidence": 0.9}, {"confidence": 0.7}, {"confidence": 0.69}, {"confidence": None},
        {"confidence": 0.95, "tags": ["health"]}, {"confidence": 0.99, "failed": ["length"]}, {"confidence": 1.5},
        {"confidence": 0.0},
    ]  # fmt: skip
    for ordinal, kind in enumerate(kinds, start=2):
        attempt(h, key, c, ordinal, f"words number {ordinal} that nobody wrote before, told by {ordinal * 7919}")
        vote(h, key, c, ordinal, **kind)
    edited_by_a_person_then_judged_doubtful(h, key, c)
    assert set(h.seen) == {"auto", "people", "retry"}
    assert sum(h.seen.values()) > 30
