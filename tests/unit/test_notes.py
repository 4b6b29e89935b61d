"""What a swarm does and hears becomes notes: each says its source, each once, and none of somebody who is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema_rs import Draft202012Validator

from chimera.commands.subjects import SubjectForgotten
from chimera.eventlog.append import AppendFailed
from chimera.eventlog.bulk import Entry
from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.fold import fold
from chimera.events.notes import BadNote, MemoryNoted, decode, encode
from chimera.events.sealed import unseal
from chimera.events.state import Agent, Ref
from chimera.mcp.sandbox.timeline import Timeline, user_id_of
from chimera.mcp.sandbox.x import XSandbox
from chimera.memory.contract import Query
from chimera.memory.embedding import HashedWords
from chimera.policy.boardkit import load_text
from chimera.policy.brief import Replies, load_brief
from chimera.processors import noting
from chimera.processors.noting import Noter, Scribe
from tests.histories import LAW
from tests.memoryhouse import InMemory
from tests.swarmhouse import Keys, SwarmHouse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOUL = load_text(sorted((EXAMPLES / "souls").glob("*.md"))[0])
POLICY = load_text(EXAMPLES / "AGENTS.md").replace("boardkit: 1\n", "boardkit: 1\nlisten: {x: {every_s: 30}}\n")
TRUSTING = POLICY.replace("approve_above: 0.90", "approve_above: 0.60").replace("people_from: 0.70", "people_from: 0.50")
BRIEF = load_brief(EXAMPLES / "briefs/autumn.yaml")
AGENT = "agent/one"
SHADOW = POLICY.replace("boardkit: 1\n", "boardkit: 1\nshadow: true\n")


@pytest.fixture
def x(tmp_path: Path) -> Iterator[Timeline]:
    timeline = Timeline(tmp_path / "x")
    timeline.know("one")
    yield timeline
    timeline.close()


def house_with(policy: str, x: Timeline | None = None) -> SwarmHouse:
    """One agent that has done what it could."""
    house = SwarmHouse(EXAMPLES, policy, x=None if x is None else XSandbox(x))
    brief = BRIEF.model_copy(update={"formats": BRIEF.formats[:1], "replies": Replies(days=2) if x is not None else None})
    house.enrol(AGENT, SOUL, brief, "one")
    asyncio.run(house.run())
    return house


def answering(x: Timeline) -> SwarmHouse:
    """One agent that was asked something by Mia, whom it has answered."""
    x.once("Mia", None, "dm", {}, lambda: {"id": x.message("Mia", user_id_of("one"), "Do you take a short walk on every day?").id})
    house = house_with(TRUSTING, x)
    house.later += 40_000
    asyncio.run(house.run())
    asyncio.run(house.go_out())
    asyncio.run(house.run())
    return house


def notes(house: SwarmHouse, kind: str) -> list[MemoryNoted]:
    return [note for note in house.notes if note.kind == kind]


def words(note: MemoryNoted) -> str:
    return unseal(Keys(), note.text)


def folded_again(house: SwarmHouse, noter: Noter) -> None:
    """The whole log, folded anew."""
    agent: Agent | None = None
    for record in house.records:
        hear = noter.heed(record, agent)
        agent, ruling = fold(LAW, agent, record)
        if hear is not None:
            hear(ruling)


def again(house: SwarmHouse, keys: Keys | None = None) -> list[MemoryNoted]:
    """What whoever folds the whole log anew notes."""
    found: list[MemoryNoted] = []

    def append(entries: Sequence[Entry]) -> None:
        found.extend(decode(entry.key.encode(), entry.value) for entry in entries)

    noter = Noter(Scribe(house.read, keys or Keys()), append)
    folded_again(house, noter)
    asyncio.run(noter.round())
    return found


def test_a_fact_is_noted_word_for_word_with_the_source_that_it_stands_in() -> None:
    house = house_with(POLICY)
    research = next(r.data for r in house.records if isinstance(r.data, rec.ArtifactProduced) and r.data.kind == "research")
    texts = {a["url"]: f"{a['title']}\n{a['summary']}\n{a['text']}" for a in research.content["articles"]}
    facts = notes(house, "fact_with_source")
    assert facts
    for fact in facts:
        assert fact.source is not None
        assert words(fact) in texts[fact.source.url]
        assert (fact.agent, fact.taint, fact.policy_edition) == (AGENT, research.taint, 1)
        source = house.records[fact.provenance.offset]
        assert source.id == fact.provenance.record
        assert fact.ts == source.append_ts


def test_what_a_writer_made_up_is_no_fact() -> None:
    house = house_with(POLICY)
    at = next(n for n, r in enumerate(house.records) if isinstance(r.data, rec.ArtifactProduced) and "angles" in r.data.content)
    made = house.records[at].data
    assert isinstance(made, rec.ArtifactProduced)
    angles = orjson.loads(orjson.dumps(made.content["angles"]))
    for angle in angles:
        for support in angle["support"]:
            support["quote"] = "Soup cures everything, doctors say."
    house.records[at] = replace(house.records[at], data=made.model_copy(update={"content": {"angles": angles}}))
    assert [note for note in again(house) if note.kind == "fact_with_source"] == []


def test_a_persons_no_is_noted_with_its_reason_and_the_words_that_it_was_about() -> None:
    house = house_with(SHADOW)
    [(_, effect)] = house.standing()
    [c] = house.agents[AGENT].campaigns.values()
    [task] = [t for t in c.tasks.values() if t.effect is not None]
    place = {"campaign": c.number, "ordinal": task.ordinal, "attempt": task.attempt, "policy_edition": 1}
    no = rec.HumanRejected(**place, effect_hash=effect.hash, reason_code="off_brand", comment="too many soups")
    house.add(AGENT, no, "kim")
    asyncio.run(house.run())
    [note] = notes(house, "human_reason")
    assert words(note).startswith("off_brand: too many soups")
    assert house.text_of(effect) in words(note)


def test_what_a_stranger_said_stays_sealed_under_the_strangers_key_and_a_post_is_noted_when_it_is_out(x: Timeline) -> None:
    house = answering(x)
    heard = next(r.data for r in house.records if isinstance(r.data, rec.SignalObserved))
    [said] = notes(house, "reply")
    assert said.text == heard.items[0].text, "not even opened on the way"
    assert (said.taint, said.platform) == ("open", "x")
    posts = notes(house, "post_result")
    answers = [note for note in posts if note.text.subject == said.text.subject]
    assert answers, "what was answered to a person is sealed with what the person said"
    assert [note.text.subject for note in posts if note not in answers] in ([], [AGENT])


def test_each_look_at_a_post_takes_the_place_of_what_was_remembered_of_it(x: Timeline) -> None:
    # given an answer that went out, and what was noted of it then
    house = answering(x)
    told: list[MemoryNoted] = []
    away = [False]

    def append(entries: Sequence[Entry]) -> None:
        if away[0]:
            raise AppendFailed("chimera.notes", 0, "the broker is away", maybe_written=False)
        told.extend(decode(entry.key.encode(), entry.value) for entry in entries)

    noter = Noter(Scribe(house.read, Keys()), append)
    folded_again(house, noter)
    asyncio.run(noter.round())
    [out] = [note for note in told if note.kind == "post_result"]
    [ended] = [r.data for r in house.records if isinstance(r.data, rec.EffectEnded)]
    assert ended.platform_id is not None
    made = Ref(out.provenance.partition, out.provenance.offset)

    # when its numbers are looked at, twice, one look is told again, the broker is away, and all is noted anew from the log
    async def looks() -> None:
        for after_ms, likes in ((60_000, 3.0), (90_000, 40.0), (60_000, 3.0)):
            await noter.observed("acme", AGENT, made, ended.platform_id or "", {"likes": likes}, out.ts + after_ms, 1)
        away[0] = True
        with pytest.raises(AppendFailed):
            await noter.round()
        away[0] = False
        folded_again(house, noter)
        await noter.round()

    asyncio.run(looks())

    # then it is one note, which says how the post did last, in whatever order they come
    posts = [note for note in told if note.kind == "post_result"]
    assert (len(posts), {note.id for note in posts}) == (5, {out.id})
    for order in (posts, posts[::-1]):
        memory = InMemory(HashedWords(), Keys())
        memory.put(order)
        [found] = memory.recall("acme", Query(words(out), AGENT, ("post_result",)))
        assert (found.text, found.note.numbers, found.note.platform) == (words(out), {"likes": 40.0}, "x")


def test_of_somebody_who_is_forgotten_nothing_new_is_noted() -> None:
    class Gone(Keys):
        def key_for(self, subject: str) -> bytes:
            raise SubjectForgotten(subject)

    house = house_with(POLICY)
    assert house.notes
    assert again(house, Gone()) == []


def test_whoever_folds_again_makes_notes_of_the_same_ids() -> None:
    house = house_with(POLICY)
    assert [note.id for note in again(house)] == [note.id for note in house.notes]
    assert len({note.id for note in house.notes}) == len(house.notes)


def test_what_was_folded_is_settled_only_once_its_notes_are_in_the_log() -> None:
    house = house_with(POLICY)
    away = [True]
    appended: list[Any] = []

    def append(entries: Sequence[Entry]) -> None:
        if away[0]:
            raise AppendFailed("chimera.notes", 0, "the broker is away", maybe_written=False)
        appended.extend(entries)

    async def story() -> None:
        noter = Noter(Scribe(house.read, Keys()), append)
        folded_again(house, noter)
        settled = asyncio.ensure_future(noter.settled())
        with pytest.raises(AppendFailed):
            await noter.round()
        await asyncio.sleep(0)
        assert not settled.done()
        away[0] = False
        await noter.round()
        await asyncio.wait_for(settled, 60)
        assert len(appended) == len(house.notes)

    asyncio.run(story())


def test_after_a_restart_records_are_asked_for_side_by_side_and_noted_in_their_order(
    x: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = answering(x)
    appended: list[Entry] = []

    async def story() -> None:
        asked: list[Ref] = []
        all_asked = asyncio.Event()

        async def read(ref: Ref) -> Record:
            """Answers nobody before everybody has asked: who reads one by one would wait for ever."""
            asked.append(ref)
            if len(asked) == noter.waiting:
                all_asked.set()
            await all_asked.wait()
            return await house.read(ref)

        noter = Noter(Scribe(read, Keys()), appended.extend)
        folded_again(house, noter)
        assert noter.waiting > 1
        monkeypatch.setattr(noting, "MOST_AT_ONCE", noter.waiting)
        await asyncio.wait_for(noter.round(), 60)

    asyncio.run(story())
    assert [decode(entry.key.encode(), entry.value).id for entry in appended] == [note.id for note in again(house)]


def test_notes_fit_the_schema_that_is_published() -> None:
    one = Draft202012Validator(orjson.loads(Path("docs/reference/notes.schema.json").read_bytes()))
    for note in house_with(POLICY).notes:
        one.validate(orjson.loads(encode(note)))
        assert not one.is_valid({**orjson.loads(encode(note)), "text": "in clear"})


def test_a_note_says_itself_again_from_its_bytes_and_other_bytes_are_none() -> None:
    note = house_with(POLICY).notes[0]
    value = encode(note)
    assert decode(note.agent.encode(), value) == note
    said = orjson.loads(value)
    for key, wrong in (
        (b"agent/two", value),
        (note.agent.encode(), b"{"),
        (note.agent.encode(), b"[]"),
        (note.agent.encode(), orjson.dumps(said | {"surprise": 1})),
        (note.agent.encode(), orjson.dumps(said | {"kind": "rumour"})),
        (note.agent.encode(), orjson.dumps(said | {"text": "in clear"})),
        (None, value),
    ):
        with pytest.raises(BadNote):
            decode(key, wrong)
