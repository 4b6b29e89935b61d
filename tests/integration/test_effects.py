"""Effects from approval to their end, by the real gate on a real broker against the X sandbox and a job server.

Leases are short here; everything else is as it runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.types import CallToolResult, Tool

from chimera import failpoints
from chimera.events import records as rec
from chimera.mcp.profiles import PROFILES_DIR, Profiles, load_profiles
from chimera.mcp.sandbox.faults import FaultBook, Wish
from chimera.mcp.sandbox.serving import CallContext, error_result, json_result, tool_server
from chimera.mcp.sandbox.timeline import Timeline
from chimera.processors import executor, inquiry
from tests.integration.stage import Stage, open_stage

pytestmark = pytest.mark.timeout(120)
LEASE_MS = 4_000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage(claim_lease_s=LEASE_MS / 1000, call_timeout_s=1.5) as made:
        yield made


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "CALL_OVERHEAD_S", 0.5)
    monkeypatch.setattr(inquiry, "FIRST_LOOK_MS", 300)
    monkeypatch.setattr(inquiry, "FIRST_POLL_MS", 200)


@pytest.fixture
def timeline(stage: Stage) -> Iterator[Timeline]:
    made = Timeline(stage.home / "mcp" / "x")
    yield made
    made.close()


@pytest.fixture
def reconcilable(tmp_path: Path) -> Profiles:
    """X as the live platform is: no idempotency keys, so unknown ends are looked up."""
    for name in ("x", "feeds", "writer"):
        for suffix in (".yaml", ".schemas.json"):
            text = (PROFILES_DIR / f"{name}{suffix}").read_text(encoding="utf-8")
            text = text.replace("tool_class: {sandbox: keyed, live: reconcilable}", "tool_class: reconcilable")
            (tmp_path / f"{name}{suffix}").write_text(text, encoding="utf-8")
    return load_profiles(tmp_path)


def play(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 100))


def posts(timeline: Timeline, name: str) -> list[str]:
    return [post.text for post in timeline.posts(f"{name}_x")]


def test_an_approved_effect_leaves_after_its_undo_window_and_not_before_its_own_time(stage: Stage, timeline: Timeline) -> None:
    key = stage.enrol("undo", undo_ms=1_500)
    stage.plan(key, 3)

    async def story() -> None:
        async with stage.role():
            stage.approve(key, 1, "Soup on Monday, and the pot is big enough for everybody.")
            stage.approve(key, 2, "A loaf that rests overnight asks for nothing but patience.")
            approved = [stage.effect(key, n).approved_ts for n in (1, 2)]
            later = approved[1] + 3_000
            stage.approve(key, 3, "Leaves make good compost when they are wet and shredded.", not_before=later)
            assert stage.withdraw(key, 2).outcome == "applied"
            await stage.until(lambda: stage.done(key) == {1, 3}, "what was not withdrawn is posted")
            claims = stage.at(key, rec.EffectClaimed)
            assert claims[0] >= approved[0] + 1_500
            assert claims[1] >= later

    play(story)
    assert len(posts(timeline, "undo")) == 2
    assert stage.agent(key).campaigns[1].closed == {2: "withdrawn"}


def test_an_approval_that_nobody_used_in_time_lapses_and_nothing_is_sent(stage: Stage, timeline: Timeline) -> None:
    key = stage.enrol("lapse", lapse_ms=300, undo_ms=60_000)
    stage.plan(key, 1)
    stage.approve(key, 1, "An approval that sleeps too long is no approval any more.")

    async def story() -> None:
        async with stage.role("brain"), stage.role():
            await stage.until(lambda: stage.said(key, rec.Expired), "the planner says that it lapsed")

    play(story)
    assert stage.said(key, rec.EffectClaimed) == []
    assert posts(timeline, "lapse") == []
    campaign = stage.agent(key).campaigns.get(1)  # gone where the planner has completed it by now
    assert campaign is None or campaign.closed == {1: "expired"}


def test_an_unknown_end_is_found_on_the_platform_and_never_called_twice(
    stage: Stage, timeline: Timeline, reconcilable: Profiles
) -> None:
    key = stage.enrol("found")
    stage.plan(key, 1)

    async def story() -> None:
        async with stage.role(profiles=reconcilable):
            FaultBook(timeline.path.parent).ask(Wish("hang_after_write", "createPosts"))
            proposal = stage.approve(key, 1, "Chestnuts roast best with a cut across the flat side.", tool_class="reconcilable")
            assert proposal.tool_class == "reconcilable"
            await stage.until(lambda: stage.done(key) == {1}, "the end is found")

    play(story)
    (ended,) = stage.said(key, rec.EffectEnded)
    (post,) = timeline.posts("found_x")
    assert (ended.outcome, ended.token, ended.platform_id) == ("executed", None, str(post.id))
    assert ended.proof["kind"] == "lookup"
    assert ended.url.endswith(f"/found_x/status/{post.id}")
    assert len(stage.said(key, rec.EffectUnknown)) == len(stage.said(key, rec.EffectClaimed)) == 1
    waited = stage.at(key, rec.EffectEnded)[0] - stage.at(key, rec.EffectClaimed)[0]
    assert waited >= LEASE_MS + 200


def test_an_unknown_end_that_is_not_there_is_claimed_and_called_again(
    stage: Stage, timeline: Timeline, reconcilable: Profiles
) -> None:
    key = stage.enrol("again")
    stage.plan(key, 1)

    async def story() -> None:
        async with stage.role(profiles=reconcilable):
            FaultBook(timeline.path.parent).ask(Wish("hang", "createPosts"))
            FaultBook(timeline.path.parent).ask(Wish("nonsense", "getUsersPosts"))  # the first look-up proves nothing
            stage.approve(key, 1, "A cold frame is a window that somebody was going to throw away.", tool_class="reconcilable")
            await stage.until(lambda: stage.done(key) == {1}, "it is posted in the end")

    play(story)
    first, second = stage.said(key, rec.EffectEnded)
    assert (first.outcome, first.reason, first.proof["kind"]) == ("not_executed", "looked up, not there", "lookup")
    assert (second.outcome, second.claim) == ("executed", 2)
    assert len(timeline.posts("again_x")) == 1


def test_a_tool_that_may_be_called_once_only_waits_for_a_person(stage: Stage, timeline: Timeline) -> None:
    key = stage.enrol("once")
    stage.plan(key, 1)

    async def story() -> None:
        async with stage.role() as gate:
            FaultBook(timeline.path.parent).ask(Wish("hang_after_write", "createPosts"))
            stage.approve(key, 1, "Some things are done once, and then somebody looks.", tool_class="at_most_once")
            await stage.until(lambda: stage.said(key, rec.EffectUnknown), "its end is unknown")
            after = stage.effect(key, 1).lease_until + 200
            await stage.until(lambda: gate.tools.broker_now() > after + 500 and gate.swarm.idle(), "lease and grace are over")
            assert stage.effect(key, 1).status == "unknown"
            (post,) = timeline.posts("once_x")
            assert stage.resolve(key, 1, str(post.id)).outcome == "applied"

    play(story)
    assert stage.done(key) == {1}
    assert len(stage.said(key, rec.EffectClaimed)) == 1


def test_a_claim_that_a_stranger_wrote_grants_nobody_a_call_and_is_over_with_its_lease(stage: Stage, timeline: Timeline) -> None:
    """Where the law lists no key for the executor anybody may claim: that takes time from the one who calls, and nothing else."""
    key = stage.enrol("stolen")
    stage.plan(key, 1)
    proposal = stage.approve(key, 1, "Whoever takes a number at the bakery has no bread by that.")
    place: dict[str, Any] = {"campaign": 1, "ordinal": 1, "attempt": 1, "claim": 1}
    stage.say(key, rec.EffectClaimed(**place, effect_hash=proposal.effect_hash, token="mine", lease_ms=1_000), "mallory")

    async def story() -> None:
        async with stage.role():
            await stage.until(lambda: stage.done(key) == {1}, "it is posted all the same")

    play(story)
    assert len(timeline.posts("stolen_x")) == 1
    claims = stage.said(key, rec.EffectClaimed)
    assert [claim.claim for claim in claims] == [1, 2]
    assert claims[1].token != "mine"
    assert stage.at(key, rec.EffectClaimed)[1] >= stage.at(key, rec.EffectClaimed)[0] + 1_000


# --- asynchronous tools ------------------------------------------------------------------------------------------------


class Renderer:
    """A tiny MCP server that takes jobs and is done with each after some questions."""

    TOOLS = (
        Tool(
            name="render",
            description="Take a job.",
            input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        ),
        Tool(
            name="status",
            description="How far a job is.",
            input_schema={"type": "object", "properties": {"job": {"type": "string"}}, "required": ["job"]},
        ),
    )

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.asked: dict[str, int] = {}
        self.takes: dict[str, int] = {}

    async def handle(self, tool: str, arguments: dict[str, Any], context: CallContext) -> CallToolResult:
        if tool == "render":
            job = f"job-{len(self.jobs) + 1}"
            self.jobs.append(arguments["text"])
            return json_result({"job": job, "state": "queued"})
        job = arguments["job"]
        self.asked[job] = self.asked.get(job, 0) + 1
        if "fails" in self.jobs[int(job.removeprefix("job-")) - 1]:
            return error_result("render_failed: out of ideas")
        if self.asked[job] <= self.takes.get(job, 2):
            return json_result({"job": job, "state": "running"})
        return json_result({"job": job, "state": "done", "url": f"https://video.example/{job}"})


MAKE = "video.generate"
JOBS = """
name: jobs
platform: x
servers: {sandbox: {address: jobs_url}}
capabilities:
  video.generate:
    tool: render
    inputs: {required: [text]}
    arguments: {text: "{text}"}
    effect_class: publish
    tool_class: at_most_once
    timeout_s: 5
    egress: {content: [text]}
    poll: video.status
    result: {require: [url], submitted: {handle: job, match: queued}}
  video.status:
    tool: status
    inputs: {required: [handle]}
    arguments: {job: "{handle}"}
    effect_class: none
    tool_class: read
    timeout_s: 5
    result:
      require: [url]
      id: job
      refused: {render_failed: '^render_failed: '}
      submitted: {handle: job}
