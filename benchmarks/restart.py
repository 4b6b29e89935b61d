"""How long brain and command service take to start, with and without snapshots, on a short and on a long log, and their memory.

    python benchmarks/restart.py [--agents 10000] [--signals 4] [--json FILE]

Each agent has five records (enrolled, soul, policy, account, allowance) and then so many observed signals; the log is
lengthened once by three times as many signals, so that a start that depends on its length shows. Limit beside it: reading
the same records from the broker without decoding them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from chimera.commands.client import answers
from chimera.commands.keys import LOG, load_keys, log_topics
from chimera.eventlog.append import Appender, Entry
from chimera.eventlog.read import read_until
from chimera.events import records as rec
from chimera.events.envelope import NewRecord, SigningKey, encode
from chimera.events.sealed import Sealed
from chimera.projections.schema import migrate
from chimera.settings import Settings
from chimera.stack.children import LEAN
from chimera.stack.local import LocalStack

INLINE = rec.PolicyInline(approvers={"publish": ["kim", "lee"]}, sensitive_tags=["health", "politics"], expiry_ms=86_400_000)
SEALED = Sealed(subject="s", nonce="bm9uY2U=", ciphertext="Y2lwaGVydGV4dA==" * 4, key_commitment="00" * 32)
AT_ONCE = 20_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--agents", type=int, default=10_000)
    arguments.add_argument("--signals", type=int, default=4, help="Signals per agent on the short log.")
    arguments.add_argument("--json", type=Path, help="Also write the figures to this file.")
    given = arguments.parse_args()
    home = Path(tempfile.mkdtemp(prefix="chimera-restart-"))
    home.chmod(0o755)  # the database runs as another user
    try:
        with LocalStack(Settings(home=home, kafka=None, postgres=None), durable=False, sandbox=()) as stack:
            places = stack.start()
            stack.run_step("topics", "apply")
            stack.run_step("keys", "init")
            migrate(places.postgres)
            figures = measure(home, places.kafka, places.postgres, given.agents, given.signals)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(home: Path, kafka: str, postgres: str, agents: int, signals: int) -> dict[str, float]:
    keys = [f"agent/{uuid.uuid5(uuid.NAMESPACE_DNS, str(n))}" for n in range(agents)]
    figures: dict[str, float] = {}
    signer = load_keys(home).command
    with Appender(kafka, log_topics(), "bench-restart") as appender:
        began = time.perf_counter()
        records = fill(appender, enrolments(keys, signer)) + fill(appender, observed(keys, 1, signals))
        print(f"{agents} agents, {records} records made and appended in {time.perf_counter() - began:.1f} s")
        figures["records_short"] = records
        figures["limit_read_short_s"] = limit(kafka)
        with brain(home, kafka, "postgresql://127.0.0.1:1/none") as each:
            tell(figures, "start without snapshot, short log", "cold_short", *each.serving())
        with brain(home, kafka, postgres) as each:
            each.serving()
            saved_s = each.until_saved(records)
            tell(figures, "  its first snapshot is complete after", "first_snapshot", saved_s, each.cpu_s(), each.rss_mb())
        with command(home, kafka, postgres) as each:
            tell(figures, "command service with snapshot, short log", "command_warm_short", *each.answering())
        with brain(home, kafka, postgres) as each:
            tell(figures, "start with snapshot, short log", "warm_short", *each.serving())
            records += fill(appender, observed(keys, signals + 1, 4 * signals))
            each.until_saved(records)
        figures["records_long"] = records
        figures["limit_read_long_s"] = limit(kafka)
        with brain(home, kafka, "postgresql://127.0.0.1:1/none") as each:
            tell(figures, "start without snapshot, long log", "cold_long", *each.serving())
        with command(home, kafka, "postgresql://127.0.0.1:1/none") as each:
            tell(figures, "command service without snapshot, long log", "command_cold_long", *each.answering())
        with command(home, kafka, postgres) as each:
            tell(figures, "command service with snapshot, long log", "command_warm_long", *each.answering())
        with brain(home, kafka, postgres) as each:
            tell(figures, "start with snapshot, long log", "warm_long", *each.serving())
            time.sleep(6)  # a round of snapshots and some reports later: what an idle process holds
            figures["idle_rss_mb"] = each.rss_mb()
            print(
                f"{'idle, ' + str(agents) + ' agents in memory':<46} {'':>8}   {figures['idle_rss_mb']:>6.0f} MB RSS (target 200)"
            )
    return figures


def enrolments(keys: list[str], command: SigningKey) -> Iterator[Entry]:
    """Five signed commands per agent."""
    for n, key in enumerate(keys):
        yield entry(key, rec.AgentEnrolled(command_no=1, name=f"agent{n}", groups=["g"]), command)
        yield entry(key, rec.SoulAdopted(command_no=2, digest="d" * 64, soul="# a soul\n" * 20), command)
        policy = rec.PolicyAdopted(command_no=3, edition=1, digest="p" * 64, editor="mo", inline=INLINE, rules="rules\n" * 50)
        yield entry(key, policy, command)
        yield entry(key, rec.AccountLinked(command_no=4, platform="x", account=f"agent{n}_x"), command)
        yield entry(key, rec.AllowanceSet(command_no=5, limit_usd="100", window_ms=3_600_000), command)


def observed(keys: list[str], first: int, last: int) -> Iterator[Entry]:
    """Signals number `first` to `last` of one source, for every agent."""
    for number in range(first, last + 1):
        for key in keys:
            said = rec.Signal(thread=f"t{number}", external_id=str(number), author=SEALED, text=SEALED, observed_at=number)
            yield entry(key, rec.SignalObserved(source="x", number=number, cursor=str(number), items=[said]), None)


def entry(key: str, data: rec.Data, signer: SigningKey | None) -> Entry:
    wire = encode(NewRecord(key, data, "acme", "bench", "2026-11-22T00:00:00Z", str(uuid.uuid4())), signer)
    return Entry(LOG, wire.key, wire.value, wire.headers)


def fill(appender: Appender, entries: Iterator[Entry]) -> int:
    """Append in bulk; how many."""
    count, batch = 0, []
    for each in entries:
        batch.append(each)
        if len(batch) == AT_ONCE:
            appender.append_many(batch)
            count, batch = count + len(batch), []
    if batch:
        appender.append_many(batch)
    return count + len(batch)


def limit(kafka: str) -> float:
    """Seconds to read the whole log and look at nothing."""
    began = time.perf_counter()
    records = sum(len(batch) for batch in read_until(kafka, LOG, range(24)))
    seconds = time.perf_counter() - began
    print(f"{'limit: read ' + str(records) + ' records':<46} {seconds:>8.2f} s")
    return seconds


def tell(figures: dict[str, float], what: str, name: str, seconds: float, cpu_s: float, rss: float) -> None:
    figures[f"{name}_s"], figures[f"{name}_cpu_s"], figures[f"{name}_rss_mb"] = round(seconds, 2), round(cpu_s, 2), rss
    print(f"{what:<46} {seconds:>8.2f} s {cpu_s:>8.2f} s CPU {rss:>6.0f} MB RSS")


class Process:
    """A running brain or command service, seen through its status file or its door."""

    def __init__(self, role: str, home: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log, self.began = process, log, time.perf_counter()
        self._role, self._home = role, home
        self._status = home / "run" / f"{role}.{process.pid}.json"

    def answering(self) -> tuple[float, float, float]:
        """Seconds from the start of the process until it answers commands, and its CPU seconds and memory (MB) then."""
        self._wait(lambda: answers(self._home))
        return time.perf_counter() - self.began, self.cpu_s(), self.rss_mb()

    def serving(self) -> tuple[float, float, float]:
        """Seconds from the start of the process until it serves all partitions, and its CPU seconds and memory (MB) then."""
        self._until(lambda status: len(status["partitions"]) == 24)
        print(
            "  " + next(line for line in reversed(self.log.read_text().splitlines()) if "caught up" in line).split('"message":')[-1]
        )
        return time.perf_counter() - self.began, self.cpu_s(), self.rss_mb()

    def until_saved(self, records: int) -> float:
        """Seconds until so many records (and the law of each partition) are folded and in snapshots."""
        began = time.perf_counter()
        self._until(lambda status: sum(status["offsets"].values()) >= records + 24 and status["snapshots"]["behind"] == 0)
        return time.perf_counter() - began

    def cpu_s(self) -> float:
        """CPU seconds so far: what counts where others work on the same cores."""
        user, system = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)

    def _until(self, condition: Any) -> None:
        self._wait(lambda: self._status.exists() and condition(json.loads(self._status.read_text())))

    def _wait(self, condition: Callable[[], bool], deadline_s: float = 300) -> None:
        deadline = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"the {self._role} did not get there; the end of its log:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)


def brain(home: Path, kafka: str, postgres: str) -> AbstractContextManager[Process]:
    return running("brain", home, kafka, postgres, "--instance", "bench")


def command(home: Path, kafka: str, postgres: str) -> AbstractContextManager[Process]:
    return running("command", home, kafka, postgres)


@contextmanager
def running(role: str, home: Path, kafka: str, postgres: str, *words: str) -> Iterator[Process]:
    env = {**os.environ, **LEAN, "CHIMERA_HOME": str(home), "CHIMERA_KAFKA": kafka, "CHIMERA_POSTGRES": postgres}
    log = home / f"{role}.log"
    argv = [sys.executable, "-m", "chimera.cli.main", "run", role, *words]
    with log.open("wb") as out:
        process = subprocess.Popen(argv, env=env, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield Process(role, home, process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


if __name__ == "__main__":
    main()
