"""What an agent remembers changes what it does later: a fact, a person's reason, a refusal of the like; and taint goes along."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chimera.events import records as rec
from chimera.events.notes import Source
from chimera.events.records import Taint
from chimera.memory.embedding import MiniLM
from chimera.policy.boardkit import load_text
from chimera.policy.brief import load_brief
from chimera.policy.writing import AnglesRequest, DraftRequest, read_reason
from chimera.processors import remembering
from tests.histories import START
from tests.memoryhouse import InMemory, note
from tests.swarmhouse import Keys, SwarmHouse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOUL = load_text(sorted((EXAMPLES / "souls").glob("*.md"))[0])
POLICY = load_text(EXAMPLES / "AGENTS.md")
SHADOW = POLICY.replace("boardkit: 1\n", "boardkit: 1\nshadow: true\n")
BRIEF = load_brief(EXAMPLES / "briefs/autumn.yaml")
AGENT = "agent/one"
COURIER, FIELD = BRIEF.feeds
FACT = "Squash soup for a family costs 70 cents a plate, the cooks of the harbour canteen found."
URL = "https://canteen.example/squash"
SOURCE = Source(title="Canteen notes", url=URL)


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


@pytest.fixture
def memory(minilm: MiniLM) -> InMemory:
    return InMemory(minilm, Keys(), START + 1_000_000)


def house_with(memory: InMemory | None, policy: str = POLICY, taint: Taint | None = None, **brief: Any) -> SwarmHouse:
    """One agent that works off one campaign of one post."""
    house = SwarmHouse(EXAMPLES, policy, memory=memory, taint=taint)
    house.enrol(AGENT, SOUL, BRIEF.model_copy(update={"formats": BRIEF.formats[:1], **brief}), "one")
    asyncio.run(house.run())
    return house


def begin(house: SwarmHouse, **brief: Any) -> None:
    """Another campaign of the same agent, worked off."""
    number = house.agents[AGENT].command_no + 1
    body = BRIEF.model_copy(update={"formats": BRIEF.formats[:1], **brief}).model_dump(mode="json")
    begun = rec.CampaignStarted(command_no=number, campaign_id=f"c{number}", name="n", brief=body, brief_hash="b")
    assert house.add(AGENT, begun, "dee").outcome == "applied"
    asyncio.run(house.run())


def refuse(house: SwarmHouse, code: str, comment: str) -> str:
    """A person refuses the card that waits. -> its words."""
    [(c, task)] = [(c, t) for c in house.agents[AGENT].campaigns.values() for t in c.tasks.values() if t.effect is not None]
    assert task.effect is not None
    words = house.text_of(task.effect)
    place = {"campaign": c.number, "ordinal": task.ordinal, "attempt": task.attempt, "policy_edition": 1}
    no = rec.HumanRejected(**place, effect_hash=task.effect.hash, reason_code=code, comment=comment)
    assert house.add(AGENT, no, "kim").outcome == "applied"
    return words


def made(house: SwarmHouse, kind: str) -> rec.ArtifactProduced:
    """The newest artifact of a kind."""
    return [r.data for r in house.records if isinstance(r.data, rec.ArtifactProduced) and r.data.kind == kind][-1]


def asked(house: SwarmHouse, kind: type[Any]) -> Any:
    """The newest request of a kind to the writer."""
    return [request for _, request in house.asked if isinstance(request, kind)][-1]


def test_a_fact_of_an_earlier_campaign_is_material_of_a_later_one_with_its_source_and_its_place(memory: InMemory) -> None:
    house = house_with(memory, feeds=[COURIER])
    noted = {each.source.url: each for each in house.notes if each.source is not None}
    begin(house, feeds=[FIELD])
    research = made(house, "research")
    recalled = [article for article in research.content["articles"] if remembering.INPUT in article]
    assert recalled
    assert {article["url"] for article in recalled} <= set(noted)
    for article in recalled:
        [place, *_] = article[remembering.INPUT]
        assert place["note"] in {each.id for each in house.notes}
        assert place["taint"] == "allowlisted"
    assert {article["url"] for article in recalled} <= {article.url for article in asked(house, AnglesRequest).articles}

    forgetful = house_with(None, feeds=[COURIER])
    begin(forgetful, feeds=[FIELD])
    assert not any(remembering.INPUT in article for article in made(forgetful, "research").content["articles"])


def test_a_remembered_fact_changes_what_is_posted_and_the_post_links_its_source(memory: InMemory) -> None:
    wish: Any = {"goal": "Tell what squash soup costs a family.", "key_messages": ["Squash soup is cheap"], "feeds": [FIELD]}
    forgetful = house_with(None, **wish)
    memory.put([note(FACT, agent=AGENT, url=URL, ts=START, keys=Keys()).model_copy(update={"source": SOURCE})])
    house = house_with(memory, **wish)
    post, other = made(house, "publish"), made(forgetful, "publish")
    assert "70 cents a plate" in post.content["text"]
    assert URL in post.content["text"]
    assert "70 cents a plate" not in other.content["text"]
    votes = [r.data for r in house.records if isinstance(r.data, rec.JudgeVerdict)]
    assert votes[-1].decision == "pass", "the judge finds the passage where the research says that it stands"


def test_what_is_worth_less_than_the_material_is_not_put_beside_it(memory: InMemory) -> None:
    memory.put([note(FACT, agent=AGENT, taint="open", ts=START, keys=Keys()).model_copy(update={"source": SOURCE})])
    wish: Any = {"goal": "Tell what squash soup costs a family.", "key_messages": ["Squash soup is cheap"], "feeds": [FIELD]}
    trusted = made(house_with(memory, **wish), "research")
    assert (trusted.taint, [a for a in trusted.content["articles"] if remembering.INPUT in a]) == ("allowlisted", [])
    stranger = made(house_with(memory, taint="open", **wish), "research")
    assert stranger.taint == "open"
    assert URL in [a["url"] for a in stranger.content["articles"]], "beside words of strangers it may stand"


def test_a_persons_reason_is_told_to_the_writer_when_the_fold_holds_it_no_more(memory: InMemory) -> None:
    said = "never say that small budgets are rich in autumn, it hurts those who are poor"
    memory.put([note(f"off_brand: {said}", agent=AGENT, kind="human_reason", taint="owner", ts=START, keys=Keys())])
    house = house_with(memory)
    assert not house.agents[AGENT].lessons
    [line] = [line for line in asked(house, DraftRequest).feedback if said in line]
    assert read_reason(line)[:2] == ("rejected", "off_brand")
    draft = made(house, "draft")
    assert [place["taint"] for place in draft.provenance[remembering.INPUT]] == ["owner"]
    assert asked(house_with(None), DraftRequest).feedback == []


def test_the_last_refusals_which_every_task_is_told_are_not_told_twice(memory: InMemory) -> None:
    house = house_with(memory, SHADOW)
    refuse(house, "off_brand", "too many soups")
    begin(house)
    assert len([line for line in asked(house, DraftRequest).feedback if "too many soups" in line]) == 1


def test_what_is_much_like_a_refused_text_is_shown_to_people(memory: InMemory) -> None:
    [effect] = house_with(None).proposals()
    words = effect.arguments["text"]
    # Of strangers' worth: the writer, who works from trusted feeds, is not told, and writes the same text again.
    memory.put([note(f'off_brand: no (of: "{words}")', agent=AGENT, kind="human_reason", taint="open", ts=START, keys=Keys())])
    house = house_with(memory)
    assert made(house, "publish").content["text"] == words
    vote = [r.data for r in house.records if isinstance(r.data, rec.JudgeVerdict)][-1]
    assert vote.decision == "people"
    assert any(read_reason(line).rule == "remembered_refusal" for line in vote.reasons)
    assert [place["taint"] for place in vote.trace[remembering.INPUT]] == ["open"]


def test_a_text_refused_for_its_timing_is_not_held_against_the_like(memory: InMemory) -> None:
    [effect] = house_with(None).proposals()
    told = f'timing: later (of: "{effect.arguments["text"]}")'
    memory.put([note(told, agent=AGENT, kind="human_reason", taint="open", ts=START, keys=Keys())])
    vote = [r.data for r in house_with(memory).records if isinstance(r.data, rec.JudgeVerdict)][-1]
    assert vote.decision == "pass"


def test_how_earlier_posts_did_is_told_to_the_writer(memory: InMemory) -> None:
    post = note("A pot of squash soup feeds four.", agent=AGENT, kind="post_result", numbers={"likes": 12.0}, ts=START, keys=Keys())
    memory.put([post.model_copy(update={"platform": "x"})])
    house = house_with(memory, goal="Tell what squash soup costs a family.")
    assert asked(house, DraftRequest).remembered == ["on x (12 likes): A pot of squash soup feeds four."]


def test_without_memory_or_while_it_is_away_the_swarm_works_as_ever(memory: InMemory) -> None:
    memory.put([note(FACT, agent=AGENT, ts=START, keys=Keys()).model_copy(update={"source": SOURCE})])
    memory.away = True
    alone, away = house_with(None), house_with(memory)
    assert [r.type for r in alone.records] == [r.type for r in away.records]
    assert made(alone, "publish").content["text"] == made(away, "publish").content["text"]


def test_what_another_agent_or_tenant_remembers_is_not_asked(memory: InMemory) -> None:
    house = house_with(memory)
    begin(house)
    assert memory.asked
    assert {(tenant, query.agent) for tenant, query in memory.asked} == {("acme", AGENT)}
