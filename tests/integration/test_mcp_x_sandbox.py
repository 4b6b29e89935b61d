"""The gate against the real X sandbox, over stdio and over streamable HTTP, in good weather and bad."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chimera.mcp.gate import Gate
from chimera.mcp.pin import as_text, live_pins
from chimera.mcp.pins import pins_path
from chimera.mcp.profiles import PROFILES_DIR, Profiles, Rendered, load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox.faults import FaultBook, Wish
from chimera.mcp.sandbox.timeline import Timeline, user_id_of

PROFILES = load_profiles(names=["x", "feeds"])


class Server:
    """An HTTP sandbox process that can be killed and started again on the same port."""

    def __init__(self, data: Path, sse: bool) -> None:
        self.data, self.sse = data, sse
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "chimera.mcp.sandbox.x", "--port", str(self.port), "--data", str(self.data)]
        command += ["--sse"] if self.sse else []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.gone()

    def gone(self) -> None:
        assert self.process is not None
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class World:
    """A home folder, a timeline to look at, and a gate that reaches the sandbox over one transport."""

    def __init__(self, home: Path, transport: str) -> None:
        self.home, self.transport = home, transport
        self.data = home / "mcp" / "x"
        self.timeline = Timeline(self.data)
        self.faults = FaultBook(self.data)
        self.server = Server(self.data, sse=transport == "sse")
        self.records: list[ToolCallRecord] = []
        if transport != "stdio":
            self.server.start()

    def gate(self, profiles: Profiles = PROFILES, **more: Any) -> Gate:
        async def on_call(record: ToolCallRecord) -> None:
            self.records.append(record)

        addresses = {"x_url": self.server.url} if self.transport != "stdio" else {}
        return Gate(profiles, addresses, on_call=on_call, home=self.home, **more)

    def texts(self) -> list[str]:
        return [post.text for post in self.timeline.posts(limit=1000)]

    def revive(self) -> None:
        """After a death: HTTP servers are restarted by their supervisor; the gate restarts its own children."""
        if self.transport != "stdio":
            self.server.gone()
            self.server.start()


@pytest.fixture(params=["stdio", "http", "sse"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, request.param)
    yield made
    made.server.stop()
    made.timeline.close()
    made.faults.close()


def post(text: str, **inputs: Any) -> Rendered:
    capability = "social.reply" if "in_reply_to" in inputs else "social.publish"
    return PROFILES.render(capability, {"text": text, "disclosure_level": "automated", **inputs}, platform="x")


async def send(gate: Gate, rendered: Rendered, key: str, account: str = "ava") -> Outcome:
    return await gate.send(rendered, agent="agent-1", tenant="tenant-1", account=account, idempotency_key=key, correlation="c-1")


def run(world: World, story: Callable[[Gate], Awaitable[None]], **more: Any) -> None:
    async def go() -> None:
        async with world.gate(**more) as gate:
            await story(gate)

    asyncio.run(asyncio.wait_for(go(), 120))


async def eventually(condition: Callable[[], bool]) -> None:
    """Await a condition that another process brings about; a minute at most: processes start slowly on a full machine."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition did not come within a minute")


async def until_sent(gate: Gate, rendered: Rendered, key: str) -> Outcome:
    """Send again while it was provably not sent: what the executor does with an approved effect."""
    async with asyncio.timeout(60):
        while True:
            outcome = await send(gate, rendered, key)
            if outcome.result != "not_sent":
                return outcome
            assert outcome.reason in ("server_down", "breaker"), outcome
            await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)


