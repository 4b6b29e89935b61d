"""What was refused is told to whoever writes next: the writer's prompts, as it really got them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson

from chimera.events import records as rec
from chimera.events.records import Taint
from chimera.events.state import LESSONS, Effect
from chimera.mcp.sandbox.writer.model import messages
from chimera.policy.boardkit import load_text
from chimera.policy.brief import load_brief
from chimera.policy.writing import DraftRequest, read_reason
from tests.swarmhouse import SwarmHouse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOUL = load_text(sorted((EXAMPLES / "souls").glob("*.md"))[0])
POLICY = load_text(EXAMPLES / "AGENTS.md")
BRIEF = load_brief(EXAMPLES / "briefs/autumn.yaml")
AGENT, ANN = "agent/one", "kim"
SHADOW = POLICY.replace("boardkit: 1\n", "boardkit: 1\nshadow: true\n")


def house_with(policy: str, taint: Taint | None = None) -> SwarmHouse:
    """One agent with one post to write, which has come to rest."""
    house = SwarmHouse(EXAMPLES, policy, taint=taint)
    house.enrol(AGENT, SOUL, BRIEF.model_copy(update={"formats": BRIEF.formats[:1]}), "one")
    asyncio.run(house.run())
    return house


def drafts_asked(house: SwarmHouse) -> list[DraftRequest]:
    return [request for _, request in house.asked if isinstance(request, DraftRequest)]


def prompt(request: DraftRequest) -> str:
    """Every text in what a model is really sent."""
    return "\n".join(_texts(orjson.loads(messages("draft", request)[1]["content"])))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def refuse(house: SwarmHouse, code: str, comment: str = "") -> Effect:
    """A person refuses the one card that waits, and another campaign begins. -> what was refused."""
    [(_, effect)] = house.standing()
    (c,) = (c for c in house.agents[AGENT].campaigns.values() if c.tasks)
    (task,) = (t for t in c.tasks.values() if t.effect is not None)
    place = {"campaign": c.number, "ordinal": task.ordinal, "attempt": task.attempt, "policy_edition": 1}
    no = rec.HumanRejected(**place, effect_hash=effect.hash, reason_code=code, comment=comment)
    assert house.add(AGENT, no, ANN).outcome == "applied"
    number = house.agents[AGENT].command_no + 1
    body = BRIEF.model_copy(update={"formats": BRIEF.formats[:1]}).model_dump(mode="json")
    begun = rec.CampaignStarted(command_no=number, campaign_id=f"c{number}", name="n", brief=body, brief_hash="b")
    assert house.add(AGENT, begun, "dee").outcome == "applied"
    asyncio.run(house.run())
    return effect


def test_the_second_attempts_prompt_holds_the_reasons_and_the_text_of_the_first() -> None:
    first_words = drafts_asked(house_with(POLICY))[0].angle.claim.split()
    banned = " ".join(first_words[:3]).rstrip(".,")
    house = house_with(POLICY.replace("banned_phrases:\n", f'banned_phrases:\n  - "{banned}"\n'))

    first, second, *_ = drafts_asked(house)
    assert (first.attempt, first.feedback, first.used_texts) == (1, [], [])
    assert second.attempt == 2
    votes = [r.data for r in house.records if isinstance(r.data, rec.JudgeVerdict) and r.data.failed_rules]
    assert votes[0].failed_rules == ["banned_phrases"]
    assert second.feedback == votes[0].reasons
    texts = [r.data.content["text"] for r in house.records if isinstance(r.data, rec.ArtifactProduced) and r.data.kind == "draft"]
    assert second.used_texts == texts[:1]
    for told in (*votes[0].reasons, texts[0]):
        assert told in prompt(second)
        assert told not in prompt(first)


def test_what_a_person_refused_and_why_is_told_to_later_campaigns_of_the_agent() -> None:
    house = house_with(SHADOW)
    before = drafts_asked(house)[-1]
    refused = refuse(house, "off_brand", "too many soups")

    later = drafts_asked(house)[-1]
    words = house.text_of(refused)
    assert "too many soups" not in prompt(before)
    assert "too many soups" in prompt(later)
    [line] = later.feedback
    assert read_reason(line)[:2] == ("rejected", "off_brand")
    assert words in line
    assert later.used_texts == [words]
    [(_, proposed)] = house.standing()
    assert house.text_of(proposed) != words


def test_a_text_refused_for_its_timing_may_be_said_again() -> None:
    house = house_with(SHADOW)
    refuse(house, "timing", "after the holidays")
    later = drafts_asked(house)[-1]
    assert "after the holidays" in prompt(later)
    assert later.used_texts == []


def test_refused_words_of_strangers_are_not_handed_on_but_the_persons_reason_is() -> None:
    house = house_with(SHADOW, taint="open")
    refused = refuse(house, "unsafe", "never that source")
    later = drafts_asked(house)[-1]
    assert "never that source" in prompt(later)
    assert house.text_of(refused) not in prompt(later)
    assert later.used_texts == []


def test_the_last_refusals_are_remembered_and_older_ones_are_let_go() -> None:
    house = house_with(SHADOW)
    for n in range(LESSONS + 1):
        refuse(house, "timing", f"reason {n}")
    told = drafts_asked(house)[-1].feedback
    assert [line.rpartition(": ")[2] for line in told] == [f"reason {n}" for n in range(1, LESSONS + 1)]


def test_a_server_that_was_not_there_takes_no_reason_away() -> None:
    first_words = drafts_asked(house_with(POLICY))[0].angle.claim.split()
    banned = " ".join(first_words[:3]).rstrip(".,")
    house = SwarmHouse(EXAMPLES, POLICY.replace("banned_phrases:\n", f'banned_phrases:\n  - "{banned}"\n'))
    house.unreached.add(("draft", 2))
    house.enrol(AGENT, SOUL, BRIEF.model_copy(update={"formats": BRIEF.formats[:1]}), "one")
    asyncio.run(house.run())
    house.later += 300_000
    asyncio.run(house.run())

    assert [r.data.reason for r in house.records if isinstance(r.data, rec.WorkFailed)] == ["timeout: "]
    asked = drafts_asked(house)
    assert [request.attempt for request in asked[:3]] == [1, 2, 3]
    assert asked[2].feedback == asked[1].feedback != []
    assert asked[2].used_texts == asked[1].used_texts
