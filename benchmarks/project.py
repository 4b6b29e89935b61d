"""How fast the log becomes rows: all models, one process, beside two limits measured in the same run.

    python benchmarks/project.py [--agents N] [--kafka ADDR] [--postgres DSN] [--profile]

Limits: consume + one COPY of the same bytes as text; consume + decode + fold without Postgres. Local servers are started
where no address is given. The share of signed records is printed: each costs one Ed25519 verification.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from chimera.commands.keys import log_topics
from chimera.eventlog.cluster import apply
from chimera.eventlog.read import read_until
from chimera.projections.engine import Projector, catch_up, new_fold
from chimera.projections.schema import migrate
from tests.integration.projection_data import PARTITIONS, History, day


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--agents", type=int, default=400)
    arguments.add_argument("--posts", type=int, default=40)
    arguments.add_argument("--kafka")
    arguments.add_argument("--postgres")
    arguments.add_argument("--profile", action="store_true", help="Print where the projector's time goes.")
    given = arguments.parse_args()
    gc.set_threshold(1_000_000, 20, 50)  # as the process does
    sys.setswitchinterval(0.0005)
    with servers(given.kafka, given.postgres) as (bootstrap, dsn), database(dsn) as own:
        measure(bootstrap, own, given.agents, given.posts, given.profile)


def measure(bootstrap: str, dsn: str, agents: int, posts: int, profile: bool) -> None:
    h, ends = days(bootstrap, agents, posts)
    topic, total, signed = h.topic, sum(ends.values()), signed_of(h)
    size = sum(len(e.value) for e in h.entries) / total
    print(f"{total} records, {size:.0f} B a value, {100 * signed / total:.1f} % signed, {agents} agents, {PARTITIONS} partitions")

    began = clock()
    copied = copy_limit(bootstrap, dsn, topic)
    report("limit: consume + one COPY of the same bytes", copied, began)

    began = clock()
    folds = {p: new_fold(p, PARTITIONS, h.root.public) for p in range(PARTITIONS)}
    folded = 0
    for raws in read_until(bootstrap, topic, range(PARTITIONS)):
        for raw in raws:
            folds[raw.partition].apply(raw)
        folded += len(raws)
    report("limit: consume + decode + verify + fold", folded, began)

    migrate(dsn)
    projector = Projector(bootstrap, dsn, h.root.public, topic=topic)
    projector.open()
    began = clock()
    if profile:
        import cProfile
        import pstats

        profiler = cProfile.Profile()
        profiler.runcall(catch_up, projector, ends)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    else:
        catch_up(projector, ends)
    assert projector.progress.stopped == {}
    report(f"rebuild of all models ({projector.progress.transactions} transactions)", projector.progress.written, began)
    projector.close()


def days(bootstrap: str, agents: int, posts: int, kind: type[History] = History) -> tuple[History, dict[int, int]]:
    """A log of its own that holds a fleet's day, and its ends."""
    topic = f"bench-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(bootstrap, log_topics(topic))
    h = kind(topic)
    for i in range(agents):
        day(h, f"agent{i}", posts)
    return h, h.send(bootstrap)


def signed_of(h: History) -> int:
    """How many of its records are signed: each costs one verification."""
    return sum(1 for e in h.entries if any(name == "ce_signature" for name, _ in e.headers))


def copy_limit(bootstrap: str, dsn: str, topic: str) -> int:
    """What any projector of this log must do at least: read it and write its bytes once."""
    done = 0
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE raw_log (partition smallint, at bigint, key text, value text)")
        for raws in read_until(bootstrap, topic, range(PARTITIONS)):
            with connection.cursor() as cursor, cursor.copy("COPY raw_log FROM STDIN") as copy:
                copy.write(
                    b"".join(
                        b"%d\t%d\t%s\t%s\n" % (r.partition, r.offset, r.key or b"", (r.value or b"").replace(b"\\", b"\\\\"))
                        for r in raws
                    )
                )
            connection.commit()
            done += len(raws)
    return done


def clock() -> tuple[float, float]:
    """Wall time and this process's own CPU time: on a busy machine only the second says what the code costs."""
    return time.perf_counter(), time.process_time()


def report(what: str, records: int, began: tuple[float, float]) -> None:
    wall, cpu = (now - before for now, before in zip(clock(), began, strict=True))
    print(f"{what:<52} {records / wall:>8.0f} records/s ({wall:.2f} s wall, {cpu:.2f} s CPU = {records / cpu:.0f}/s)")


@contextmanager
def servers(kafka: str | None, postgres: str | None) -> Iterator[tuple[str, str]]:
    """The given servers, or local ones for the length of the run."""
    if kafka and postgres:
        yield kafka, postgres
        return
    from chimera.stack.kafka import prepare_kafka
    from chimera.stack.postgres import prepare_postgres
    from chimera.stack.supervisor import Supervisor

    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as home:
        broker, base = prepare_kafka(Path(home) / "kafka"), prepare_postgres(Path(home) / "postgres")
        supervisor = Supervisor(Path(home) / "logs")
        supervisor.start()
        try:
            supervisor.add([broker.child, base.child])
            yield kafka or broker.bootstrap, postgres or base.dsn
        finally:
            supervisor.stop()


@contextmanager
def database(dsn: str) -> Iterator[str]:
    """A database of our own."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    head, _, tail = dsn.partition("?")
    try:
        yield f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{tail}" if tail else "")
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


if __name__ == "__main__":
    main()
