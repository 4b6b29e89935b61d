"""A broker with topics, law and a command service, effects put on the log by hand, and a gate that works in this process.

The rule not to break: the gate is the real one (runtime, swarm, profiles, MCP server, Kafka); only Faust, which feeds it, is
replaced by a reader, so that a test may hold it still. Nothing waits for time to pass but by looking at a condition.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from chimera.commands import agents, campaigns
from chimera.commands.cards import Address
from chimera.commands.decision import Answer, Decision
from chimera.commands.fleet import load_fleet
from chimera.commands.keys import LOG, agent_key, log_topics
from chimera.commands.reviews import resolve, withdraw
from chimera.commands.service import CommandService
from chimera.commands.wiring import open_service
from chimera.eventlog.append import Appender
from chimera.eventlog.read import Reader
from chimera.events import records as rec
from chimera.events.envelope import NewRecord, Record, encode
from chimera.events.hashes import commit_hash, digest, simhash, text_hash
from chimera.events.state import Agent, Effect, Ruling, Task
from chimera.mcp.profiles import Profiles, load_profiles
from chimera.processors.runtime import Process
from chimera.settings import Settings
from chimera.stack.local import LocalStack

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BRIEF = EXAMPLES / "briefs" / "autumn.yaml"


class Stage:
    """What a test writes to the log and sees on it."""

    def __init__(
        self, home: Path, settings: Settings, service: CommandService, seen: list[tuple[Record, Ruling]], topic: str = LOG
    ) -> None:
        self.home, self.settings, self.service, self.seen, self.topic = home, settings, service, seen, topic
        self.profiles = load_profiles()
        self._appender = Appender(str(settings.kafka), log_topics(topic), "stage")

    def close(self) -> None:
        self._appender.close()

    # --- what is put on the log ------------------------------------------------------------------------------------

    def enrol(self, name: str, **policy: Any) -> str:
        """An agent with an account of its own and a campaign with one publishing task per wish to come; its stream key."""
        fleet = self.home / f"{name}.yaml"
        one = {"name": name, "soul": str(EXAMPLES / "souls" / "ava.md"), "accounts": {"x": f"{name}_x"}}
        fleet.write_text(yaml.safe_dump({"tenant": "acme", "policy": str(EXAMPLES / "AGENTS.md"), "agents": [one]}))
        (wanted,) = load_fleet(fleet).agents
        key = agent_key(self.service.keys.installation.installation, "acme", name)
        enrolment = agents.enrol(wanted, "dora")

        def decide(agent: Agent | None) -> list[rec.Data]:
            inline = {"undo_ms": 0, "grace_ms": 200, **policy}
            return [
                d.model_copy(update={"inline": d.inline.model_copy(update=inline)}) if isinstance(d, rec.PolicyAdopted) else d
                for d in enrolment(agent)
            ]

        assert self.submit(key, decide).outcome == "applied"
        assert self.submit(key, campaigns.start(name, {"name": name})).outcome == "applied"
        return key

    def submit(self, key: str, decide: Decision) -> Answer:
        return self.service.submit(decide, key=key, tenant="acme", actor="dora")

    def say(self, key: str, data: rec.Data, role: str) -> None:
        """A record as a role writes it."""
        new = NewRecord(
            key=key,
            data=data,
            tenant="acme",
            actor=f"{role}@test",
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            id=str(uuid.uuid4()),
            correlation="test",
        )
        wire = encode(new)
        self._appender.append_blocking(self.topic, wire.key, wire.value, wire.headers)
        self.service.catch_up()
        assert (self.seen[-1][0].id, self.seen[-1][1].outcome) == (new.id, "applied"), self.seen[-1]

    def plan(self, key: str, tasks: int, **row: Any) -> None:
        """A plan of so many independent publishing tasks, all of them open."""
        rows = [rec.PlanRow(ordinal=n, kind="publish", reads=["brief/1"], **row) for n in range(1, tasks + 1)]
        self.say(key, rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=rows), "planner")
        for n in range(1, tasks + 1):
            self.say(key, rec.TaskPlanned(campaign=1, ordinal=n, attempt=1), "planner")

    def approve(
        self,
        key: str,
        ordinal: int,
        text: str,
        *,
        capability: str = "social.publish",
        inputs: Mapping[str, Any] | None = None,
        becomes: str = "approved",
        **effect: Any,
    ) -> rec.EffectProposal:
        """An artifact that proposes the call, and the vote that approves it (or asks people, where the policy says so)."""
        agent = self.agent(key)
        given = {"text": text, "disclosure_level": "automated"} if inputs is None else inputs
        # What is published goes to X; other capabilities have one profile each.
        call = self.profiles.render(capability, given, mode="sandbox", platform="x" if capability == "social.publish" else None)
        platform = self.profiles.by_name[call.profile].spec.platform or "x"
        task = agent.campaigns[1].tasks[ordinal]
        fields: dict[str, Any] = {
            "effect_class": "publish",
            "tool_class": call.tool_class,
            "capability": capability,
            "profile": call.profile,
            "mode": call.mode,
            "tool": call.tool,
            "schema_sha256": call.tool_schema_sha256,
            "arguments": call.arguments,
            "platform": platform,
            "account": agent.accounts["x"],
            "disclosure": "automated",
            "agent": key,
            "input_state_version": task.input_state_version,
            "salt": uuid.uuid4().hex,
            "text_hash": text_hash(text),
            "simhash": f"{simhash(text):016x}",
            **effect,
        }
        blank = rec.EffectProposal(effect_hash="", **fields)
        proposal = blank.model_copy(update={"effect_hash": digest(rec.effect_body(blank))})
        content, at = {"text": text}, {"campaign": 1, "ordinal": ordinal, "attempt": task.attempt}
        made = rec.ArtifactProduced(
            **at,
            input_state_version=task.input_state_version,
            kind="publish",
            artifact_hash=digest(content),
            content=content,
            confidence_score=0.97,
            taint="owner",
            effect=proposal,
        )
        self.say(key, made, "worker")
        agent = self.agent(key)
        assert agent.policy is not None
        vote = rec.JudgeVerdict(
            **at,
            policy_edition=agent.policy.edition,
            input_state_version=task.input_state_version,
            artifact_hash=made.artifact_hash,
            effect_hash=proposal.effect_hash,
            expected_output_version=agent.version + 1,
            commit_hash=commit_hash(key, f"1.{ordinal}", task.input_state_version, made.artifact_hash, proposal.effect_hash),
            judge="content",
            decision="pass",
            confidence_raw=0.97,
            confidence=0.97,
        )
        self.say(key, vote, "judge")
        assert self.effect(key, ordinal).status == becomes
        return proposal

    def withdraw(self, key: str, ordinal: int) -> Answer:
        return self.submit(key, withdraw(Address(key, 1, ordinal, 1), "changed our mind"))

    def resolve(self, key: str, ordinal: int, platform_id: str) -> Answer:
        found = resolve(Address(key, 1, ordinal, 1), "executed", {"kind": "person", "finding": "seen"}, platform_id)
        return self.submit(key, found)

    # --- what is seen ------------------------------------------------------------------------------------------------

    def agent(self, key: str) -> Agent:
        found = self.service.agent(key)
        assert found is not None
        return found

    def task(self, key: str, ordinal: int) -> Task | None:
        return self.agent(key).campaigns[1].tasks.get(ordinal)

    def effect(self, key: str, ordinal: int) -> Effect:
        task = self.task(key, ordinal)
        assert task is not None, f"task {ordinal} is over: {self.agent(key).campaigns[1].closed}"
        assert task.effect is not None
        return task.effect

    def done(self, key: str) -> set[int]:
        return set(self.agent(key).campaigns[1].done)

    def said(self, key: str, type_: type[rec.Data]) -> list[Any]:
        """Values of the applied records of one type, in order."""
        return [r.data for r, ruling in self.seen if r.key == key and ruling.outcome == "applied" and isinstance(r.data, type_)]

    def at(self, key: str, type_: type[rec.Data]) -> list[int]:
        """Append times of those records."""
        return [
            r.append_ts for r, ruling in self.seen if r.key == key and ruling.outcome == "applied" and isinstance(r.data, type_)
        ]

    async def until(self, condition: Callable[[], object], what: str, deadline_s: float = 30) -> None:
        """Follow the log until the condition holds."""
        deadline = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}: {[(r.type, q) for r, q in self.seen[-12:]]}"
            await asyncio.sleep(0.02)
            self.service.follow(0)

    # --- who acts ----------------------------------------------------------------------------------------------------

    def role(self, role_set: str = "gate", profiles: Profiles | None = None) -> AbstractAsyncContextManager[Process]:
        """A role set at work until the block ends."""
        return at_work(role_set, self.settings, profiles)


@asynccontextmanager
async def at_work(role_set: str, settings: Settings, profiles: Profiles | None = None) -> AsyncIterator[Process]:
    """A role set at work in this process."""
    process = Process(role_set, settings)
    if profiles is not None:
        process.gate.profiles = profiles
    tasks: list[asyncio.Task[None]] = []
    try:
        start = await process.take_over(set(range(process.partitions)))
        tasks = [asyncio.create_task(_feed(process, dict(start))), asyncio.create_task(process.swarm.tick())]
        yield process
        assert not [task for task in tasks if task.done()], tasks
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await process.close()


async def _feed(process: Process, start: dict[int, int]) -> None:
    """What Faust does: hand on what arrives, in order."""
    loop = asyncio.get_running_loop()
    reader = await loop.run_in_executor(None, lambda: Reader(process.bootstrap, LOG, start))
    try:
        while True:
            batch = reader.read(500, 0)
            if batch:
                process.holding.folded(batch)
            await asyncio.sleep(0.01)
    finally:
        reader.close()


@contextmanager
def open_stage(**more: Any) -> Iterator[Stage]:
    """A broker of its own: a role set works on `chimera.log` itself, which no two installations can share. `more`: settings."""
    home = Path(tempfile.mkdtemp(prefix="chimera-test-stage-"))
    try:
        with LocalStack(Settings(home=home, kafka=None, postgres="postgresql://not-needed"), sandbox=("x",)) as stack:
            kafka = stack.start().kafka
            stack.run_step("topics", "apply")
            stack.run_step("keys", "init")
            settings = Settings(home=home, kafka=kafka, postgres="postgresql://127.0.0.1:1/down", **more)
            seen: list[tuple[Record, Ruling]] = []
            with open_service(settings, observe=lambda record, ruling: seen.append((record, ruling))) as service:
                stage = Stage(home, settings, service, seen)
                try:
                    yield stage
                finally:
                    stage.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