def test_a_post_lands_on_the_timeline_with_exactly_the_rendered_arguments(world: World) -> None:
    async def story(gate: Gate) -> None:
        outcome = await send(gate, post("hello <b>world</b>"), "k1")
        assert (outcome.result, outcome.profile, outcome.tool) == ("ok", "x", "createPosts"), outcome
        (found,) = world.timeline.posts("ava")
        assert (str(found.id), found.text, found.extra) == (outcome.platform_id, "hello <b>world</b>", {"made_with_ai": True})
        if world.transport != "stdio":
            assert outcome.url == f"{world.server.url}/ava/status/{found.id}"
            page = await asyncio.to_thread(lambda: urllib.request.urlopen(str(outcome.url)).read().decode())
            front = await asyncio.to_thread(lambda: urllib.request.urlopen(world.server.url + "/").read().decode())
            for html in (page, front):
                assert "hello &lt;b&gt;world&lt;/b&gt;" in html
                assert "<b>world" not in html
        else:
            assert outcome.url is None

    run(world, story)
    (record,) = world.records
    assert (record.result_class, record.agent, record.account, record.correlation) == ("ok", "agent-1", "ava", "c-1")
    assert record.argument_shape == {"text": "string[18]", "made_with_ai": "boolean"}
    assert "hello" not in str(record.to_json())


def test_the_same_key_finds_the_same_post_and_makes_no_second_one(world: World) -> None:
    async def story(gate: Gate) -> None:
        first, second = await send(gate, post("once"), "k"), await send(gate, post("once"), "k")
        assert first.platform_id == second.platform_id
        other = await send(gate, post("something else"), "k")
        assert other.result == "refused"

    run(world, story)
    assert world.texts() == ["once"]
    assert world.timeline.calls_with("k") == 3


def test_a_timeout_after_the_write_is_unknown_and_the_same_key_finds_the_post(world: World) -> None:
    async def story(gate: Gate) -> None:
        assert (await send(gate, post("warm"), "k0")).result == "ok"
        world.faults.ask(Wish("hang_after_write"))
        lost = await send(gate, replace(post("slow"), timeout_s=2.0), "k")
        assert (lost.result, lost.reason) == ("unknown", "timeout"), lost
        assert 1900 <= lost.latency_ms < 10_000
        assert world.texts() == ["slow", "warm"]
        found = await send(gate, post("slow"), "k")
        assert (found.result, found.platform_id) == ("ok", str(world.timeline.posts()[0].id)), found

    run(world, story)
    assert world.texts() == ["slow", "warm"]


@pytest.mark.parametrize(("fault", "written"), [("die", 0), ("die_after_write", 1)])
def test_a_server_killed_in_the_middle_of_a_call_leaves_it_unknown_and_comes_back(world: World, fault: str, written: int) -> None:
    async def story(gate: Gate) -> None:
        assert (await send(gate, post("before"), "k0")).result == "ok"
        world.faults.ask(Wish(fault))
        lost = await send(gate, post("risky"), "k")
        assert (lost.result, lost.reason) == ("unknown", "connection_lost"), lost
        assert world.texts().count("risky") == written
        world.revive()
        assert (await until_sent(gate, post("risky"), "k")).result == "ok"

    run(world, story)
    assert world.texts() == ["risky", "before"]


def test_a_server_that_hangs_holds_up_only_its_own_call(world: World) -> None:
    async def story(gate: Gate) -> None:
        assert (await send(gate, post("warm"), "k0")).result == "ok"
        world.faults.ask(Wish("hang"))
        hung = asyncio.create_task(send(gate, post("stuck"), "k1"))
        await eventually(lambda: world.timeline.calls_with("k1") > 0)
        assert (await send(gate, post("free"), "k2")).result == "ok"
        assert not hung.done()
        hung.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hung

    run(world, story)
    assert world.texts() == ["free", "warm"]


def test_after_three_timeouts_in_a_row_the_next_call_gets_a_fresh_connection(world: World) -> None:
    async def story(gate: Gate) -> None:
        assert (await send(gate, post("warm"), "k")).result == "ok"
        (connection,) = gate.connections.values()
        first = connection._live
        world.faults.ask(Wish("hang", None, 3))
        stuck = [send(gate, replace(post(f"stuck {n}"), timeout_s=2.0), f"s{n}") for n in range(3)]
        assert [outcome.reason for outcome in await asyncio.gather(*stuck)] == ["timeout"] * 3
        assert (await send(gate, post("fresh"), "k2")).result == "ok"
        assert connection._live is not first

    run(world, story)
    assert world.texts() == ["fresh", "warm"]


