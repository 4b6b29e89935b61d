"""What an export of a real log costs: records a second and CPU by one process and by more, and memory as the log grows.

    python benchmarks/export.py [--agents N] [--posts N] [--jobs N ...] [--rounds N] [--kafka ADDR] [--json]

The log is read from a broker (a local one where no address is given) and is so long that starting processes does not decide.
Beside it stand the limits of the same run: consuming it, and consuming and folding it, by one process.

The rule not to break: whatever is measured runs in a process of its own whose parent holds no records, since Linux counts the
memory of whoever starts a process among that process's own.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import cpu
from chimera.audit.export import export
from chimera.audit.notary import sign_now
from chimera.audit.source import TOPICS, KafkaSource
from chimera.audit.verify import verify
from chimera.audit.workers import RARELY
from chimera.eventlog.cluster import apply
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.topics import load_topics
from chimera.projections.folding import new_fold
from tests.audithouse import home_for
from tests.integration.projection_data import PARTITIONS, History, day, key_of

LOG = TOPICS[0].name
CROWDED = 2
"""Partitions that hold all agents where memory is measured."""
P = ParamSpec("P")
T = TypeVar("T")


class Log(NamedTuple):
    """A fleet's days on a broker, signed by a notary."""

    source: KafkaSource
    home: Path
    root_public: str
    records: int
    signed: int
    value_bytes: int