"""


async def jobs_profile(folder: Path, server: Any) -> Profiles:
    """The profile with the server's own schemas pinned."""
    (folder / "jobs.yaml").write_text(JOBS, encoding="utf-8")
    tools = [tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in Renderer.TOOLS]
    (folder / "jobs.schemas.json").write_text(json.dumps(pins_of(tools)), encoding="utf-8")
    return load_profiles(folder)


def pins_of(tools: list[dict[str, Any]]) -> dict[str, Any]:
    from chimera.mcp.pins import closed, tool_sha256

    return {"tools": {t["name"]: {"sha256": tool_sha256(t), "schema": closed(t["inputSchema"])} for t in tools}}


def test_a_job_that_the_platform_takes_is_polled_to_its_end_also_by_another_gate(stage: Stage, tmp_path: Path) -> None:
    key = stage.enrol("video", failures_allowed=1)
    stage.plan(key, 2)
    renderer = Renderer()
    server = tool_server("renderer", Renderer.TOOLS, renderer.handle)

    async def story() -> None:
        profiles = await jobs_profile(tmp_path, server)
        stage.profiles, before = profiles, stage.profiles
        try:
            renderer.takes["job-1"] = 10**6
            async with stage.role(profiles=profiles) as first:
                first.gate.addresses = {"jobs_url": server}
                stage.approve(
                    key, 1, "A minute of film about an autumn garden.", capability="video.generate", inputs={"text": "film"}
                )
                await stage.until(lambda: renderer.asked.get("job-1", 0) >= 2, "the first gate polls")
            renderer.takes["job-1"] = renderer.asked["job-1"] + 1
            async with stage.role(profiles=profiles) as second:
                second.gate.addresses = {"jobs_url": server}
                await stage.until(lambda: stage.done(key) == {1}, "the second gate sees it done")
                stage.approve(key, 2, "A film that never will be.", capability=MAKE, inputs={"text": "fails"})
                await stage.until(lambda: 2 in stage.agent(key).campaigns[1].closed, "a failed job is a failure of the task")
        finally:
            stage.profiles = before

    play(story)
    assert renderer.jobs == ["film", "fails"], "each was asked for once"
    submitted = stage.said(key, rec.EffectSubmitted)
    assert [s.handle for s in submitted] == ["job-1", "job-2"]
    done, failed = stage.said(key, rec.EffectEnded)
    assert (done.outcome, done.platform_id, done.token) == ("executed", "job-1", stage.said(key, rec.EffectClaimed)[0].token)
    assert (failed.outcome, failed.reason) == ("refused", "render_failed")


