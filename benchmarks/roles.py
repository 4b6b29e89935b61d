"""What worker, judge and offline writer cost per task, without servers: CPU us of each, for an example campaign of many agents.

    python benchmarks/roles.py [--agents N] [--rounds N] [--own] [--distinct] [--profile FILE] [--json]

The rule not to break: the agents take turns, one job each, as in a busy swarm; so what a cache holds is what it would hold there.
A call to the writer passes its request and its answer as JSON, as the gate does; the gate itself, log and fold are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import hashlib
import json
import pstats
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml

from chimera.events import records as rec
from chimera.events.state import Ruling
from chimera.mcp.records import Outcome
from chimera.mcp.sandbox.writer import offline
from chimera.mcp.sandbox.writer.server import _compute
from chimera.policy.brief import load_brief
from chimera.policy.writing import REQUESTS
from chimera.processors.jobs import Job, Role
from chimera.processors.runtime import GC_THRESHOLD
from tests.swarmhouse import SwarmHouse

ROOT = Path(__file__).resolve().parents[1]
SOULS = ("ava", "bruno", "cleo", "dov", "edda", "femi")


class Timed(SwarmHouse):
    """A swarm in one process that keeps what each piece took, in ns of this thread."""

    def __init__(self, feeds: Path, policy: str) -> None:
        super().__init__(feeds, policy)
        self.spent: dict[str, int] = defaultdict(int)
        self.counted: Counter[str] = Counter()
        self.answers = hashlib.sha256()
        """Of everything that the writer was asked and answered, in order."""
        self.profiler: cProfile.Profile | None = None

    async def run(self, most: int = 100_000) -> None:
        """As a SwarmHouse, but each piece timed."""
        while True:
            owed = [(role, job) for key in sorted(self.agents) for role in self._roles(key) for job in self._asked(role, key)]
            if not owed:
                return
            for role, job in owed:
                await self._answer(role, job)

    def _asked(self, role: Role, key: str) -> Sequence[Job]:
        return self._due(role, key)

    async def _answer(self, role: Role, job: Job) -> Ruling | None:
        before, began = self.spent["writer"] + self.spent["elsewhere"], time.thread_time_ns()
        if self.profiler is not None and role.name != "planner":
            self.profiler.enable()
        answer = await role.do(job, self)
        if self.profiler is not None:
            self.profiler.disable()
        took = time.thread_time_ns() - began - (self.spent["writer"] + self.spent["elsewhere"] - before)
        self.spent[role.name] += took
        self.counted[role.name] += 1
        return self.add(job.agent, answer.data) if answer is not None else None

    async def tool(
        self, job: Job, capability: str, inputs: dict[str, Any], account: str | None = None, platform: str | None = None
    ) -> Outcome:
        """The writer by JSON; what else is asked is the gate's matter."""
        if capability != "text.complete":
            began = time.thread_time_ns()
            outcome = await super().tool(job, capability, inputs, account, platform)
            self.spent["elsewhere"] += time.thread_time_ns() - began
            return outcome
        began = time.thread_time_ns()
        asked = orjson.dumps(inputs)
        given = orjson.loads(asked)
        self.spent["elsewhere"] += time.thread_time_ns() - began
        began = time.thread_time_ns()
        try:
            made = _compute(given["purpose"], REQUESTS[given["purpose"]].model_validate(given["request"])).model_dump(mode="json")
        except offline.CannotWrite as error:
            return Outcome("refused", "cannot_write", str(error))
        finally:
            self.spent["writer"] += time.thread_time_ns() - began
            self.counted[f"writer: {given['purpose']}"] += 1
        began = time.thread_time_ns()
        said = orjson.dumps({"purpose": given["purpose"], "writer": "offline", **made})
        self.answers.update(asked + said)
        outcome = Outcome("ok", data=orjson.loads(said))
        self.spent["elsewhere"] += time.thread_time_ns() - began
        return outcome

    def tasks(self) -> int:
        """Tasks of all campaigns."""
        return sum(len(c.tasks) + len(c.done) for agent in self.agents.values() for c in agent.campaigns.values())

    def frozen(self) -> str:
        """A hash of all that was recorded, asked and answered, in order; but for salts and what is made from them."""
        told = hashlib.sha256(self.answers.digest())
        for record in self.records:
            assert record.data is not None
            body = orjson.loads(record.data.model_dump_json())
            if isinstance(record.data, rec.ArtifactProduced) and record.data.effect is not None:
                body["effect"] |= {"salt": "", "effect_hash": ""}
            if isinstance(record.data, rec.JudgeVerdict):
                body |= {"effect_hash": "", "commit_hash": ""}
            told.update(orjson.dumps([record.key, record.type, body], option=orjson.OPT_SORT_KEYS))
        return told.hexdigest()