@pytest.mark.parametrize("fault", ["nonsense", "nonsense_after_write"])
def test_an_answer_that_no_rule_recognises_is_unknown(world: World, fault: str) -> None:
    async def story(gate: Gate) -> None:
        world.faults.ask(Wish(fault))
        outcome = await send(gate, post("hm"), "k")
        assert (outcome.result, outcome.reason, outcome.platform_id) == ("unknown", "unrecognised_answer", None)

    run(world, story)


def test_two_hundred_calls_at_once_share_one_connection(world: World) -> None:
    async def story(gate: Gate) -> None:
        calls = (send(gate, post(f"number {n}"), f"k{n}", account=f"account{n}") for n in range(200))
        outcomes = await asyncio.gather(*calls)
        assert {outcome.result for outcome in outcomes} == {"ok"}
        assert len({outcome.platform_id for outcome in outcomes}) == 200

    run(world, story)
    assert len(world.texts()) == 200
    assert len(world.records) == 200


def test_a_tool_that_drifted_from_its_pin_is_not_called(world: World) -> None:
    x = PROFILES.by_name["x"]
    tools = {name: replace(tool, sha256="0" * 64) for name, tool in x.tools.items()}
    drifted = Profiles(by_name={"x": replace(x, tools=tools)})

    async def story(gate: Gate) -> None:
        rendered = drifted.render("social.publish", {"text": "no", "disclosure_level": "none"}, platform="x")
        outcome = await send(gate, rendered, "k")
        assert (outcome.result, outcome.reason) == ("not_sent", "schema_drift"), outcome

    run(world, story, profiles=drifted)
    assert world.timeline.calls_with("k") == 0


def test_what_the_platform_refuses_is_refused_and_what_it_postpones_was_not_sent(world: World) -> None:
    async def story(gate: Gate) -> None:
        first = await send(gate, post("the text"), "k1")
        expected = {
            "duplicate": post("the text"),
            "too_long": post("x" * 281),
            "refused_by_platform": post("   "),
            "reply_target_gone": post("an answer", in_reply_to="12345"),
        }
        for reason, rendered in expected.items():
            outcome = await send(gate, rendered, reason)
            assert (outcome.result, outcome.reason) == ("refused", reason), outcome
        answered = await send(gate, post("an answer", in_reply_to=first.platform_id), "k2", account="ben")
        assert answered.result == "ok"
        world.faults.ask(Wish("429"))
        later = await send(gate, post("later"), "k3")
        assert (later.result, later.reason) == ("not_sent", "platform_rate_limit")

    run(world, story)
    assert world.texts() == ["an answer", "the text"]


def test_reads_tell_who_mentions_us_and_a_deleted_post_is_gone(world: World) -> None:
    async def read(gate: Gate, capability: str, **inputs: Any) -> Outcome:
        return await gate.call(capability, inputs, agent="a", tenant="t", account="ava", platform="x")

    async def story(gate: Gate) -> None:
        assert (await read(gate, "social.me")).platform_id == user_id_of("ava")
        ours = await send(gate, post("our post"), "k1")
        await send(gate, post("hey @ava, nice"), "k2", account="ben")
        await send(gate, post("indeed", in_reply_to=ours.platform_id), "k3", account="cem")
        mentions = await read(gate, "social.mentions", id=user_id_of("ava"))
        assert [item["text"] for item in mentions.data["data"]] == ["indeed", "hey @ava, nice"]
        assert mentions.taint == "open"
        newest = mentions.data["meta"]["newest_id"]
        assert (await read(gate, "social.mentions", id=user_id_of("ava"), since_id=newest)).data == {"meta": {"result_count": 0}}
        own = await read(gate, "social.lookup", id=user_id_of("ava"))
        assert [item["id"] for item in own.data["data"]] == [ours.platform_id]
        gone = PROFILES.render("social.delete", {"id": ours.platform_id}, platform="x")
        assert (await send(gate, gone, "k4")).result == "ok"
        assert (await send(gate, gone, "k4")).result == "ok"
        assert (await send(gate, gone, "k5")).reason == "not_found"

    run(world, story)


