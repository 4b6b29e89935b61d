"""The swarm loop: agents with a campaign each, all roles in one process on a real broker, rows projected by a second one.

    python benchmarks/swarm.py [--agents N] [--formats N] [--brains N] [--writer-apart] [--floor] [--notary]
        [--profile FILE] [--json]

Counted from the first campaign's command until every task is done, closed or before people *and* projected. The MCP servers run
inside the swarm's process, so composing texts is part of the figure; `--writer-apart` puts the text writer into a process of its
own, over HTTP as in production. `--notary` lets the notary sign beside it. `--brains` shares the partitions among so many
processes. Beside it: what the broker allows at most, awaited appends by as many hands as the swarm has slots, divided by the
records that a task took. On a busy machine the rates say little; the CPU milliseconds per task of each process say more.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.cpu import of_postgres
from benchmarks.floor import floor
from chimera.commands import agents as agent_commands
from chimera.commands import campaigns
from chimera.commands.decision import Decision, Order
from chimera.commands.feeds import keep_feeds
from chimera.commands.fleet import load_fleet
from chimera.commands.keys import LOG, agent_key, log_topics
from chimera.commands.service import CommandService
from chimera.commands.views import Story
from chimera.commands.wiring import open_service
from chimera.eventlog.cluster import apply
from chimera.policy.brief import load_brief
from chimera.projections import read
from chimera.settings import Settings
from chimera.stack.addresses import running_stack
from chimera.stack.local import LocalStack

ROOT = Path(__file__).resolve().parents[1]
SOULS = ("ava", "bruno", "cleo", "dov", "edda", "femi")
WRITER = "CHIMERA_BENCH_WRITER"
"""Address of the writer that runs apart, for the swarm's processes."""
LOOK_S = 0.1
"""How often it is looked whether all is settled."""
PEER_TASKS_S = 79.0
"""The best durable-workflow library on the machine that the design was measured on (design, section 16)."""


class Given(NamedTuple):
    """What is measured."""

    agents: int = 60
    formats: int = 3
    brains: int = 1
    writer_apart: bool = False
    profile: Path | None = None
    floor: bool = False
    notary: bool = False


def serve(profile: Path | None) -> None:
    """The swarm's process: every role, and the MCP servers as objects of this process."""
    from chimera.mcp.sandbox.feeds import FeedReader
    from chimera.mcp.sandbox.timeline import Timeline
    from chimera.mcp.sandbox.writer.server import answer_offline, writer_server
    from chimera.mcp.sandbox.x import XSandbox
    from chimera.processors import judge, planner, runtime
    from chimera.processors.executor import Executor
    from chimera.processors.jobs import Role

    settings = Settings()
    settings = settings.model_copy(update={"profiles": settings.home / "profiles"})

    class Everything(runtime.Process):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            self.gate.addresses = {
                "x_url": XSandbox(Timeline(settings.home / "mcp" / "x")).server(),
                "feeds_url": FeedReader([settings.home / "mcp" / "feeds"]).server(),
                "writer_url": os.environ.get(WRITER) or writer_server(answer_offline, "offline"),
            }

        def _executor(self) -> Executor:
            return Executor(self.tools, lease_s=settings.claim_lease_s, call_timeout_s=settings.call_timeout_s)

        def _roles(self) -> list[Role]:
            # Calls first: in a gate of its own none waits behind what the brain has to do, and a claim is mostly waiting itself.
            return [self._executor().role(), planner.role(), self.worker.role(), judge.role(self._price)]

    vars(runtime)["Process"] = Everything
    if profile is None:
        runtime.run("brain", settings)
        return
    profiler = cProfile.Profile(time.thread_time)  # what the loop spends, not what it waits
    try:
        profiler.runcall(runtime.run, "brain", settings)
    finally:
        profiler.dump_stats(profile)


def _without_rates(home: Path) -> None:
    """`home/profiles`, read by every process of the swarm: rate limits that do not limit, since what a platform allows per minute
    is not what is measured here."""
    made = home / "profiles"
    made.mkdir(exist_ok=True)
    for path in (ROOT / "chimera" / "mcp" / "profiles").iterdir():
        text = path.read_text()
        if path.suffix == ".yaml":
            body = yaml.safe_load(text)
            for rate in body.get("rates", {}).values():
                rate["calls"] = 10_000_000
            text = yaml.safe_dump(body, sort_keys=False)
        (made / path.name).write_text(text)


def fleet_file(home: Path, count: int) -> Path:
    """A fleet of so many agents with the example's personas, under a policy that counts no claims per hour and lets them say the
    same: a few short feeds hold too little for all."""
    front, prose = (ROOT / "examples" / "AGENTS.md").read_text().split("---\n")[1:3]
    rules = yaml.safe_load(front) | {"frequency": {}, "distinct_across_tenant": False}
    (home / "AGENTS.md").write_text(f"---\n{yaml.safe_dump(rules)}---\n{prose}")
    rows = [
        {"name": f"a{n}", "soul": str(ROOT / "examples" / "souls" / f"{SOULS[n % len(SOULS)]}.md"), "accounts": {"x": f"a{n}_x"}}
        for n in range(count)
    ]
    path = home / "fleet.yaml"
    path.write_text(yaml.safe_dump({"tenant": "bench", "policy": "AGENTS.md", "agents": rows}))
    return path