def policy(distinct: bool) -> str:
    """The example's, counting no claims; `distinct`: accounts may not say the same."""
    front, prose = (ROOT / "examples" / "AGENTS.md").read_text().split("---\n")[1:3]
    rules = yaml.safe_load(front) | {"frequency": {}, "distinct_across_tenant": distinct}
    return f"---\n{yaml.safe_dump(rules)}---\n{prose}"


def swarm(agents: int, distinct: bool, own: bool) -> Timed:
    """So many agents with the example's brief and personas; `own`: each speaks in words of its own."""
    house = Timed(ROOT / "examples" / "feeds", policy(distinct))
    brief = load_brief(ROOT / "examples" / "briefs" / "autumn.yaml")
    body = brief.model_dump(mode="json")
    body["formats"] = [{"platform": "x", "format": f"form{n}", "max_chars": 280} for n in range(3)]
    brief = type(brief).model_validate(body)
    souls = [(ROOT / "examples" / "souls" / f"{name}.md").read_text() for name in SOULS]
    for n in range(agents):
        soul = souls[n % len(souls)]
        if own:
            soul = re.sub("openers: .*", f'openers: ["Note {n}:", "Seen on day {n}:"]', soul).replace("name: ", f"name: {n} ")
        house.enrol(f"agent/{n:04}", soul, brief, f"a{n}_x")
    return house


def measure(agents: int, distinct: bool, own: bool, profiler: cProfile.Profile | None) -> tuple[dict[str, float], str]:
    """us of CPU per task, by piece, of one campaign; and what came of it."""
    gc.set_threshold(*GC_THRESHOLD)
    house = swarm(agents, distinct, own)
    house.profiler = profiler
    asyncio.run(house.run())
    count = house.tasks()
    figures = {f"{name} us per task": house.spent[name] / count / 1000 for name in ("judge", "worker", "writer")}
    counts = {f"{name}, times": times for name, times in sorted(house.counted.items())}
    return {**figures, "sum us per task": sum(figures.values()), "tasks": count, **counts}, house.frozen()


def alone(argv: list[str]) -> tuple[dict[str, float], str]:
    """One round in a process of its own: what a round before it looked at must not be at hand."""
    done = subprocess.run([sys.executable, __file__, "--rounds", "1", "--json", *argv], check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    return figures, figures.pop("frozen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="the least of so many counts")
    parser.add_argument("--own", action="store_true", help="a persona of its own for each agent, instead of six for all")
    parser.add_argument("--distinct", action="store_true", help="under a policy by which accounts may not say the same")
    parser.add_argument("--profile", type=Path, help="write a cProfile of worker, judge and writer here, and print it")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    profiler = cProfile.Profile(time.thread_time) if given.profile else None
    if given.rounds == 1 or profiler is not None:
        rounds = [measure(given.agents, given.distinct, given.own, profiler)]
    else:
        also = [f"--{name}" for name in ("own", "distinct") if getattr(given, name)]
        again = ["--agents", str(given.agents), *also]
        rounds = [alone(again) for _ in range(given.rounds)]
    assert len({frozen for _, frozen in rounds}) == 1, "two rounds gave different texts, votes or requests"
    figures = {name: min(figures[name] for figures, _ in rounds) for name in rounds[0][0]}
    if given.json:
        print(json.dumps(figures | {"frozen": rounds[0][1]}))
    else:
        for name, figure in figures.items():
            print(f"{name:20} {figure:10,.1f}")
        print(f"{'frozen':20} {rounds[0][1]}")
    if profiler is not None:
        profiler.dump_stats(given.profile)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(60)


if __name__ == "__main__":
    main()
