"""How soon a command counts, and how soon it is in the read models, at a steady rate of commands.

    python benchmarks/latency.py [--rate N] [--seconds N] [--hands N] [--json]

Limit beside it: produce one record and consume it again, one at a time, in the same run. One command service (embedded), one
projector process. Latency is from the moment at which the command was due, so a queue counts as waiting.

Commands come from several hands, as they do from pages and command lines: the service works on those together that arrive
while others are under way. One hand alone (`--hands 1`) gives its next command only after the answer to the last one: at 200/s
and 4 ms each it is busy four fifths of the time, so a single stall of the machine makes hundreds of its commands late, and what
is then measured is the hand's own queue. "answered" is without that queue: from the moment at which the command was given.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.swarm import ROOT, fleet_file, give
from chimera.commands import agents as agent_commands
from chimera.commands.fleet import load_fleet
from chimera.commands.keys import LOG, agent_key, log_topics
from chimera.commands.service import CommandService
from chimera.commands.wiring import open_service
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.read import Reader, end_offsets
from chimera.settings import Settings
from chimera.stack.local import LocalStack

AGENTS = 200
FIRST_S = 1.0
"""So long is told apart at the beginning."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of all values lies, in ms."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1000


def round_trips(kafka: str, count: int = 200) -> list[float]:
    """Seconds from produce to consume, one record at a time: what no command can beat."""
    topics = log_topics(f"bench{uuid.uuid4().hex[:8]}.{LOG}")
    apply(kafka, topics)
    name, key, took = topics.names[0], "law/0", []
    with Appender(kafka, topics, "bench") as appender, Reader(kafka, name, {0: end_offsets(kafka, name)[0]}) as reader:
        for n in range(count + 20):
            began = time.perf_counter()
            appender.append_blocking(name, key, b"x" * 450, [], partition=0)
            while not reader.read(1, 1.0):
                pass
            if n >= 20:  # the first ones open connections
                took.append(time.perf_counter() - began)
    return took


class Eyes(threading.Thread):
    """Looks at the read models' checkpoints all the time and says when each command became visible."""

    def __init__(self, dsn: str) -> None:
        super().__init__(name="eyes", daemon=True)
        self.waits: list[tuple[float, float]] = []
        """(since, seconds) of each."""
        self.done = threading.Event()
        self._open: list[tuple[int, int, float]] = []
        self._lock = threading.Lock()
        self._connection = psycopg.connect(dsn, autocommit=True)

    def watch(self, partition: int, offset: int, since: float) -> None:
        with self._lock:
            self._open.append((partition, offset, since))

    def run(self) -> None:
        while True:
            last = self.done.is_set()
            rows = self._connection.execute(
                "SELECT partition, next_offset FROM core.checkpoints WHERE topic = %s", (LOG,)
            ).fetchall()
            now, at = time.perf_counter(), {int(p): int(n) for p, n in rows}
            with self._lock:
                seen = [(p, o, since) for p, o, since in self._open if at.get(p, 0) > o]
                self._open = [waiting for waiting in self._open if waiting not in seen]
                left = len(self._open)
            self.waits += [(since, now - since) for _, _, since in seen]
            if last and not left:
                return
            time.sleep(0.002)