def test_a_poll_whose_answer_is_lost_is_asked_again(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = stage.enrol("lostpoll")
    stage.plan(key, 1)
    renderer = Renderer()
    server = tool_server("renderer", Renderer.TOOLS, renderer.handle)
    monkeypatch.setenv(failpoints.VARIABLE, "executor.polled=error#1")

    async def story() -> None:
        profiles = await jobs_profile(tmp_path, server)
        stage.profiles, before = profiles, stage.profiles
        try:
            with failpoints.armed(tmp_path, "gate"):
                async with stage.role(profiles=profiles) as gate:
                    gate.gate.addresses = {"jobs_url": server}
                    stage.approve(key, 1, "A lost minute of film.", capability="video.generate", inputs={"text": "film"})
                    await stage.until(lambda: stage.done(key) == {1}, "it is asked again and done")
        finally:
            stage.profiles = before

    play(story)
    assert [line["point"] for line in failpoints.fired(tmp_path)] == ["executor.polled"]
    assert renderer.asked["job-1"] >= 2
    assert renderer.jobs == ["film"], "it was asked for once"
    assert [ended.outcome for ended in stage.said(key, rec.EffectEnded)] == ["executed"]


# --- work that kills ---------------------------------------------------------------------------------------------------


def test_a_task_that_kills_its_worker_is_abandoned_visibly_and_takes_no_other_task_with_it(stage: Stage) -> None:
    key = stage.enrol("deadly", failures_allowed=3)
    stage.plan(key, 4)
    env = {**os.environ, "CHIMERA_HOME": str(stage.home), "CHIMERA_KAFKA": str(stage.settings.kafka), "PYTHONPATH": str(ROOT)}
    deaths = 0

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.integration.deadly"], env=env, cwd=ROOT)

    def over() -> bool:
        tasks = stage.agent(key).campaigns[1].tasks
        return 1 not in tasks and all(task.status == "produced" for task in tasks.values())

    async def story() -> None:
        nonlocal deaths
        while not over():
            assert deaths < 15, stage.seen[-10:]
            brain = begin()
            try:
                await stage.until(lambda brain=brain: over() or brain.poll() is not None, "it dies, or all is over", 60)
                deaths += not over()
            finally:
                brain.kill()
                brain.wait(10)

    play(story)
    assert stage.agent(key).campaigns[1].closed == {1: "failures"}
    lost = [d for d in stage.said(key, rec.WorkFailed) if d.lost]
    started = [d for d in stage.said(key, rec.WorkStarted) if d.ordinal == 1]
    assert [d.attempt for d in lost if d.ordinal == 1] == [d.attempt for d in started] == [1, 2, 3]
    assert deaths >= 3
    assert max([sum(d.ordinal == n for d in lost) for n in (2, 3, 4)]) <= 1, "the others die with it once at most"
