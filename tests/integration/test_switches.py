"""Kill switches on a real broker: from the shell to the gate, measured; forged records, a database that is down, a dead broker.

The rule not to break: what counts is the append time of the closing record against what the platform was called with after it.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from chimera.cli.switch import app
from chimera.commands import switches
from chimera.eventlog.append import Appender
from chimera.eventlog.switches import NOT_FRESH, TOPIC, SwitchFollower, SwitchSet, read_board, read_keys
from chimera.eventlog.topics import load_topics
from chimera.events import records as rec
from chimera.events.envelope import NewRecord, SigningKey, encode
from chimera.mcp.sandbox.timeline import Timeline
from tests.integration.stage import Stage, open_stage

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage() as made:
        yield made


@pytest.fixture
def shell(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`chimera switch` as typed, with the database down; every switch is open again afterwards."""
    monkeypatch.setenv("CHIMERA_HOME", str(stage.home))
    monkeypatch.setenv("CHIMERA_KAFKA", str(stage.settings.kafka))
    monkeypatch.setenv("CHIMERA_POSTGRES", "postgresql://127.0.0.1:1/down")

    def type_(*words: str) -> tuple[int, Any]:
        result = CliRunner().invoke(app, [*words, "--json"])
        return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else result.output

    yield type_
    for switch in switches.board(stage.settings).switches.values():
        if switch.closed:
            switches.set_switch(stage.settings, switch.scope, closed=False, reason="the test is over", actor="test")


def forge(stage: Stage, scope: str, *, closed: bool, number: int, by: SigningKey | None) -> None:
    """A record that somebody else writes."""
    said = SwitchSet(scope=scope, closed=closed, reason="let me", number=number)
    new = NewRecord(key=scope, data=said, tenant="installation", actor="mallory", time="2026-01-01T00:00:00Z", id=str(uuid.uuid4()))
    wire = encode(new, by)
    with Appender(str(stage.settings.kafka), load_topics().only(TOPIC), "mallory") as appender:
        appender.append_blocking(TOPIC, wire.key, wire.value, wire.headers)


def test_a_switch_is_closed_opened_and_listed_with_the_database_down(stage: Stage, shell: Any) -> None:
    code, closed = shell("close", "platform:X", "--reason", "the platform is down", "--as", "kim")
    assert (code, closed["scope"], closed["outcome"], closed["changed"]) == (0, "platform:x", "applied", True)
    code, again = shell("close", "platform:x")
    assert (code, again["changed"], again["reason"]) == (0, False, "no change")
    code, listed = shell("list")
    assert code == 0
    (row,) = listed["switches"]
    assert (row["scope"], row["closed"], row["reason"], row["by"], row["stopped"]) == (
        "platform:x",
        True,
        "the platform is down",
        "kim",
        0,
    )
    assert shell("open", "platform:x")[0] == 2, "opening needs --reason"
    assert shell("open", "platform:x", "--reason", " ")[0] == 3
    code, opened = shell("open", "platform:x", "--reason", "it is up again")
    assert (code, opened["switch"]["number"]) == (0, closed["switch"]["number"] + 1)
    assert shell("list")[1]["switches"] == []
    for wrong in ("platforms:x", "platform:twiter", "tool:x.nothing", "account:y/ava", "agent:nobody at all"):
        code, said = shell("close", wrong)
        assert code != 0, (wrong, said)


def test_what_others_write_to_the_topic_neither_closes_nor_opens(stage: Stage, shell: Any) -> None:
    shell("close", "tenant:acme", "--reason", "stop")
    last = switches.board(stage.settings).switches["tenant:acme"].number
    forge(stage, "tenant:acme", closed=False, number=last + 1, by=None)
    forge(stage, "tenant:acme", closed=False, number=last + 1, by=SigningKey.generate())
    forge(stage, "fleet", closed=True, number=99, by=None)
    _, listed = shell("list")
    assert [row["scope"] for row in listed["switches"]] == ["tenant:acme"]
    assert {reason: listed["ignored"][reason] for reason in ("unsigned", "forged")} == {"unsigned": 2, "forged": 1}