def measure(rate: int, seconds: float, hands: int) -> dict[str, float]:
    """All figures of one run, on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as place:
        home = Path(place)
        home.chmod(0o755)  # the database runs as another user where we are root
        with LocalStack(Settings(home=home, kafka=None, postgres=None), durable=False, sandbox=()) as stack:
            addresses = stack.start()
            stack.run_step("topics", "apply")
            stack.run_step("keys", "init")
            settings = Settings(home=home, kafka=addresses.kafka, postgres=addresses.postgres)
            with open_service(settings) as service, projector(home, addresses.kafka, addresses.postgres):
                limit = round_trips(addresses.kafka)
                first, (applied, answered, visible) = commands(service, settings, rate, seconds, hands)
    return {
        "limit: produce to consume p50 ms": percentile(limit, 0.5),
        "limit: produce to consume p99 ms": percentile(limit, 0.99),
        "commands": len(applied),
        "commands/s": len(applied) / seconds,
        "hands": hands,
        "answered p50 ms": percentile(answered, 0.5),
        "answered p99 ms": percentile(answered, 0.99),
        "applied p50 ms": percentile(applied, 0.5),
        "applied p99 ms": percentile(applied, 0.99),
        "visible p50 ms": percentile(visible, 0.5),
        "visible p99 ms": percentile(visible, 0.99),
        "first second: applied p99 ms": percentile(first.applied, 0.99),
        "first second: visible p99 ms": percentile(first.visible, 0.99),
    }


class Waits(NamedTuple):
    """Seconds from due to applied, from given to applied, and from due to visible."""

    applied: list[float]
    answered: list[float]
    visible: list[float]


def commands(service: CommandService, settings: Settings, rate: int, seconds: float, hands: int) -> tuple[Waits, Waits]:
    """Pause and resume agents at the rate, by so many hands; the waits of the first second, and those of so many after it."""
    wanted = load_fleet(fleet_file(settings.home, AGENTS))
    keys = [agent_key(service.keys.installation.installation, "bench", each.name) for each in wanted.agents]
    give(service, keys, [agent_commands.enrol(each, "bench") for each in wanted.agents])
    await_tables(str(settings.postgres))
    eyes = Eyes(str(settings.postgres))
    eyes.start()
    first, steady = Waits([], [], []), Waits([], [], [])
    count, began, numbers = int(rate * (FIRST_S + seconds)), time.perf_counter(), itertools.count()

    def hand() -> None:
        while (n := next(numbers)) < count:
            due = began + n / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            held = (n // len(keys)) % 2 == 0
            decide = agent_commands.pause("bench") if held else agent_commands.resume("bench")
            given = time.perf_counter()
            answer = service.submit(decide, key=keys[n % len(keys)], tenant="bench", actor="bench")
            assert answer.outcome == "applied", answer
            now = time.perf_counter()
            waits = steady if due >= began + FIRST_S else first
            waits.applied.append(now - due)
            waits.answered.append(now - given)
            assert answer.position is not None
            eyes.watch(*answer.position, due)

    with ThreadPoolExecutor(hands, thread_name_prefix="hand") as pool:
        for done in [pool.submit(hand) for _ in range(hands)]:
            done.result()
    eyes.done.set()
    eyes.join(60)
    assert len(eyes.waits) == count, f"{count - len(eyes.waits)} commands never became visible"
    for since, wait in eyes.waits:
        (steady if since >= began + FIRST_S else first).visible.append(wait)
    return first, steady


def await_tables(dsn: str, patience_s: float = 60.0) -> None:
    """Until the projector has made its tables and has caught up with the enrolment."""
    deadline = time.monotonic() + patience_s
    with psycopg.connect(dsn, autocommit=True) as connection:
        while time.monotonic() < deadline:
            made = connection.execute("SELECT to_regclass('core.agents') IS NOT NULL").fetchone()
            if made == (True,) and connection.execute("SELECT count(*) FROM core.agents").fetchone() == (AGENTS,):
                return
            time.sleep(0.1)
    raise AssertionError(f"the projector did not project {AGENTS} agents within {patience_s} s")


@contextmanager
def projector(home: Path, kafka: str, postgres: str) -> Iterator[None]:
    """A projector process."""
    env = os.environ | {"CHIMERA_HOME": str(home), "CHIMERA_KAFKA": kafka, "CHIMERA_POSTGRES": postgres}
    argv = [sys.executable, "-m", "chimera.cli.main", "run", "projector"]
    with (home / "projector.log").open("wb") as log:
        process = subprocess.Popen(argv, env=env, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=200, help="commands per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--hands", type=int, default=8, help="callers side by side")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    figures = measure(given.rate, given.seconds, given.hands)
    if given.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:40} {figure:12,.1f}")


if __name__ == "__main__":
    main()
