"""Failpoints: named places between two steps where a process may be killed, made to fail, or held up, to prove that it recovers.

Off unless `CHIMERA_FAILPOINTS` says otherwise when a process starts (`arm`); then a point costs one look at a module variable. The
rule not to break: what a point does is on disk before it does it, so a run can prove which of them fired.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from chimera.errors import ChimeraError

log = logging.getLogger(__name__)

VARIABLE = "CHIMERA_FAILPOINTS"
FIRED = "failpoints.jsonl"
"""Below the home: one JSON line for each firing of each process."""

POINTS: Mapping[str, str] = MappingProxyType(
    {
        # the swarm: job -> record -> append -> fold -> ruling
        "job.started": "a job has its slot, and has done nothing",
        "record.read": "a record that a job asked for is read back, and the job has not seen it",
        "job.answered": "the role has its answer, and no record is made of it",
        "record.encoded": "the record is encoded, and not handed to the producer",
        "append.handed": "the producer has the record, and the broker has not said that it took it",
        "record.appended": "the broker has the record, and its ruling is not known here",
        "swarm.folded": "a batch is folded, and nobody was asked what is owed now",
        "record.ruled": "the ruling is seen, and the job has not gone on",
        # the swarm: partitions come, snapshots
        "catchup.restored": "snapshots are loaded, and nothing is read after them",
        "catchup.folded": "partitions are folded up to the end, and none is served",
        "snapshot.cut": "a snapshot is cut, and not saved",
        "snapshot.saved": "a snapshot is saved, and its keeper does not know",
        # work
        "worker.started": "WorkStarted counts, and no work is done",
        "worker.made": "the work is done, and nothing of it is in the log",
        # the gate
        "gate.guarded": "nothing forbids the call, and it is not sent",
        "gate.answered": "the server has answered, and nobody has read what",
        "gate.collected": "the file that an answer names is in the media store, and the caller has no outcome",
        "gate.told": "the call is in the call log, and the caller has no outcome",
        "calls.taken": "records of calls that wait are taken from their place, and not handed to the producer",
        # effects
        "executor.drawn": "a token is drawn, and the claim is not in the log",
        "executor.claimed": "the claim counts, and nothing is read back",
        "executor.checked": "the quorum is read back, and the call is not sent",
        "executor.called": "the effect may have happened, and nothing of it is in the log",
        "executor.lost": "a claim's lease is over, and the log does not say so",
        "executor.polled": "the platform said how a submitted job stands, and the log does not",
        "executor.received": "the media store knows what an effect brought, and the log does not",
        "lookup.asked": "an unknown end is about to be looked up",
        "lookup.listed": "the platform said what it has, and the log does not",
        # the projector
        "projector.leased": "partitions are leased, and not opened",
        "projector.read": "a batch is read, and not folded",
        "projector.folded": "a batch is folded, and not handed to the writer",
        "projector.moved": "checkpoints are moved and no row is written, in an open transaction",
        "projector.copied": "all rows are written, in an open transaction",
        "projector.committed": "the transaction is committed, and the projector does not know",
        "memory.moved": "checkpoints of notes are moved and no note is kept, in an open transaction",
        "memory.put": "notes are kept, and the transaction of their checkpoints is open",
        "metrics.moved": "checkpoints of platform numbers are moved and no row is written, in an open transaction",
        "metrics.copied": "the rows of platform numbers are written, and those of last values are not, in an open transaction",
        "metrics.kept": "rows and last values of platform numbers are written, in an open transaction",
        # topics beside the log
        "beside.read": "records of a topic beside the log are read, and nothing of them is handed to the writer",
        "beside.written": "their rows are committed, and whoever follows the topic does not know",
        # a build of all read models
        "build.prepared": "a build has its empty tables, in an open transaction, and does not say so",
        "build.loaded": "all is loaded, and the build does not say so",
        "build.indexed": "all indexes are made, and the build is not said to be ready",
        "build.followed": "a build has caught up with the log, and its fold is not kept",
        "load.opened": "a load process has its checkpoints, and has read nothing",
        "load.taken": "a load process has handed a batch to its writer, and does not read on",
        "load.folded": "a load process has written all of its share, and its fold is not kept",
        "swap.locked": "all tables and views are locked, and no name is changed",
        "swap.renamed": "a build stands in the live one's place, in an open transaction",
        "swap.committed": "a build is live, and nobody was told",
        # the command service
        "command.decided": "commands are decided and signed, and not appended",
        "command.appended": "the broker has the commands' records, and they are not folded here",
        "command.ruled": "the rulings are known, and nobody is answered",
        # copies between streams
        "courier.made": "copies are made and signed, and not appended",
        "courier.appended": "the broker has the copies, and the courier does not know",
        # the notary
        "notary.taken": "records are in the trees, and nothing of them is on disk",
        "notary.written": "tiles are on disk, and no signature covers them",
    }
)
"""All points: name -> what has happened, and what has not."""


class Injected(ChimeraError):
    """The failure that a failpoint raises where its place names no other."""


class BadFailpoints(ChimeraError):
    """`CHIMERA_FAILPOINTS` cannot be understood."""


Action = Literal["kill", "error", "delay"]


@dataclass
class _Armed:
    """What one point does: at its `nth` arrival in a process, once in a home; or each time with a probability."""

    action: Action
    delay_s: float
    probability: float
    nth: int | None
    dice: random.Random
    said: str
    spent: bool
    """Its one arrival was in an earlier life of this process."""
    arrivals: int = 0

    def fires(self) -> bool:
        self.arrivals += 1
        if self.nth is None:
            return self.dice.random() < self.probability
        return not self.spent and self.arrivals == self.nth


class _Failpoints:
    def __init__(self, home: Path, process: str, points: Mapping[str, _Armed]) -> None:
        self._file, self._process = home / FIRED, process
        self.points = points
        self._lock = threading.Lock()

    def act(self, name: str, error: Callable[[str], Exception]) -> float:
        """Do what the point is armed with; seconds that the caller is to be held up."""
        point = self.points.get(name)
        if point is None:
            return 0.0
        with self._lock:
            if not point.fires():
                return 0.0
            self._note(name, point)
        if point.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if point.action == "error":
            raise error(f"failpoint {name}")
        return point.delay_s

    def _note(self, name: str, point: _Armed) -> None:
        line = {"at": time.time(), "process": self._process, "pid": os.getpid(), "point": name, "action": point.action}
        fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(line | {"arrival": point.arrivals}).encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)


_on: _Failpoints | None = None


async def at(name: str, error: Callable[[str], Exception] = Injected) -> None:
    """A point in a coroutine. `error` makes what is raised there, which should be what that place has to expect anyway."""
    if _on is not None and (delay_s := _on.act(name, error)):
        await asyncio.sleep(delay_s)


def here(name: str, error: Callable[[str], Exception] = Injected) -> None:
    """`at` for code without an event loop."""
    if _on is not None and (delay_s := _on.act(name, error)):
        time.sleep(delay_s)


def arm(home: Path, process: str) -> None:
    """Do from here on what `CHIMERA_FAILPOINTS` says, and say so loudly; nothing where it is not set or empty.

    `seed=7;executor.claimed=kill:0.2;record.appended=error#3;projector.copied=delay(0.5):0.1`: the action at a point, with a
    probability (1 if none is given), or at the n-th arrival of a process there, and then never again in this home. The dice of
    a point depend on seed, process, point and on how often this process fired before: a restarted one does not throw the same.

    Raises `BadFailpoints` for what cannot be understood and for a name that is no point.
    """
    global _on
    text = os.environ.get(VARIABLE, "")
    points = dict(_parsed(text, home, process))
    _on = _Failpoints(home, process, points) if points else None
    if points:
        log.warning("failpoints are on (%s): this process is here to be broken: %s", VARIABLE, "; ".join(active()))


def active() -> list[str]:
    """What is armed in this process, as it was written; empty in every process that is not under test."""
    return [] if _on is None else [f"{name}={point.said}" for name, point in _on.points.items()]


@contextmanager
def armed(home: Path, process: str) -> Iterator[None]:
    """`arm` for a test within its own process: off again afterwards."""
    global _on
    arm(home, process)
    try:
        yield
    finally:
        _on = None


def fired(home: Path) -> list[dict[str, Any]]:
    """Every firing in this home so far, oldest first: at, process, pid, point, action, arrival."""
    try:
        lines = (home / FIRED).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


_RULE = re.compile(r"(?P<action>kill|error|delay\((?P<delay>\d+(\.\d+)?)\))(:(?P<share>\d+(\.\d+)?)|#(?P<nth>[1-9]\d*))?")


def _parsed(text: str, home: Path, process: str) -> Iterator[tuple[str, _Armed]]:
    rules: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, rule = part.partition("=")
        if not equals or name in rules or (name != "seed" and name not in POINTS):
            why = "twice" if name in rules else "no `=`" if not equals else f"no such point; there are {', '.join(POINTS)}"
            raise BadFailpoints(f"{VARIABLE}: '{part}': {why}; correct or unset it")
        rules[name] = rule
    seed = rules.pop("seed", "0")
    before = fired(home) if rules else []
    lives = sum(line["process"] == process for line in before)
    for name, rule in rules.items():
        found = _RULE.fullmatch(rule)
        if found is None or float(found["share"] or 1) > 1:
            raise BadFailpoints(f"{VARIABLE}: '{name}={rule}': write kill, error or delay(SECONDS), then :PROBABILITY or #ARRIVAL")
        action: Action = "kill" if rule.startswith("kill") else "error" if rule.startswith("error") else "delay"
        nth = int(found["nth"]) if found["nth"] else None
        yield (
            name,
            _Armed(
                action=action,
                delay_s=float(found["delay"] or 0),
                probability=float(found["share"] or 1),
                nth=nth,
                dice=random.Random(f"{seed}/{process}/{name}/{lives}"),
                said=rule,
                spent=nth is not None and any(line["point"] == name and line["process"] == process for line in before),
            ),
        )