def give(service: CommandService, keys: list[str], decisions: list[Decision]) -> None:
    """One command to each stream; all must be applied."""
    orders = [Order(key, "bench", "bench", decide, str(uuid.uuid4())) for key, decide in zip(keys, decisions, strict=True)]
    answers = service.submit_many(orders)
    wrong = [answer for answer in answers if answer.outcome != "applied"]
    assert not wrong, wrong[:3]


def all_settled(service: CommandService) -> bool:
    """Is every campaign planned, and does every open task wait for people? The first that is not ends the look."""
    return all(
        campaign.planned_edition == campaign.brief_edition
        and all(task.effect is not None and task.effect.status == "people" for task in campaign.tasks.values())
        for agent in service.agents.values()
        for campaign in agent.campaigns.values()
    )


@contextmanager
def processes(home: Path, env: dict[str, str], given: Given) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The swarm's processes, the projector, and the writer where it runs apart."""
    swarm = [sys.executable, str(Path(__file__).resolve()), "--serve"]
    started: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str, argv: list[str]) -> None:
        with (home / f"{name}.log").open("wb") as log:
            started[name] = subprocess.Popen(argv, env=os.environ | env, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)

    try:
        if given.writer_apart:
            start("writer", [sys.executable, "-m", "chimera.mcp.sandbox.writer", "--port", "0"])
            env = env | {WRITER: address_of(started["writer"], home / "writer.log")}
        for n in range(given.brains):
            profile = ["--profile", str(given.profile)] if given.profile is not None and n == 0 else []
            start(f"swarm{n or ''}", [*swarm, *profile])
        start("projector", [sys.executable, "-m", "chimera.cli.main", "run", "projector"])
        if given.notary:
            start("notary", [sys.executable, "-m", "chimera.cli.main", "run", "notary"])
        yield started
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def address_of(server: subprocess.Popen[bytes], log: Path) -> str:
    """What a server that was told to take a free port prints first."""
    deadline = time.monotonic() + 30
    while not (said := log.read_text()).startswith("http"):
        awaited(server, log)
        assert time.monotonic() < deadline, "the writer did not say its address within 30 s"
        time.sleep(0.1)
    return said.split()[0]