def test_a_closed_switch_stops_the_gate_within_a_second_and_what_waited_goes_on_soon_after_it_opens(
    stage: Stage, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    key = stage.enrol("stop", frequency={})
    other = stage.enrol("goon")
    tasks = 60
    stage.plan(key, tasks)
    stage.plan(other, 1)
    timeline = Timeline(stage.home / "mcp" / "x")
    later = int(time.time() * 1000) + 10_000  # on a quick machine the first half is out before a switch can close
    for n in range(1, tasks + 1):
        stage.approve(key, n, f"{uuid.uuid4().hex} {n} {uuid.uuid4().hex}", not_before=1 if n <= tasks // 2 else later)
    stage.approve(other, 1, "Nobody stopped this one, so it leaves as it should.")

    async def story() -> None:
        loop = asyncio.get_running_loop()

        def close() -> float:
            answer = switches.set_switch(stage.settings, "account:x/stop_x", closed=True, reason="hacked?", actor="kim")
            assert answer.switch is not None
            return answer.switch.at / 1000

        async with stage.role() as gate:
            await stage.until(lambda: len(timeline.posts("stop_x", limit=1000)) >= 3, "it posts")
            closed_at = await loop.run_in_executor(None, close)
            await stage.until(lambda: stage.done(other) == {1}, "another account goes on")

            def at_rest() -> bool:
                left = [t.effect for t in stage.agent(key).campaigns[1].tasks.values() if t.effect]
                return all(e.status == "approved" and e.wait_reason == "switch:account:x/stop_x" for e in left)

            await stage.until(at_rest, "all that was under way is back")
            stopped = len(stage.agent(key).campaigns[1].tasks)
            assert stopped > 0, "it was all done before the switch closed"
            late = max(post.created_at for post in timeline.posts("stop_x", limit=1000)) - closed_at
            assert late < 1.0, f"a post {late:.3f} s after the switch closed"
            held = {each.card for each in switches.stopped(stage.service.agents.values())}
            assert len(held) == stopped
            records = len(stage.seen)
            rested = loop.time() + 2.5
            await stage.until(lambda: loop.time() > rested, "the switch stays closed for a while")
            assert len(stage.seen) == records, "nothing is written while it waits"
            assert gate.swarm.idle()
            opened = await loop.run_in_executor(
                None, lambda: switches.set_switch(stage.settings, "account:x/stop_x", closed=False, reason="no", actor="kim")
            )
            assert opened.switch is not None
            await stage.until(lambda: len(stage.done(key)) == tasks, "the rest is posted")
            claims = [at for at in stage.at(key, rec.EffectClaimed) if at > opened.switch.at]
            with capsys.disabled():
                print(
                    f"\nlast post {late * 1000:.0f} ms after the closing record; {stopped} held back; "
                    f"first claim {min(claims) - opened.switch.at} ms, last {max(claims) - opened.switch.at} ms after opening"
                )
            assert min(claims) - opened.switch.at < 2_500

    asyncio.run(asyncio.wait_for(story(), 100))
    timeline.close()
    assert len(stage.said(key, rec.EffectEnded)) == tasks
    assert {d.reason for d in stage.said(key, rec.EffectDeferred)} <= {"switch:account:x/stop_x"}


def test_the_shell_names_what_a_switch_stopped(stage: Stage, shell: Any) -> None:
    key = stage.enrol("named")
    stage.plan(key, 1)

    async def story() -> None:
        shell("close", "agent:named", "--reason", "looking")
        async with stage.role():
            stage.approve(key, 1, "This one has to wait until somebody has looked.")
            await stage.until(lambda: stage.said(key, rec.EffectDeferred), "it is held back")

    asyncio.run(asyncio.wait_for(story(), 60))
    _, listed = shell("list")
    assert [(row["scope"], row["stopped"]) for row in listed["switches"]] == [(f"agent:{key}", 1)]
    assert listed["stopped"] == [{"scope": f"agent:{key}", "card": "named/1.1.1"}]


def test_a_follower_sees_a_closing_at_once_and_permits_nothing_once_the_broker_is_silent(stage: Stage, shell: Any) -> None:
    kafka = str(stage.settings.kafka)
    keys = read_keys(kafka, stage.service.keys.installation.root_public)
    assert keys is not None
    follower = SwitchFollower(kafka, lambda: keys).start()

    async def story() -> None:
        assert await follower.stops(["fleet"]) is None
        shell("close", "fleet", "--reason", "stop all")
        closed, asked = time.monotonic(), time.monotonic()
        while (said := await follower.stops(["fleet"])) != "switch:fleet":
            # However slow the machine is: who was not told within a second permits nothing.
            assert said == NOT_FRESH or asked - closed < 1.0, "a call would have gone out"
            await asyncio.sleep(0.005)
            asked = time.monotonic()
        assert read_board(kafka, keys).closed_by(["fleet"]) == "fleet"
        reader = follower._reader
        assert reader is not None
        follower._bootstrap, follower._reader = "127.0.0.1:1", None  # its thread has to connect anew, to nobody
        began = time.monotonic()
        while await follower.stops(["tenant:none"]) != NOT_FRESH:
            assert time.monotonic() - began < 5.0
            await asyncio.sleep(0.05)
        reader.close()

    try:
        asyncio.run(asyncio.wait_for(story(), 60))
    finally:
        follower.close()
