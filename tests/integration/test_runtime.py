"""Role sets as processes on a real broker: they follow, answer, share partitions, and take over from each other.

The rule not to break: what a process folded is read from its own status file, what is true from the log.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
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
from chimera.events.records import PlanDrafted
from chimera.events.state import Ruling
from chimera.policy.brief import load_brief
from chimera.processors import holding
from chimera.processors.catchup import catch_up
from chimera.processors.runtime import Process
from chimera.projections.schema import migrate
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
    def brain(self, *words: str, script: str = "", postgres: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """A brain by the command line, or as a script runs it."""
        env = {**os.environ, "CHIMERA_HOME": str(self.home), "CHIMERA_KAFKA": str(self.settings.kafka)}
        if postgres:
            env["CHIMERA_POSTGRES"] = postgres
        argv = ["-c", script] if script else ["-m", "chimera.cli.main", "run", "brain", *words]
        with (self.home / f"brain-{uuid.uuid4().hex[:4]}.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, *argv], env=env, stdout=log, stderr=subprocess.STDOUT)
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
        policy = (EXAMPLES / "AGENTS.md").read_text().replace("boardkit: 1\n", "boardkit: 1\ndistinct_across_tenant: false\n", 1)
        (self.home / "AGENTS.md").write_text(policy)  # they all have one persona and one feed
        fleet.write_text(yaml.safe_dump({"tenant": "acme", "policy": "AGENTS.md", "agents": rows}))
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

    def shared(self, *processes: subprocess.Popen[bytes]) -> bool:
        """Each serves some partitions, no two the same, together all."""
        held = [set(self.status(process)["partitions"]) for process in processes]
        return all(held) and sum(map(len, held)) == 24 and set().union(*held) == set(range(24))

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in self.home.glob("brain*.log"))

    def plans(self) -> list[tuple[str, int]]:
        """Every plan that counted."""
        found = [(r.key, r.data) for r, ruling in self.seen if r.type == "PlanDrafted" and ruling.outcome == "applied"]
        return [(key, data.campaign) for key, data in found if isinstance(data, PlanDrafted)]

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
            hall.until(lambda: hall.shared(first, second), "both share the partitions")
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
    assert len(hall.plans()) == len(set(hall.plans())) == 18
    assert "HoleInLog" not in hall.logs()


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
            assert await process.holding.take_over(everything) == served == ends
            assert process.swarm.counters.folded == sum(ends.values())
            assert await process.holding.take_over(half) == {p: ends[p] for p in half}
            assert set(process.swarm.partitions) == half
            assert await process.holding.take_over(everything) == served == end_offsets(kafka, LOG)
            again = sum(ends[p] for p in everything - half)
            assert process.swarm.counters.folded == sum(ends.values()) + again
            assert process.swarm.counters.void == 0
            assert not process.swarm.counters.rulings, "what was only folded again is counted by whoever folded it first"
        finally:
            await process.close()

    asyncio.run(story())


def test_an_assignment_that_another_overtakes_serves_nothing_and_the_last_one_is_served(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything, half = set(range(24)), set(range(12))
    ends = end_offsets(str(hall.settings.kafka), LOG)
    real, folding = catch_up, list[int]()
    began, go_on = threading.Event(), threading.Event()

    def slowly(swarm: Any, partitions: set[int], *more: Any) -> None:
        folding.append(len(partitions))
        began.set()
        assert len(folding) == 1 or go_on.is_set(), "two threads fold at once"
        assert go_on.wait(20)
        real(swarm, partitions, *more)

    monkeypatch.setattr(holding, "catch_up", slowly)

    async def story() -> None:
        process = Process("brain", hall.settings)
        try:
            old = asyncio.create_task(process.holding.take_over(everything))
            assert await asyncio.to_thread(began.wait, 20)
            between = asyncio.create_task(process.holding.take_over(set(range(6))))
            new = asyncio.create_task(process.holding.take_over(half))
            for _ in range(5):
                await asyncio.sleep(0)
            assert process.swarm.dark
            go_on.set()
            assert await asyncio.wait_for(asyncio.gather(old, between, new), 30) == [{}, {}, {p: ends[p] for p in half}]
            assert folding == [24, 12]
            assert process.swarm.live == set(process.swarm.partitions) == half
        finally:
            await process.close()

    asyncio.run(story())


@pytest.mark.timeout(300)
def test_three_brains_lose_no_job_when_one_joins_one_is_killed_and_comes_back_and_one_is_stopped(hall: Hall) -> None:
    with hall.brain("--instance", "a") as first, hall.brain("--instance", "b") as second:
        hall.until(lambda: hall.shared(first, second), "both share the partitions")
        keys = hall.work("joined", 6)
        with hall.brain("--instance", "c") as third:  # while there is work
            hall.until(lambda: hall.shared(first, second, third), "three share the partitions")
            hall.until(lambda: hall.settled(keys), "all is done though one joined", 90)
            before = [hall.status(each)["partitions"] for each in (first, second, third)]
            keys = hall.work("killed", 6)
            second.kill()
            second.wait(10)
            with hall.brain("--instance", "b") as again:
                hall.until(lambda: hall.settled(keys), "all is done though one was killed", 90)
                # What there was to do may have been done before it was back.
                hall.until(lambda: hall.shared(first, again, third), "the one that was killed shares again", 60)
                after = [hall.status(each)["partitions"] for each in (first, again, third)]
                assert after == before, "who keeps his seat keeps his partitions"
                keys = hall.work("stopped", 6)
                third.terminate()
                third.wait(20)
                hall.until(lambda: hall.shared(first, again), "the others take over from the one that was stopped", 60)
                hall.until(lambda: hall.settled(keys), "all is done though one was stopped", 90)
                assert hall.status(first)["job_errors"] == hall.status(again)["job_errors"] == 0
    assert len(hall.plans()) == len(set(hall.plans()))
    assert "HoleInLog" not in hall.logs()


@pytest.mark.timeout(200)
def test_a_brain_that_was_killed_goes_on_from_its_snapshot(hall: Hall, make_database: Callable[[], str]) -> None:
    dsn = make_database()
    migrate(dsn)
    with hall.brain("--instance", "s", postgres=dsn) as first:
        keys = hall.work("snap", 4)
        hall.until(lambda: hall.settled(keys), "the work is done", 90)
        end = len(hall.seen)

        def saved() -> bool:
            status = hall.status(first)
            return sum(status.get("offsets", {}).values()) == end and status["snapshots"]["behind"] == 0

        hall.until(saved, "all of it is in snapshots", 30)
        first.kill()
        first.wait(10)
    late = hall.work("late", 2)
    with hall.brain("--instance", "s", postgres=dsn) as again:
        hall.until(lambda: hall.settled(late), "the work that came meanwhile is done", 90)
        hall.until(lambda: sum(hall.status(again)["offsets"].values()) == len(hall.seen), "it stands at the end", 20)
        assert hall.status(again)["folded"] == len(hall.seen) - end, "it read only what its snapshot did not hold"
        assert hall.status(again)["void"] == 0
    with hall.brain(postgres="postgresql://127.0.0.1:1/none") as without:
        hall.until(lambda: len(hall.status(without)["partitions"]) == 24, "without its database it starts as well")
        assert hall.status(without)["folded"] == len(hall.seen)
    assert "no snapshots (the store of snapshots does not answer" in hall.logs()


DEAF = """
from functools import partial
from chimera.processors import runtime
from chimera.settings import Settings

runtime.Watchdog = partial(runtime.Watchdog, stuck_s=3.0, look_s=0.5)
build = runtime.build_app

def deaf(folded, **given):
    def fold_once_and_stop_reading(raws):
        folded(raws)
        app.consumer.stop_flow()

    app = build(folded=fold_once_and_stop_reading, **given)
    return app

runtime.build_app = deaf
runtime.run("brain", Settings())
"""


@pytest.mark.timeout(240)
def test_a_brain_whose_consumer_stands_still_ends_itself_with_an_error(hall: Hall) -> None:
    with hall.brain(script=DEAF) as deaf:
        hall.until(lambda: len(hall.status(deaf)["partitions"]) == 24, "it serves")
        keys = hall.work("deaf", 2)
        hall.until(lambda: deaf.poll() is not None, "it ends itself", 100)
        assert deaf.returncode not in (0, None)
        assert f"brain-{socket.gethostname()}-{deaf.pid} is stuck and ends itself" in hall.logs()
    with hall.brain() as sound:
        hall.until(lambda: hall.settled(keys), "what it left is done by the next", 90)
        assert sound.poll() is None
