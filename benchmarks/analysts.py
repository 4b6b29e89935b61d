"""What analysts wait for: numbers of platforms into rows beside one raw COPY, and every sample question on made-up data.

    python benchmarks/analysts.py [--rows N] [--posts N] [--observations N] [--full] [--rounds N] [--postgres DSN] [--json]

The limit of ingest is one COPY of the same rows, as the text that the server itself makes of them, into a table of the same
columns, indexes and checks (but not in parts), in alternating rounds of the same run; beside it stands the same COPY in binary,
which is what the projector sends. Questions run `--rounds` times each, warm; the figure is the 95th percentile over all runs of all
questions, by the clock, and by CPU of the server (workers included, where it is on this machine): on a busy machine only the second
says what they cost.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from chimera.events.metrics import TOPIC, EngagementObserved, encode
from chimera.events.raw import RawRecord
from chimera.projections import demo, metrics, observed
from chimera.projections.checkpoints import connect, open_checkpoints
from chimera.projections.questions import ask, questions
from chimera.projections.schema import migrate

PARTITIONS = 12
ROUNDS = 3
FULL = demo.Size(posts=50_000, days=30, observations=52, asset_events=20)
LIMIT_MS = 200
"""What the 95th percentile of the questions is to stay within."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=120_000, help="rows of one ingest round; four per record")
    arguments.add_argument("--posts", type=int, default=5_000)
    arguments.add_argument("--observations", type=int, default=10)
    arguments.add_argument("--asset-events", type=int, default=2)
    arguments.add_argument("--full", action="store_true", help="10 million engagement rows, 1 million asset events")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--postgres")
    arguments.add_argument("--json", action="store_true", help="one JSON line at the end")
    given = arguments.parse_args()
    size = FULL if given.full else demo.Size(given.posts, 30, given.observations, given.asset_events)
    with server(given.postgres) as dsn:
        found = ingest(dsn, given.rows) | answers(dsn, size, given.rounds, given.json)
    if given.json:
        print(json.dumps(found))
    else:
        for name, figure in found.items():
            print(f"{name:<44} {figure:>12,.2f}")


