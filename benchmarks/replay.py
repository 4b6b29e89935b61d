"""How fast a build of all read models is, by one process and by two, beside its limit in the same run; and how long a swap locks.

    python benchmarks/replay.py [--agents N] [--posts N] [--kafka ADDR] [--postgres DSN] [--json]

Limit: consume + one COPY of the same bytes as text, by one process. Local servers are started where no address is given. CPU time
is that of the load's processes, interpreters' starts included; of PostgreSQL and of the broker where they run on this machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import psycopg

from benchmarks import cpu
from benchmarks.project import clock, copy_limit, database, days, servers, signed_of
from chimera.projections.checkpoints import connect
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.replay import builds, survey
from chimera.replay.builds_run import Pacing, Tally, carry_out
from chimera.replay.plan import make_plan
from chimera.replay.survey import Where
from chimera.replay.swap import swap
from tests.integration.projection_data import History, day


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--agents", type=int, default=400)
    arguments.add_argument("--posts", type=int, default=40)
    arguments.add_argument("--kafka")
    arguments.add_argument("--postgres")
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    with servers(given.kafka, given.postgres) as (bootstrap, dsn), database(dsn) as own:
        found = measure(bootstrap, own, given.agents, given.posts)
    if given.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:<48} {figure:>10,.1f}")


def measure(bootstrap: str, dsn: str, agents: int, posts: int) -> dict[str, float]:
    """Every figure by name."""
    h, _ = days(bootstrap, agents, posts)
    records = len(h.entries)
    found = {"records": float(records), "signed, percent": 100 * signed_of(h) / records}
    began = clock()
    copied = copy_limit(bootstrap, dsn, h.topic)
    found["limit: consume + COPY, records/s"] = copied / (clock()[0] - began[0])
    migrate(dsn)
    where = Where(bootstrap, dsn, h.root.public, h.topic, None, None, None)
    for processes in (1, 2):
        found |= build(where, processes)
    found |= swap_under_load(h, where)
    return found


def build(where: Where, processes: int) -> dict[str, float]:
    """One build from 0, thrown away afterwards but for the last."""
    with connect(where.dsn) as connection:
        number = builds.add(connection, make_plan(survey.facts(connection, where), survey.models()), survey.models()).id
    told: list[Tally] = []
    before, began, served = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), serving(where)
    loaded_at: list[dict[str, float]] = []

    def tell(tally: Tally) -> None:
        told.append(tally)
        if tally.step != "loading" and not loaded_at:
            loaded_at.append(serving(where))

    carry_out(where, number, Pacing(processes=processes, yield_at=0), tell)
    whole = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with connect(where.dsn) as connection:
        loaded = next(a for a in builds.acts(connection, number) if a.act == "loaded").detail
    name = f"by {processes}"
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        f"load {name}, records/s": loaded["records"] / loaded["seconds"],
        f"load {name}, best stretch, records/s": max((t.rate for t in told if t.step == "loading"), default=0.0),
        f"load {name}, CPU us per record": 1e6 * took / loaded["records"],
        **{
            f"load {name}, CPU us of {who} per record": 1e6 * (used - served[who]) / loaded["records"]
            for who, used in (loaded_at or [serving(where)])[0].items()
        },
        f"build {name} with indexes, s": whole,
    }


def serving(where: Where) -> dict[str, float]:
    """CPU seconds so far of the servers, those that run here."""
    found = {"PostgreSQL": cpu.of_postgres(where.dsn), "the broker": cpu.of_listener(where.bootstrap)}
    return {who: took for who, took in found.items() if took is not None}


def swap_under_load(h: History, where: Where) -> dict[str, float]:
    """Swap while a projector writes and readers ask."""
    with connect(where.dsn) as connection:
        ready = [b for b in builds.listed(connection) if b.state == "ready"][-1]
    projector = Projector(where.bootstrap, where.dsn, where.root_public, topic=where.log)
    catch_up(projector, h.send(where.bootstrap))
    stop, waits = threading.Event(), list[float]()
    reader = threading.Thread(target=read, args=(where.dsn, stop, waits))
    writer = threading.Thread(target=write, args=(h, projector, where.bootstrap, stop))
    reader.start(), writer.start()
    try:
        done = swap(where, ready, actor="bench", reason="measure")
    finally:
        stop.set()
        reader.join(), writer.join()
        projector.close()
    return {
        "swap, ms of lock": done.locked_ms,
        "swap, tries": float(done.tries),
        "swap, longest wait of a reader, ms": max(waits, default=0.0),
    }


def read(dsn: str, stop: threading.Event, waits: list[float]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not stop.is_set():
            began = time.perf_counter()
            connection.execute("SELECT count(*) FROM analytics_v1.posts LIMIT 1").fetchone()
            waits.append(1000 * (time.perf_counter() - began))


def write(h: History, projector: Projector, bootstrap: str, stop: threading.Event) -> None:
    n = 0
    while not stop.is_set():
        day(h, f"late{n}", 4)
        catch_up(projector, h.send(bootstrap))
        n += 1


if __name__ == "__main__":
    main()
