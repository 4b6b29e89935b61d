"""What is kept so that it need not be made again: bounded, and found by its content or its place alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from chimera.events import records as rec
from chimera.events.envelope import NewRecord, Record, decode, dump, encode
from chimera.events.fold import fold
from chimera.events.raw import RawRecord
from chimera.events.state import Agent, Ref
from chimera.events.state_codec import state_from_json, state_to_json
from chimera.mcp.profiles import Profiles
from chimera.mcp.records import Outcome
from chimera.mcp.sandbox.feeds import FeedReader
from chimera.mcp.sandbox.serving import CallContext
from chimera.policy.brief import Format, load_brief, read_brief
from chimera.processors.jobs import Job
from chimera.processors.outside import json_holds_nul, readable
from chimera.processors.readings import Readings, held_bytes
from chimera.processors.sending import call_of
from chimera.processors.tools import JobTools
from tests.histories import planned, proposal, record

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FEED = "<rss version='2.0'><channel><title>t</title><item><title>{}</title><link>https://e.example/1</link></item></channel></rss>"


def made(offset: int) -> Record:
    failed = rec.WorkFailed(campaign=1, ordinal=offset + 1, attempt=1, reason="no")
    return replace(record(failed, offset, 1_000 + offset), value=dump(failed))


def place(of: Record) -> Ref:
    return Ref(of.partition, of.offset)


def test_a_record_is_found_by_its_place_and_by_no_other() -> None:
    readings, one = Readings(1_000_000), made(3)
    readings.put(one)
    assert readings.get(place(one)) == replace(one, value=b"")
    assert readings.get(Ref(one.partition, 4)) is None
    assert readings.get(Ref(one.partition + 1, 3)) is None


def test_readings_hold_no_more_bytes_than_they_may_and_let_go_what_was_used_longest_ago() -> None:
    size = held_bytes(made(0))
    readings = Readings(3 * size)
    records = [made(n) for n in range(4)]
    for each in records[:3]:
        readings.put(each)
        readings.put(each)  # again: counted once
    assert readings.bytes == sum(held_bytes(each) for each in records[:3]) <= 3 * size
    assert readings.get(place(records[0])) is not None
    readings.put(records[3])
    assert [readings.get(place(each)) is not None for each in records] == [True, False, True, True]
    assert readings.bytes <= 3 * size


def test_a_record_larger_than_all_that_may_be_held_is_not_held() -> None:
    readings = Readings(held_bytes(made(0)) - 1)
    readings.put(made(0))
    assert readings.get(place(made(0))) is None
    assert readings.bytes == 0


def test_what_no_job_reads_takes_no_room() -> None:
    readings = Readings(1_000_000)
    readings.put(record(rec.TaskPlanned(campaign=1, ordinal=1, attempt=1), 3, 1_003))
    assert readings.bytes == 0


def test_agents_that_adopted_the_same_policy_hold_its_text_once() -> None:
    """Six hundred agents on one policy: its records are small, however long its text is."""
    policy = rec.PolicyAdopted(command_no=3, edition=1, digest="d", editor="eve", inline=rec.PolicyInline(), rules="r" * 16_000)
    wires = [encode(NewRecord(f"agent/{n}", policy, "t", "eve", "2026-01-01T00:00:00Z", f"id-{n}")) for n in range(2)]
    raws = [RawRecord("chimera.log", 0, n, 1_000, wire.key.encode(), wire.value, wire.headers) for n, wire in enumerate(wires)]
    one, other = (decode(raw) for raw in raws)
    assert (one.key, one.data) == ("agent/0", policy)
    assert other.key == "agent/1"
    assert one.data is other.data
    readings = Readings(1_000_000)
    readings.put(one)
    readings.put(other)
    assert readings.bytes < 16_000


def test_a_brief_is_read_once_per_content_and_a_changed_one_anew() -> None:
    body = load_brief(EXAMPLES / "briefs" / "autumn.yaml").model_dump(mode="json")
    first = read_brief(body)
    assert read_brief(dict(reversed(body.items()))) is first, "the same content, however it is ordered"
    changed = read_brief(body | {"formats": [{"platform": "x", "format": "note"}]})
    assert changed.formats == [Format(platform="x", format="note")]
    assert read_brief(body) == first


def adopted(**numbers: Any) -> Agent:
    """An agent under a policy with these numbers."""
    log = planned()
    agent: Agent | None = None
    for r in log.records:
        agent, _ = fold(log.law, agent, r)
    assert agent is not None
    assert agent.policy is not None
    policy = rec.PolicyAdopted(
        command_no=agent.command_no + 1,
        edition=agent.policy.edition + 1,
        digest="d",
        editor="mo",
        inline=rec.PolicyInline(**numbers),
    )
    agent, ruling = fold(log.law, agent, record(policy, len(log.records), log.now + 1, signed_by=log.records[0].signed_by))
    assert agent is not None
    assert ruling.outcome == "applied", ruling
    return agent


def inline(agent: Agent) -> rec.PolicyInline:
    assert agent.policy is not None
    return agent.policy.inline


def test_agents_that_adopted_the_same_numbers_share_them_folded_or_restored() -> None:
    """Ten thousand idle agents hold the policy of their fleet once."""
    one, other, different = adopted(undo_ms=5), adopted(undo_ms=5), adopted(undo_ms=6)
    assert inline(one) is inline(other)
    assert inline(one) == rec.PolicyInline(undo_ms=5)
    assert inline(different).undo_ms == 6
    back = state_from_json(state_to_json(one))
    assert state_to_json(back) == state_to_json(one)
    assert inline(back) is inline(one)


def test_a_feed_that_changed_is_read_anew(tmp_path: Path) -> None:
    feed, reader = tmp_path / "feed.xml", FeedReader([tmp_path])

    def title() -> str:
        answer = asyncio.run(reader.handle("read_feed", {"source": str(feed)}, CallContext(None, None)))
        assert answer.structured_content is not None, answer
        return str(answer.structured_content["articles"][0]["title"])

    feed.write_text(FEED.format("one"))
    assert [title(), title()] == ["one", "one"]
    feed.write_text(FEED.format("two"))
    assert title() == "two"


def test_a_zero_character_is_found_wherever_it_stands_and_its_spelling_is_none() -> None:
    assert json_holds_nul({"a": [{"b\0": 1}]})
    assert json_holds_nul({"a": ["x\0y", 2**70]})
    assert not json_holds_nul({"a": ["\\u0000", 1, None], "b": {"c": 2**70}})


def test_what_a_server_says_of_a_call_makes_no_record_unreadable() -> None:
    """The id of a post, the handle of a job, an error's words: each stands in a record of the agent's log."""
    said = Outcome(
        result="ok",
        detail="HTTP\0 500",
        data={"id": "7\0"},
        platform_id="7\0",
        handle="h\0",
        url="https://x.example/7\0",
        receipt={"block\0": "1\0"},
        server_version="1\0",
    )
    plain = Outcome(
        result="ok",
        detail="HTTP 500",
        data={"id": "7"},
        platform_id="7",
        handle="h",
        url="https://x.example/7",
        receipt={"block": "1"},
        server_version="1",
    )
    assert readable(said) == plain
    assert readable(plain) is plain

    class Answering:
        """A gate whose every call ends so."""

        profiles = Profiles({})

        async def send(self, *_: object, **__: object) -> Outcome:
            return said

        call = send

    nothing: Any = None
    gate: Any = Answering()
    tools = JobTools(nothing, nothing, gate, nothing, nothing, nothing, call_timeout_s=1.0)
    job, effect = Job("executor", "claim", "agent/a", "acme", "", 1, 1, 1, 1, {}), proposal(input_version=1)

    async def every() -> list[Outcome]:
        sent = await tools.send(job, call_of(effect, 1.0), "ava", "k")
        return [sent, await tools.ask(job, effect, "social.find", {}), await tools.tool(job, "news.search", {})]

    assert asyncio.run(every()) == [plain] * 3