def test_our_own_cancel_is_the_only_exception_and_leaves_a_record(world: World) -> None:
    async def story(gate: Gate) -> None:
        world.faults.ask(Wish("hang_after_write"))
        task = asyncio.create_task(send(gate, post("cut"), "k"))
        await eventually(lambda: bool(world.texts()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await send(gate, post("next"), "k2")).result == "ok"

    run(world, story)
    assert [(record.result_class, record.reason) for record in world.records] == [("unknown", "cancelled"), ("ok", "")]


def test_posts_survive_kill_9_of_the_server(tmp_path: Path) -> None:
    world = World(tmp_path, "http")
    try:

        async def story(gate: Gate) -> None:
            for n in range(20):
                assert (await send(gate, post(f"post {n}"), f"k{n}")).result == "ok"
            assert world.server.process is not None
            os.kill(world.server.process.pid, signal.SIGKILL)
            world.revive()
            again = await until_sent(gate, post("post 7"), "k7")
            assert again.result == "ok"

        run(world, story)
        assert sorted(world.texts()) == sorted(f"post {n}" for n in range(20))
    finally:
        world.server.stop()


def test_a_server_that_is_not_there_yet_was_not_sent_anything_and_is_found_when_it_comes(tmp_path: Path) -> None:
    world = World(tmp_path, "http")
    world.server.kill()
    try:

        async def story(gate: Gate) -> None:
            outcome = await send(gate, post("early"), "k")
            assert (outcome.result, outcome.reason) == ("not_sent", "server_down"), outcome
            world.server.start()
            assert (await until_sent(gate, post("early"), "k")).result == "ok"

        run(world, story)
    finally:
        world.server.stop()


def test_a_connection_that_idled_through_a_restart_loses_no_call(tmp_path: Path) -> None:
    world = World(tmp_path, "http")
    try:

        async def story(gate: Gate) -> None:
            assert (await send(gate, post("one"), "k1")).result == "ok"
            world.server.kill()
            down = await send(gate, post("two"), "k2")
            assert (down.result, down.reason) == ("not_sent", "server_down"), down
            world.server.start()
            assert (await until_sent(gate, post("two"), "k2")).result == "ok"

        run(world, story)
        assert world.texts() == ["two", "one"]
    finally:
        world.server.stop()


def test_a_child_that_died_idle_is_replaced_before_the_next_call(tmp_path: Path) -> None:
    world = World(tmp_path, "stdio")

    async def story(gate: Gate) -> None:
        assert (await send(gate, post("one"), "k1")).result == "ok"
        (pid,) = _children(tmp_path)
        os.kill(pid, signal.SIGKILL)
        (connection,) = gate.connections.values()
        live = connection._live
        assert live is not None
        await eventually(lambda: not live.usable)
        assert (await send(gate, post("two"), "k2")).result == "ok"

    run(world, story)
    assert world.texts() == ["two", "one"]
    assert _children(tmp_path) == []


def _children(data: Path) -> list[int]:
    """Sandbox processes of this process on that data that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_text()
            if int(stat[1]) == os.getpid() and stat[0] != "Z" and "chimera.mcp.sandbox" in command and str(data) in command:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("name", ["x", "feeds"])
def test_the_pinned_schemas_are_those_of_the_running_server(name: str, tmp_path: Path) -> None:
    path = PROFILES_DIR / f"{name}.yaml"
    assert as_text(asyncio.run(live_pins(path, {}, home=tmp_path))) == pins_path(path).read_text()


def test_pins_are_the_same_over_streamable_http(tmp_path: Path) -> None:
    world = World(tmp_path, "http")
    try:
        path = PROFILES_DIR / "x.yaml"
        pins = asyncio.run(live_pins(path, {"x_url": world.server.url}, home=tmp_path))
        assert as_text(pins) == pins_path(path).read_text()
    finally:
        world.server.stop()