class Run(NamedTuple):
    """What one export took. Seconds of CPU: of the calling process, of those that it began, of the broker (None: elsewhere)."""

    wall_s: float
    own_s: float
    others_s: float
    broker_s: float | None
    mib: float
    """The most memory that any of its processes held."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--posts", type=int, default=40)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2, help="of each, in turns; the least CPU and the best rate count")
    parser.add_argument("--kafka")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with broker(given.kafka) as bootstrap, tempfile.TemporaryDirectory(prefix="chimera-bench-") as place:
        prefix = f"bench-{uuid.uuid4().hex[:8]}-" if given.kafka else ""
        found = measure(bootstrap, Path(place), given.agents, given.posts, given.jobs, given.rounds, prefix)
    for name, figure in found.items():
        print(f"{name:<56} {figure:>12,.1f}", file=sys.stderr if given.json else sys.stdout)
    if given.json:
        print(json.dumps(found))


def measure(
    bootstrap: str, place: Path, agents: int, posts: int, jobs: list[int], rounds: int, prefix: str = ""
) -> dict[str, float]:
    """Every figure by name."""
    long = alone(write_log, bootstrap, place / "long", prefix, agents, posts)
    found = {"records": float(long.records), "signed, percent": 100 * long.signed / long.records}
    found["bytes of a value"] = long.value_bytes / long.records
    for name, folds in (("limit: consume", False), ("limit: consume and fold", True)):
        wall, used = alone(read, long, folds)
        found |= {f"{name}, CPU us per record": 1e6 * used / long.records, f"{name}, records/s": long.records / wall}
    runs: dict[int, list[Run]] = {many: [] for many in jobs}
    for n in range(rounds):
        for many in jobs:
            runs[many].append(alone(exported, long, place / f"out-{many}-{n}", many))
    for many, took in runs.items():
        name = f"export by {many}"
        found[f"{name}, records/s"] = long.records / min(run.wall_s for run in took)
        for who, each in (
            ("its processes", [run.own_s + run.others_s for run in took]),
            ("the broker", [r.broker_s for r in took]),
        ):
            known = [seconds for seconds in each if seconds is not None]
            if known:
                found[f"{name}, CPU us of {who} per record"] = 1e6 * min(known) / long.records
        found[f"{name}, largest process MiB"] = max(run.mib for run in took)
    wall, used = alone(verified, place / f"out-{jobs[0]}-0", 1)
    found |= {"audit verify by 1, records/s": long.records / wall, "audit verify, CPU us per record": 1e6 * used / long.records}
    return found | of_memory(bootstrap, place, prefix)


def of_memory(bootstrap: str, place: Path, prefix: str) -> dict[str, float]:
    """The same agents' log, once and with late copies of all of it, in partitions so long that every buffer is filled by each.

    Late copies change no agent, so what grows would be what the log's length costs.
    """
    logs = [alone(write_log, bootstrap, place / f"times-{n}", f"{prefix}{n}-", 60, 40, n, CROWDED) for n in (1, 4)]
    once, more = (alone(exported, log, place / f"of-{n}", 1) for n, log in enumerate(logs))
    return {
        "memory: records in 2 partitions": float(logs[0].records),
        "memory: MiB": once.mib,
        f"memory: MiB of {logs[1].records / logs[0].records:.1f} times the records": more.mib,
    }


def write_log(bootstrap: str, place: Path, prefix: str, agents: int, posts: int, times: int = 1, crowded: int = PARTITIONS) -> Log:
    """Make a log of its own in the first partitions and sign it. `times`: how often each record is there."""
    gc.disable()  # a million objects that all stay
    for topic in TOPICS:
        apply(bootstrap, load_topics().only(topic.name).with_prefix(prefix))
    made, names = History(prefix + LOG), (f"agent-{n}" for n in count())
    while agents:
        if partition_for(key_of(made, name := next(names)), PARTITIONS) < crowded:
            day(made, name, posts)
            agents -= 1
    for n in range((times - 1) * len(made.entries)):
        made.again(n)
    made.send(bootstrap)
    home = home_for(place, made)
    sign_now(bootstrap, home, prefix=prefix)
    signed = sum(1 for each in made.entries if any(name == "ce_signature" for name, _ in each.headers))
    size = sum(len(each.value) for each in made.entries)
    return Log(KafkaSource(bootstrap, prefix), home, made.root.public, len(made.entries), signed, size)


def read(log: Log, folds: bool) -> tuple[float, float]:
    """Seconds of wall clock and of CPU that consuming takes, and folding where it is asked for."""
    gc.set_threshold(*RARELY)
    began, used = time.perf_counter(), time.process_time()
    for partition, end in log.source.ends(LOG).items():
        fold = new_fold(partition, PARTITIONS, log.root_public)
        for raws in log.source.read(LOG, partition, end):
            if folds:
                for raw in raws:
                    fold.apply(raw)
    return time.perf_counter() - began, time.process_time() - used


def exported(log: Log, out: Path, jobs: int) -> Run:
    """Export it all, in both formats."""
    served, began, used = cpu.of_listener(log.source.bootstrap), time.perf_counter(), time.process_time()
    made = export(log.source, log.home, out, jobs=jobs)
    wall, own = time.perf_counter() - began, time.process_time() - used
    assert made.totals.count >= log.records
    others, after = resource.getrusage(resource.RUSAGE_CHILDREN), cpu.of_listener(log.source.bootstrap)
    mib = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, others.ru_maxrss) / 1024
    of_broker = None if served is None or after is None else after - served
    return Run(wall, own, others.ru_utime + others.ru_stime, of_broker, mib)


def verified(out: Path, jobs: int) -> tuple[float, float]:
    """Seconds of wall clock and of CPU of `audit verify`."""
    began, used = time.perf_counter(), time.process_time()
    assert verify(out, jobs=jobs).intact
    return time.perf_counter() - began, time.process_time() - used


def alone(do: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Call it in a process of its own, begun anew."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(do, *args, **named).result()


@contextmanager
def broker(kafka: str | None) -> Iterator[str]:
    """The given broker, or a local one for the length of the run."""
    if kafka:
        yield kafka
        return
    from chimera.stack.kafka import prepare_kafka
    from chimera.stack.supervisor import Supervisor

    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as home:
        found = prepare_kafka(Path(home) / "kafka")
        supervisor = Supervisor(Path(home) / "logs")
        supervisor.start()
        try:
            supervisor.add([found.child])
            yield found.bootstrap
        finally:
            supervisor.stop()


if __name__ == "__main__":
    main()
