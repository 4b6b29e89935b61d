"""How much memory replay takes at its peak, for a log and for one that is four times as long, of the same agents.

    python benchmarks/memory.py [--agents N] [--kafka ADDR] [--postgres DSN] [--json] [--most RATIO]

Each figure is the high-water mark (VmHWM) of a process that did nothing else: of the load process for `apply`, of the
verb's own for the others. `--most 1.25` ends with 1 where the longer log takes more than so many times the memory. For that the
shorter one must fill what `apply` holds at once, three transactions of 10,000 records, and the smaller ones that it ends with: 200
agents (60,000 records). What the agents' states hold does not grow with the log: their campaigns are completed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.looks import Fleet, candidate, past
from benchmarks.project import database, days, servers
from chimera.eventlog.moments import Cut
from chimera.events import records as rec
from chimera.projections.checkpoints import connect
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.projections.tuned import tuned
from chimera.projections.verify import verify
from chimera.replay import builds, survey
from chimera.replay.builds_run import Pacing, carry_out
from chimera.replay.look import Log
from chimera.replay.plan import make_plan
from chimera.replay.simulate import Selection, in_processes
from chimera.replay.survey import Where
from tests.integration.projection_data import PARTITIONS, History, attempt, publish, start, vote

WORKS = ("apply", "as-of", "simulate", "verify")
POSTS = 40


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--agents", type=int, default=60)
    arguments.add_argument("--kafka")
    arguments.add_argument("--postgres")
    arguments.add_argument("--json", action="store_true", help="One JSON object, figures by name.")
    arguments.add_argument("--most", type=float, help="Exit 1 where memory grows by more than this ratio.")
    given = arguments.parse_args()
    with servers(given.kafka, given.postgres) as (bootstrap, dsn), database(dsn) as own:
        found = measure(bootstrap, own, given.agents)
    if given.json:
        print(json.dumps(found))
    else:
        for name, figure in found.items():
            print(f"{name:<30} {figure:>10,.2f}" if "beside" in name else f"{name:<30} {figure:>10,.0f}")
    grown = {work: found[f"{work}, 4 × beside 1 ×"] for work in WORKS}
    if given.most is not None and max(grown.values()) > given.most:
        said = ", ".join(f"{work} {ratio:.2f}" for work, ratio in grown.items() if ratio > given.most)
        sys.exit(f"memory grows with the log: {said} times as much for a log of 4 times the length (at most {given.most:g})")


def measure(bootstrap: str, dsn: str, agents: int) -> dict[str, float]:
    h, ends = days(bootstrap, agents, POSTS, Fleet)
    migrate(dsn)
    found: dict[str, float] = {"records, 1 ×": sum(ends.values())}
    projector = Projector(bootstrap, dsn, h.root.public, topic=h.topic)
    for length in (1, 4):
        while sum(ends.values()) < length * found["records, 1 ×"]:
            for key in [key for fold in h.folds.values() for key in fold.agents]:
                completed(h, key)
            ends = h.send(bootstrap)
        catch_up(projector, ends)
        for work in WORKS:
            arguments = (work, Where(bootstrap, dsn, h.root.public, h.topic, None, None, None), ends, length)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=tuned) as pool:
                found[f"{work}, {length} ×, MB"] = pool.submit(peak, *arguments).result()
            print(f"{work}, {length} ×: {found[f'{work}, {length} ×, MB']:,.0f} MB", file=sys.stderr, flush=True)
    projector.close()
    found["records, 4 ×"] = sum(ends.values())
    for work in WORKS:
        found[f"{work}, 4 × beside 1 ×"] = found[f"{work}, 4 ×, MB"] / found[f"{work}, 1 ×, MB"]
    return found


def completed(h: History, key: str) -> None:
    """A campaign of posts that all go out: nothing of it stays in the agent's state."""
    c = start(h, key, POSTS)
    for o in range(2, POSTS + 2):
        attempt(h, key, c, o, f"post {o} of campaign {c} about the sale in autumn")
        vote(h, key, c, o, 0.97)
        publish(h, key, c, o)
    assert h.add(key, rec.CampaignCompleted(campaign=c)).outcome == "applied"


def peak(work: str, where: Where, ends: dict[int, int], length: int) -> float:
    """Do it here, in a process that does nothing else; MB at its peak."""
    log, cut = Log(where.bootstrap, where.log, where.root_public), Cut(int(time.time() * 1000), ends)
    if work == "apply":
        return apply(where)
    if work == "as-of":
        past(log, where.dsn, cut, {"name": f"memory{length}", "asked": "", "by": "", "processes": 1})
    elif work == "simulate":
        given = candidate("approve_above: 0.90", "approve_above: 0.96")
        made = in_processes(
            log, given, Selection(), partitions=range(PARTITIONS), upto=ends, processes=1, progress=lambda done, total: None
        )
        assert made.votes
    else:
        report = verify(where.bootstrap, where.dsn, where.root_public, topic=where.log, calls_topic="none", metrics_topic="none")
        assert report.equal
    return high_water("self")


def apply(where: Where) -> float:
    """A build by one load process; MB of that one at its peak, as it was last seen."""
    with connect(where.dsn) as connection:
        number = builds.add(connection, make_plan(survey.facts(connection, where), survey.models()), survey.models()).id
    seen, stop = [0.0], threading.Event()
    watch = threading.Thread(target=watching, args=(seen, stop))
    watch.start()
    try:
        carry_out(where, number, Pacing(yield_at=0))
    finally:
        stop.set()
        watch.join()
    return max(seen)


def watching(seen: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.05):
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                mine = re.search(r"^PPid:\t(\d+)$", path.read_text(), re.M)
                if mine is not None and int(mine[1]) == os.getpid():
                    seen.append(high_water(path.parent.name))
            except OSError:  # it ended meanwhile
                continue


def high_water(pid: str) -> float:
    """The most memory (MB) that a process has held; 0 for one that has ended."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found[1]) / 1024 if found is not None else 0.0


if __name__ == "__main__":
    main()