def ingest(dsn: str, rows: int) -> dict[str, float]:
    """Rows a second, ours and the limit's; round trips per 1,000 records."""
    database = "bench_engagement"
    with psycopg.connect(demo.address(dsn, "postgres"), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'.encode())
        connection.execute(f'CREATE DATABASE "{database}"'.encode())
    own = demo.address(dsn, database)
    migrate(own)
    ours: list[float] = []
    cpu: list[float] = []
    limits: dict[str, list[tuple[float, float]]] = {"text": [], "binary": []}
    gc.set_threshold(1_000_000, 20, 50)  # as the process does
    with connect(own) as connection, ThreadPoolExecutor(1) as writer:
        backend = connection.info.backend_pid
        for table in (*(f"raw_{form}" for form in limits), "as_text"):
            including = "" if table == "as_text" else "INCLUDING ALL"
            connection.execute(f"CREATE TABLE {table} (LIKE core.engagement_metrics {including})".encode())
        open_checkpoints(connection, "core", metrics.MODEL_SET, TOPIC, range(PARTITIONS))
        for number in range(ROUNDS):
            raws = made(rows // 4, number)
            begun, spent = time.perf_counter(), cpu_s(backend)
            writing: Future[None] | None = None
            for some in batches(raws):  # as `following` does it: the next ones are made while these are written
                new = observed.made_of(some)
                if writing is not None:
                    writing.result()
                writing = writer.submit(metrics.write_metrics, connection, "core", new)
            assert writing is not None
            writing.result()
            ours.append(rows / (time.perf_counter() - begun))
            cpu.append(cpu_s(backend) - spent)
            binary = [observed.made_of(some).rows for some in batches(raws)]
            for form, contents in (("text", [as_text(connection, content) for content in binary]), ("binary", binary)):
                begun, spent = time.perf_counter(), cpu_s(backend)
                for content in contents:
                    copy_in(connection, f"raw_{form}", form, content)
                limits[form].append((rows / (time.perf_counter() - begun), cpu_s(backend) - spent))
    ingested = statistics.median(ours)
    text, packed = (statistics.median(speed for speed, _ in limits[form]) for form in ("text", "binary"))
    return {
        "ingest rows/s": ingested,
        "limit: one COPY of the same rows, rows/s": text,
        "ingest of limit": ingested / text,
        "ingest of limit by CPU of all processes": statistics.median(
            spent / own for own, (_, spent) in zip(cpu, limits["text"], strict=True)
        ),
        "the same COPY in binary, rows/s": packed,
        "ingest of the same COPY in binary": ingested / packed,
    }


def copy_in(connection: psycopg.Connection[Any], table: str, form: str, content: bytes) -> None:
    columns = ", ".join(f'"{c}"' for c in metrics.METRICS.columns)
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT {form})".encode()) as copy:
        copy.write(content)


def as_text(connection: psycopg.Connection[Any], content: bytes) -> bytes:
    """The rows of a binary COPY as the text of one."""
    columns = ", ".join(f'"{c}"' for c in metrics.METRICS.columns)
    copy_in(connection, "as_text", "binary", content)
    with connection.cursor() as cursor, cursor.copy(f"COPY as_text ({columns}) TO STDOUT".encode()) as copy:
        text = b"".join(map(bytes, copy))
    connection.execute("TRUNCATE as_text")
    return text


def cpu_s(backend: int) -> float:
    """CPU seconds of this process and of its server process, where that one is on this machine."""
    try:
        told = Path(f"/proc/{backend}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return time.process_time()
    return time.process_time() + (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def made(records: int, number: int) -> list[RawRecord]:
    """Observations as a job makes them: a sweep over the posts, four numbers each, some late."""
    dice, now = random.Random(number), int(time.time() * 1000)
    posts = max(records // 4, 1)
    out: list[RawRecord] = []
    per = records // PARTITIONS
    for n in range(per * PARTITIONS):
        post, at = n % posts, now - 3_600_000 * (3 - n // posts) - dice.randrange(60_000)
        values = {"views": n + 1.0, "likes": n / 9, "replies": 2.0, "watch_time_s": n * 1.5}
        seen = EngagementObserved(f"agent/{post % 100:036d}", "x", f"18{post:017d}", at, values, "x/social.metrics")
        place, offset = n % PARTITIONS, number * per + n // PARTITIONS
        out.append(RawRecord(TOPIC, place, offset, now, seen.agent.encode(), encode(seen), []))
    return out


def batches(raws: Sequence[RawRecord]) -> Iterator[Sequence[RawRecord]]:
    for begin in range(0, len(raws), metrics.BATCH):
        yield raws[begin : begin + metrics.BATCH]


def answers(dsn: str, size: demo.Size, rounds: int, quiet: bool) -> dict[str, float]:
    """Milliseconds of the questions on made-up data of this size."""
    begun = time.perf_counter()
    counted = demo.make(
        dsn, "bench_demo", size, lambda what: print(f"{time.perf_counter() - begun:5.0f} s: {what}", file=sys.stderr)
    )
    loaded_s = time.perf_counter() - begun
    own = demo.address(dsn, "bench_demo")
    every: list[float] = []
    costs: list[float] = []
    slow: list[tuple[float, float, float, str]] = []
    with psycopg.connect(own) as connection:
        server_pid = parent(connection.info.backend_pid)
    for asked in questions():
        took, cost = [], []
        for _ in range(rounds + 1):
            before, begun = ended_s(server_pid), time.perf_counter()
            ask(own, asked)
            took.append((time.perf_counter() - begun) * 1000)
            time.sleep(0.05)  # the server takes note of a process that has ended
            cost.append((ended_s(server_pid) - before) * 1000)
        every += took[1:]  # the first one is cold
        costs += cost[1:]
        slow.append((statistics.median(took[1:]), max(took[1:]), statistics.median(cost[1:]), asked.name))
    if not quiet:
        print(f"{size.posts} posts, {counted['engagement_metrics']} engagement rows, {counted['asset_events']} asset events")
        print(f"  {'question':<24} {'median ms':>10} {'slowest ms':>10} {'CPU ms':>8} {'limit ms':>9}")
        for ms, longest, cpu, name in sorted(slow, reverse=True):
            print(f"  {name:<24} {ms:>10.1f} {longest:>10.1f} {cpu:>8.0f} {LIMIT_MS:>9}{' over' if ms > LIMIT_MS else ''}")
    ranked, ranked_costs = sorted(every), sorted(costs)
    return {
        "engagement rows": counted["engagement_metrics"],
        "asset events": counted["asset_events"],
        "made and settled in s": loaded_s,
        "questions p50 ms": statistics.median(ranked),
        "questions p95 ms": ranked[int(len(ranked) * 0.95)],
        "limit: questions p95 ms": LIMIT_MS,
        "questions p95 ms of CPU": ranked_costs[int(len(ranked_costs) * 0.95)],
        "slowest question ms": max(slow)[0],
    }


def parent(pid: int) -> int:
    """The process that started this one; 0 where it is not on this machine."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def ended_s(pid: int) -> float:
    """CPU seconds of all processes that this one has started and that have ended; 0 where it is not on this machine."""
    if not pid:
        return 0.0
    told = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(told[13]) + int(told[14])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(given: str | None) -> Iterator[str]:
    """The given server, or a local one for the length of the run."""
    if given:
        yield given
        return
    from chimera.stack.postgres import prepare_postgres
    from chimera.stack.supervisor import Supervisor

    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as home:
        base = prepare_postgres(Path(home) / "postgres")
        supervisor = Supervisor(Path(home) / "logs")
        supervisor.start()
        try:
            supervisor.add([base.child])
            yield base.dsn
        finally:
            supervisor.stop()


if __name__ == "__main__":
    main()
