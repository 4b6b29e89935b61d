"""Role sets as processes on a real broker: they follow, answer, share partitions, and take over from each other.

The rule not to break: what a process folded is read from its own status file, what is true from the log.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from chimera.commands import agents, campaigns
from chimera.commands.decision import Order
from chimera.commands.feeds import keep_feeds
from chimera.commands.fleet import load_fleet
from chimera.commands.keys import LOG, agent_key
from chimera.commands.service import CommandService
from chimera.commands.wiring import open_service
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.envelope import Record
from chimera.events.state import Ruling
from chimera.policy.brief import load_brief
from chimera.processors.runtime import Process
from chimera.settings import Settings
from chimera.stack.local import LocalStack

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_clients_of_faust_and_of_ours_put_ten_thousand_keys_on_the_same_partitions(kafka_bootstrap: str) -> None:
    topic = f"partitions-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})  # kept: a client that nobody holds cancels what it was asked
    admin.create_topics([NewTopic(topic, 24, 1)])[topic].result(20)
    dice = random.Random(7)
    keys = [f"agent/{uuid.UUID(int=dice.getrandbits(128))}" for _ in range(10_000)]
    ours = Producer({"bootstrap.servers": kafka_bootstrap, "queue.buffering.max.messages": 200_000})
    for key in keys:
        ours.produce(topic, b"ours", key.encode(), partition_for(key, 24))
    assert ours.flush(60) == 0

    async def theirs() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, linger_ms=20)
        await producer.start()
        try:
            sent = [await producer.send(topic, b"theirs", key.encode()) for key in keys]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    asyncio.run(theirs())
    ends = end_offsets(kafka_bootstrap, topic)
    at: dict[bytes, set[int]] = {}
    count = 0
    for batch in read_until(kafka_bootstrap, topic, ends):
        for raw in batch:
            assert raw.key is not None
            at.setdefault(raw.key, set()).add(raw.partition)
            count += 1
    assert count == 20_000
    assert [key for key, partitions in at.items() if len(partitions) != 1] == []


def telling(text: str) -> str:
    """The end of a log, without what the interpreter says of tasks that its own end cut off."""
    return "\n".join(line[:1500] for line in text.splitlines() if "Task was destroyed" not in line)[-4000:]


class Hall:
    """A broker with topics and law, and the processes that a test starts on it."""

    def __init__(self, home: Path, settings: Settings, service: CommandService, seen: list[tuple[Record, Ruling]]) -> None:
        self.home, self.settings, self.service, self.seen = home, settings, service, seen

    def until(self, condition: Callable[[], object], what: str, deadline_s: float = 60) -> None:
        deadline = time.monotonic() + deadline_s
        while not condition():
            logs = {path.name: telling(path.read_text()) for path in self.home.glob("brain*.log")}
            assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}: {logs}"
            self.service.follow(0.1)
        self.service.catch_up()

    def status(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        path = self.home / "run" / f"brain.{process.pid}.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"partitions": []}
        return found

    @contextmanager
    def brain(self) -> Iterator[subprocess.Popen[bytes]]:
        env = {**os.environ, "CHIMERA_HOME": str(self.home), "CHIMERA_KAFKA": str(self.settings.kafka)}
        with (self.home / f"brain-{uuid.uuid4().hex[:4]}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "chimera.cli.main", "run", "brain"], env=env, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)

    def work(self, name: str, count: int) -> list[str]:
        """Enrol so many agents and give each a campaign that leaves nothing to the gate; their stream keys."""
        fleet = self.home / f"{name}.yaml"
        rows = [
            {"name": f"{name}{n}", "soul": str(EXAMPLES / "souls" / "ava.md"), "accounts": {"x": f"{name}{n}_x"}}
            for n in range(count)
        ]
        fleet.write_text(yaml.safe_dump({"tenant": "acme", "policy": str(EXAMPLES / "AGENTS.md"), "agents": rows}))
        wanted = load_fleet(fleet)
        assert not wanted.problems, wanted.problems
        installation = self.service.keys.installation.installation
        keys = [agent_key(installation, "acme", each.name) for each in wanted.agents]
        brief = keep_feeds(load_brief(EXAMPLES / "briefs" / "autumn.yaml"), self.home).model_dump(mode="json")
        for decisions in (
            [agents.enrol(each, "dora") for each in wanted.agents],
            [campaigns.start(name, brief) for _ in wanted.agents],
        ):
            orders = [Order(key, "acme", "dora", decide, str(uuid.uuid4())) for key, decide in zip(keys, decisions, strict=True)]
            assert {answer.outcome for answer in self.service.submit_many(orders)} == {"applied"}
        return keys

    def said(self, process: subprocess.Popen[bytes], keys: list[str]) -> list[Record]:
        return [
            r for r, ruling in self.seen if r.actor.endswith(f"-{process.pid}") and r.key in keys and ruling.outcome == "applied"
        ]

    def settled(self, keys: list[str]) -> bool:
        """Of these agents' tasks only approved effects are left: they are the gate's."""
        found = [self.service.agent(key) for key in keys]
        return all(
            c.planned_edition == 1 and all(t.effect and t.effect.status in ("approved", "people") for t in c.tasks.values())
            for agent in found
            if agent is not None
            for c in agent.campaigns.values()
        )


@pytest.fixture(scope="module")
def hall() -> Iterator[Hall]:
    """A broker of its own: a role set works on `chimera.log` itself, which no two installations can share."""
    home = Path(tempfile.mkdtemp(prefix="chimera-test-runtime-"))
    try:
        with LocalStack(Settings(home=home, kafka=None, postgres="postgresql://not-needed"), sandbox=()) as stack:
            kafka = stack.start().kafka
            stack.run_step("topics", "apply")
            stack.run_step("keys", "init")
            settings = Settings(home=home, kafka=kafka, postgres=None)
            seen: list[tuple[Record, Ruling]] = []
            with open_service(settings, observe=lambda record, ruling: seen.append((record, ruling))) as service:
                yield Hall(home, settings, service, seen)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.timeout(240)
def test_brains_follow_the_log_share_its_partitions_and_take_over_from_a_dead_one(hall: Hall) -> None:
    with hall.brain() as first:
        hall.until(lambda: len(hall.status(first)["partitions"]) == 24, "the first brain serves all partitions")
        keys = hall.work("one", 2)
        hall.until(lambda: hall.settled(keys), "the first brain does all there is to do")
        hall.until(lambda: hall.status(first)["folded"] == len(hall.seen), "it has folded every record once", 20)
        assert {r.type for r in hall.said(first, keys)} >= {"PlanDrafted", "TaskPlanned", "ArtifactProduced", "JudgeVerdict"}
        assert hall.status(first)["job_errors"] == 0

        with hall.brain() as second:

            def shared() -> bool:
                one, two = set(hall.status(first)["partitions"]), set(hall.status(second)["partitions"])
                return bool(one and two) and not one & two and one | two == set(range(24))

            hall.until(shared, "both share the partitions")
            ends = end_offsets(str(hall.settings.kafka), LOG)
            mine = hall.status(second)
            assert mine["folded"] == sum(ends[p] for p in mine["partitions"]), "a new owner folds every record once"
            keys = hall.work("two", 10)
            hall.until(lambda: hall.settled(keys), "both do all there is to do", 90)
            assert hall.said(first, keys), "the first did nothing"
            assert hall.said(second, keys), "the second did nothing"

            def level() -> bool:
                ends = end_offsets(str(hall.settings.kafka), LOG)
                found = [hall.status(first), hall.status(second)]
                return all(status["offsets"][str(p)] == ends[p] for status in found for p in status["partitions"])

            hall.until(level, "each stands at the end of what it owns", 20)
            assert hall.status(second)["folded"] == sum(hall.status(second)["offsets"].values())
            second.kill()
            second.wait(10)
            keys = hall.work("three", 6)
            hall.until(lambda: len(hall.status(first)["partitions"]) == 24, "the first takes over what the dead one held", 90)
            hall.until(lambda: hall.settled(keys), "the first does all there is to do")
        assert first.poll() is None
    plans = [(r.key, r.data.campaign) for r, ruling in hall.seen if r.type == "PlanDrafted" and ruling.outcome == "applied"]  # type: ignore[union-attr]
    assert len(plans) == len(set(plans)) == 18
    assert not [path for path in hall.home.glob("brain*.log") if "HoleInLog" in path.read_text()]


@pytest.mark.timeout(120)
def test_no_agent_is_served_before_all_that_was_appended_is_folded(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not after a partition was lost and came back, and what was kept is not folded twice."""
    hall.work("cold", 2)
    kafka = str(hall.settings.kafka)
    everything, half = set(range(24)), set(range(12))

    async def story() -> None:
        process = Process("brain", hall.settings)
        served: dict[int, int] = {}
        monkeypatch.setattr(
            process.swarm, "light", lambda ps: served.update({p: process.swarm.fold_for(p).next_offset for p in ps})
        )
        try:
            ends = end_offsets(kafka, LOG)
            assert await process._take_over(everything) == served == ends
            assert process.swarm.counters.folded == sum(ends.values())
            assert await process._take_over(half) == {p: ends[p] for p in half}
            assert set(process.swarm.partitions) == half
            assert await process._take_over(everything) == served == end_offsets(kafka, LOG)
            again = sum(ends[p] for p in everything - half)
            assert process.swarm.counters.folded == sum(ends.values()) + again
            assert process.swarm.counters.void == 0
        finally:
            await process.close()

    asyncio.run(story())
