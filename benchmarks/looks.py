"""How fast one looks back: search, rehearsal, a past, a verification; beside consume + decode + verify + fold of the same log.

    python benchmarks/looks.py [--agents N] [--posts N] [--kafka ADDR] [--postgres DSN] [--json]

One process each unless it says otherwise. Figures by CPU time are of this process; those of two processes are by the clock. What a
past of no records takes is fixed: at `--agents 1000` it is told apart from the rate.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.project import database, days, servers
from chimera.cli.bars import Bar
from chimera.cli.grep import Asked, _matches
from chimera.eventlog.moments import Cut
from chimera.eventlog.read import read_until
from chimera.events import records as rec
from chimera.policy.boardkit import digest, inline, load_text, parse_rules
from chimera.projections.engine import Projector, catch_up, new_fold
from chimera.projections.schema import migrate
from chimera.projections.tuned import tuned
from chimera.projections.verify import Report, verify
from chimera.replay import asof
from chimera.replay.look import Log
from chimera.replay.outcome import Outcome
from chimera.replay.simulate import Candidate, Selection, in_processes
from chimera.replay.where import parse
from tests.integration.projection_data import PARTITIONS, History

POLICY = load_text(Path("examples/AGENTS.md"))


class Fleet(History):
    """Days whose policy is one that can be read."""

    def add(self, key: str, data: rec.Data, **how: object) -> object:  # type: ignore[override]
        if isinstance(data, rec.PolicyAdopted):
            data = data.model_copy(update={"rules": POLICY, "digest": digest(POLICY)})
        return super().add(key, data, **how)  # type: ignore[arg-type]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--agents", type=int, default=250)
    arguments.add_argument("--posts", type=int, default=40)
    arguments.add_argument("--kafka")
    arguments.add_argument("--postgres")
    arguments.add_argument("--json", action="store_true", help="One JSON object, figures by name.")
    given = arguments.parse_args()
    tuned()
    with servers(given.kafka, given.postgres) as (bootstrap, dsn), database(dsn) as own:
        found = measure(bootstrap, own, given.agents, given.posts)
    if given.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:<58} {figure:>12,.{2 if name.endswith(' s') else 0}f}")


def measure(bootstrap: str, dsn: str, agents: int, posts: int) -> dict[str, float]:
    h, ends = days(bootstrap, agents, posts, Fleet)
    total, log = sum(ends.values()), Log(bootstrap, h.topic, h.root.public)
    found: dict[str, float] = {"records": total}
    del h

    def timed(name: str, work: Callable[[], object], by_cpu: bool = True) -> object:
        before, wall = time.process_time(), time.perf_counter()
        made = work()
        found[f"{name} records/s"] = total / (time.perf_counter() - wall)
        if by_cpu:
            found[f"{name} records/s by CPU"] = total / (time.process_time() - before)
        print(f"{name}: {found[f'{name} records/s']:,.0f} records/s", file=sys.stderr, flush=True)
        return made

    timed("limit: consume + decode + verify + fold", lambda: fold(log))
    everything = Asked(frozenset({"JudgeVerdict"}), None, None, None, None, 0, 0, (parse("payload.confidence<0.7"),))
    timed("grep, without rulings", lambda: sum(1 for _ in _matches(log, everything, False, False, Bar())))
    timed("grep, with rulings", lambda: sum(1 for _ in _matches(log, everything, True, False, Bar())))
    stricter = candidate("approve_above: 0.90", "approve_above: 0.96")
    banned = candidate("  - game-changer", "  - game-changer\n  - autumn", "max: 1", "max: 0")

    def rehearse(given: Candidate, processes: int = 1) -> Outcome:
        return in_processes(
            log, given, Selection(), partitions=range(PARTITIONS), upto=ends, processes=processes, progress=lambda done, total: None
        )

    made = timed("simulate, other thresholds", lambda: rehearse(stricter))
    assert isinstance(made, Outcome)
    found |= {"votes judged again": made.votes, "verdicts that change": made.changed}
    timed("simulate, other rules for texts", lambda: rehearse(banned))
    timed("simulate, other rules, two processes", lambda: rehearse(banned, 2), by_cpu=False)
    found["memory MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    migrate(dsn)
    before = time.perf_counter()
    past(log, dsn, Cut(int(time.time() * 1000), dict.fromkeys(ends, 0)), {"name": "bench0", "asked": "", "by": ""})
    found["as-of, fixed s"] = time.perf_counter() - before
    for processes in (1, 2):
        cut = Cut(int(time.time() * 1000), ends)
        how = {"name": f"bench{processes}", "asked": "", "by": "", "processes": processes}
        timed(
            f"as-of, {processes} process{'es' * (processes - 1)}",
            lambda cut=cut, how=how: past(log, dsn, cut, how),
            by_cpu=processes == 1,
        )
    projector = Projector(bootstrap, dsn, log.root_public, topic=log.topic)
    catch_up(projector, ends)
    projector.close()
    for processes in (1, 2):
        told = timed(
            f"verify, {processes} process{'es' * (processes - 1)}",
            lambda processes=processes: verified(log, dsn, processes),
            by_cpu=processes == 1,
        )
        assert isinstance(told, Report)
        assert told.equal
    return found


def fold(log: Log) -> None:
    folds = {p: new_fold(p, PARTITIONS, log.root_public) for p in range(PARTITIONS)}
    for raws in read_until(log.bootstrap, log.topic, range(PARTITIONS)):
        for raw in raws:
            folds[raw.partition].apply(raw)


def verified(log: Log, dsn: str, processes: int) -> Report:
    none = {"calls_topic": "none", "metrics_topic": "none"}
    return verify(log.bootstrap, dsn, log.root_public, topic=log.topic, processes=processes, **none)  # type: ignore[arg-type]


def past(log: Log, dsn: str, cut: Cut, how: dict[str, object]) -> None:
    asof.make(
        log.bootstrap,
        dsn,
        log.root_public,
        log.topic,
        cut,
        calls_topic="none",
        metrics_topic="none",
        **how,  # type: ignore[arg-type]
    )


def candidate(*changes: str) -> Candidate:
    """The example's policy with texts replaced in pairs."""
    text = POLICY
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert re.search(re.escape(old), text), old
        text = text.replace(old, new)
    rules = parse_rules(text)
    return Candidate(rules, inline(rules), digest(text), "bench")


if __name__ == "__main__":
    main()
