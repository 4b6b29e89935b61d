"""An answer knows what was said in its thread before, says so, and is written without where nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chimera.events import records as rec
from chimera.events.records import ArtifactProduced, SignalObserved
from chimera.mcp.sandbox.timeline import Timeline, user_id_of
from chimera.mcp.sandbox.x import XSandbox
from chimera.memory.contract import MemoryAway
from chimera.memory.episodes.contract import Episodes, Told
from chimera.memory.episodes.inprocess import InProcess
from chimera.memory.episodes.rows import Counted, row_of, rows_of
from chimera.policy.boardkit import load_text
from chimera.policy.brief import Replies, load_brief
from chimera.processors.jobs import Job
from chimera.processors.threads import CHARACTERS, Asking, before
from tests.swarmhouse import Keys, SwarmHouse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOUL = load_text(sorted((EXAMPLES / "souls").glob("*.md"))[0])
POLICY = (
    load_text(EXAMPLES / "AGENTS.md")
    .replace("boardkit: 1\n", "boardkit: 1\nlisten: {x: {every_s: 30}}\n")
    .replace("approve_above: 0.90", "approve_above: 0.60")
    .replace("people_from: 0.70", "people_from: 0.50")
)
BRIEF = load_brief(EXAMPLES / "briefs/autumn.yaml")
AGENT, ACCOUNT = "agent/one", "one"
FIRST, SECOND = "Do you take a short walk on every day?", "Would neighbours cook beans and squash overnight?"
JOB = Job("worker", "reply", AGENT, "acme", "", 1, 1, 1, 0, {})


@pytest.fixture
def x(tmp_path: Path) -> Iterator[Timeline]:
    timeline = Timeline(tmp_path / "x")
    timeline.know(ACCOUNT)
    yield timeline
    timeline.close()


def says(x: Timeline, text: str) -> None:
    """Mia writes to the agent in private."""
    x.once("Mia", None, "dm", {}, lambda: {"id": x.message("Mia", user_id_of(ACCOUNT), text).id})


def kept(house: SwarmHouse) -> Episodes:
    """Episodes of all that happened so far."""
    store = InProcess(clock=house.broker_now)
    told = []
    for record, ruling in zip(house.records, house.rulings, strict=True):
        d = record.data
        effect = getattr(d, "effect", None)
        told.append(
            Counted(
                record.partition, record.offset, record.id, record.type, record.tenant, record.key, None, None, ruling.outcome,
                ruling.reason, record.append_ts, "",
                [item.model_dump(mode="json") for item in d.items] if isinstance(d, SignalObserved) else None,
                None if effect is None else effect.thread, "open",
            )
        )  # fmt: skip
    store.begin({})
    store.write({}, [*rows_of(told), *(row_of(note, (0, n), note.ts) for n, note in enumerate(house.notes))])
    return Episodes(store, Keys())


def asked(house: SwarmHouse) -> list[Any]:
    """What the writer was asked to answer."""
    return [request for purpose, request in house.asked if purpose == "reply"]


def replies(house: SwarmHouse) -> list[ArtifactProduced]:
    return [r.data for r in house.records if isinstance(r.data, rec.ArtifactProduced) and r.data.kind == "reply"]


def go_on(house: SwarmHouse, ms: int) -> None:
    """Everybody does what they owe, what is approved goes out, and time passes."""
    asyncio.run(house.run())
    asyncio.run(house.go_out())
    asyncio.run(house.run())
    house.later += ms
    asyncio.run(house.run())


def test_a_second_answer_is_written_with_the_first_question_and_the_first_answer(x: Timeline) -> None:
    # given an agent that has answered
    says(x, FIRST)
    house = SwarmHouse(EXAMPLES, POLICY, x=XSandbox(x))
    brief = BRIEF.model_copy(update={"formats": BRIEF.formats[:1], "replies": Replies(days=2)})
    house.enrol(AGENT, SOUL, brief, ACCOUNT)
    go_on(house, 10_000)
    [first] = asked(house)
    assert first.thread == [], "nothing was said before"
    go_on(house, 40_000)
    # when the same person writes again
    house.threads = kept(house)
    says(x, SECOND)
    go_on(house, 40_000)
    go_on(house, 40_000)
    # then the writer is told, the agent's own words are not to be said again, and the artifact names the places
    request = asked(house)[-1]
    answer = replies(house)[0].content["text"]
    assert request.said == SECOND
    assert request.thread == [f"they: {FIRST}", f"you: {answer}"]
    assert answer in request.used_texts
    heard = [n for n, r in enumerate(house.records) if isinstance(r.data, SignalObserved)]
    assert replies(house)[-1].provenance["thread"][0] == [0, heard[0], 0]
    assert "thread" not in replies(house)[0].provenance


class Given:
    """Tools that tell a thread."""

    def __init__(self, *told: Told) -> None:
        self._told = list(told)

    async def earlier(self, job: Job, thread: str) -> list[Told]:
        return self._told


def told(offset: int, text: str, item: int = 0, taint: Any = "open", by: Any = "them") -> Told:
    return Told(by, (0, offset), item, taint, 0, text)


def lines(*said: Told, at: tuple[int, int] = (9, 0), worth: Any = "open") -> list[str]:
    return asyncio.run(before(JOB, "x:1", (0, at[0]), at[1], worth, Given(*said))).lines  # type: ignore[arg-type]


def test_only_what_was_said_before_and_is_worth_no_less_is_put_before_the_writer() -> None:
    assert lines(told(8, "a"), told(9, "b"), told(9, "c", item=1), told(10, "d"), at=(9, 1)) == ["they: a", "they: b"]
    assert lines(told(1, "a"), told(2, "b", taint="allowlisted"), worth="allowlisted") == ["they: b"], "no more taint"
    assert lines(told(1, "x" * CHARACTERS), told(2, "y", by="us")) == ["you: y"], "the newest fit"


def test_a_server_that_is_away_is_named_and_keeps_no_answer_from_being_written() -> None:
    class Away:
        gone = True

        def thread(self, tenant: str, agent: str, name: str, most: int) -> list[Told]:
            if self.gone:
                raise MemoryAway("Valkey does not answer")
            return [told(1, "a")]

    threads = Away()
    asking = Asking(threads)
    assert asyncio.run(asking.earlier(JOB, "x:1")) == []
    assert asking.trouble == "Valkey does not answer"
    threads.gone = False
    assert [each.text for each in asyncio.run(asking.earlier(JOB, "x:1"))] == ["a"]
    assert asking.trouble == ""
    assert asyncio.run(Asking(None).earlier(JOB, "x:1")) == []