def awaited(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.poll() is None, f"a process ended: {log.read_text()[-2000:]}"


def measure(given: Given) -> dict[str, float]:
    """All figures of one run, on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as place:
        home = Path(place)
        home.chmod(0o755)  # the database runs as another user where we are root
        base = Settings(home=home, kafka=None, postgres=None)
        with LocalStack(base, durable=False, sandbox=()) as stack:
            addresses = stack.start()
            stack.run_step("topics", "apply")
            stack.run_step("keys", "init")
            env = {"CHIMERA_HOME": str(home), "CHIMERA_KAFKA": addresses.kafka, "CHIMERA_POSTGRES": addresses.postgres}
            settings = Settings(home=home, kafka=addresses.kafka, postgres=addresses.postgres)
            _without_rates(home)
            story = Story()
            with open_service(settings, observe=story) as service, processes(home, env, given) as running:
                figures = run(service, story, settings, running, given)
                root = service.keys.installation.root_public
            figures |= limit(addresses.kafka, figures["records per task"])
            if given.floor:
                figures |= floor(addresses.kafka, root, int(figures["tasks"]), lambda: broker_s(home))
            if given.profile is not None:
                pstats.Stats(str(given.profile)).sort_stats("tottime").print_stats(45)
            return figures


def run(
    service: CommandService,
    story: Story,
    settings: Settings,
    running: dict[str, subprocess.Popen[bytes]],
    given: Given,
) -> dict[str, float]:
    """Enrol, start, wait until all is settled and projected."""
    home, kafka, dsn = settings.home, str(settings.kafka), str(settings.postgres)
    wanted = load_fleet(fleet_file(home, given.agents))
    keys = [agent_key(service.keys.installation.installation, "bench", each.name) for each in wanted.agents]
    give(service, keys, [agent_commands.enrol(each, "bench") for each in wanted.agents])
    until(lambda: (home / "run").is_dir() and serving(home, given.brains), running, home, service, 60)
    brief = keep_feeds(load_brief(ROOT / "examples" / "briefs" / "autumn.yaml"), home)
    forms = [{"platform": "x", "format": f"form{n}", "max_chars": 280} for n in range(given.formats)]
    body = brief.model_dump(mode="json") | {"formats": forms}
    database = of_postgres(dsn)
    records, began, cpu = story.records, time.monotonic(), cpu_of(home, running)
    give(service, keys, [campaigns.start("bench", body) for _ in keys])
    until(lambda: len(story.campaigns) == given.agents and all_settled(service), running, home, service, 1200)
    settled = time.monotonic() - began
    until(lambda: sum(read.lag(dsn, kafka, LOG).values()) == 0, running, home, service, 120)
    projected = time.monotonic() - began
    spent = {name: now - cpu.get(name, 0.0) for name, now in cpu_of(home, running).items()}
    used = of_postgres(dsn)
    tasks = Counter(status for row in story.campaigns.values() for status in row.tasks.values())
    count = sum(tasks.values())
    brains = told(home)
    return {
        "agents": given.agents,
        "tasks": count,
        "tasks/s projected": count / projected,
        "tasks/s settled": count / settled,
        "records": story.records - records,
        "records per task": (story.records - records) / count,
        "posts": story.executed,
        "swarm CPU share": spent["swarm"] / projected,
        **{f"{name} CPU ms per task": 1000 * seconds / count for name, seconds in spent.items()},
        **({} if database is None or used is None else {"PostgreSQL CPU ms per task": 1000 * (used - database) / count}),
        **({"notary % of all CPU (asked: 5 at most)": 100 * spent["notary"] / sum(spent.values())} if given.notary else {}),
        "void": story.rulings["void"],
        "rejected": story.rulings["rejected"],
        "job errors": sum(status["job_errors"] for status in brains),
        "swarm RSS MB": max(status.get("rss_mb", 0.0) for status in brains),
    }


def until(
    condition: Any, running: dict[str, subprocess.Popen[bytes]], home: Path, service: CommandService, deadline_s: float
) -> None:
    """Follow the log until the condition holds. It walks all agents, so it is looked at seldom: that is no work of the service."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        for name, process in running.items():
            awaited(process, home / f"{name}.log")
        assert time.monotonic() < deadline, f"not settled within {deadline_s} s: {(home / 'swarm.log').read_text()[-3000:]}"
        look_again = time.monotonic() + LOOK_S
        while time.monotonic() < look_again:
            service.follow(LOOK_S)


def told(home: Path) -> list[dict[str, Any]]:
    """What the swarm's processes tell of themselves."""
    return [json.loads(path.read_text()) for path in (home / "run").glob("brain.*.json")]


def serving(home: Path, brains: int) -> bool:
    """Does each of the swarm's processes serve partitions, and all of them together the whole log? The first one to come serves
    it alone until the others have joined: who begins then measures a rebalance."""
    served = [len(status["partitions"]) for status in told(home)]
    return len(served) == brains and min(served) > 0 and sum(served) == 24


def cpu_of(home: Path, running: dict[str, subprocess.Popen[bytes]]) -> dict[str, float]:
    """CPU seconds by now of the swarm (all its processes), the other processes, the broker, and this one (the command service)."""
    used = {"swarm": sum(cpu_s(process.pid) for name, process in running.items() if name.startswith("swarm"))}
    used |= {name: cpu_s(process.pid) for name, process in running.items() if not name.startswith("swarm")}
    return used | {"broker": broker_s(home), "command service": time.process_time()}


def broker_s(home: Path) -> float:
    """CPU seconds by now of the broker."""
    broker = [child["pid"] for child in running_stack(home).get("children", []) if child["name"] == "kafka" and child["pid"]]
    return sum(cpu_s(pid) for pid in broker)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def limit(kafka: str, records_per_task: float) -> dict[str, float]:
    """What the broker allows at most: awaited appends by 64 hands, nothing else done."""
    from benchmarks.append import awaited_appends, made_records

    topics = log_topics(f"bench{uuid.uuid4().hex[:8]}.{LOG}")
    apply(kafka, topics)
    rate, _, _ = awaited_appends(kafka, topics, made_records(topics.names[0], 4000), 64)
    return {"limit: awaited appends x64 records/s": rate, "limit: tasks/s by appends alone": rate / records_per_task}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=60)
    parser.add_argument("--formats", type=int, default=3, help="posts per agent")
    parser.add_argument("--brains", type=int, default=1, help="processes of the swarm")
    parser.add_argument("--writer-apart", action="store_true", help="the text writer in a process of its own, over HTTP")
    parser.add_argument("--profile", type=Path, help="write the swarm's cProfile here and print it (slows it down by half)")
    parser.add_argument("--floor", action="store_true", help="then append, read and fold the same records, and do nothing else")
    parser.add_argument("--notary", action="store_true", help="let the notary sign beside it, and tell its share of all CPU time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.profile)
        return
    figures = measure(
        Given(given.agents, given.formats, given.brains, given.writer_apart, given.profile, given.floor, given.notary)
    )
    if given.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:40} {figure:12,.1f}")


if __name__ == "__main__":
    main()
