"""Commands as tests give them: verbs with little in them, a command service as a process, and what brain and projector keep."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chimera.commands import verbs
from chimera.commands.client import answers
from chimera.commands.decision import Answer
from chimera.commands.keys import PARTITIONS, load_installation
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.partition import PartitionFold
from chimera.projections.engine import Projector, catch_up
from chimera.settings import Settings
from chimera.snapshots.build import save_whole
from chimera.snapshots.postgres import PostgresSnapshots
from chimera.snapshots.state import maker

SOUL = "---\nname: {name}\nhandles: {{x: {name}_x}}\nvoice: {{tone: [warm]}}\ntopics: [soup]\n---\nCooks.\n"
POLICY = "---\nboardkit: 1\nname: house rules\napprovers: {publish: [kim]}\n---\nBe kind.\n"


def enrol(*names: str) -> verbs.Enrol:
    made = [verbs.NewAgent(name=name, soul=SOUL.format(name=name), policy=0, accounts={"x": f"{name}_x"}) for name in names]
    return verbs.wish(verbs.Enrol, "op", tenant="acme", policies=(POLICY,), agents=tuple(made))


def status(verb: str, *names: str, actor: str = "op") -> verbs.AgentStatus:
    return verbs.wish(verbs.AgentStatus, actor, verb=verb, names=names)


def one(reply: verbs.Reply) -> Answer:
    ((_, answer),) = verbs.answers_of(reply)
    return answer


def until(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    deadline, between = time.monotonic() + deadline_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        between.wait(0.01)  # many look at once: let those work for whom they wait


PROGRAM = (
    "from chimera.commands import wiring; wiring.LOG_TOPIC = {topic!r}; from chimera.cli.main import main; main(['run', 'command'])"
)


@contextlib.contextmanager
def process(settings: Settings, topic: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ,
        "CHIMERA_HOME": str(settings.home),
        "CHIMERA_KAFKA": settings.kafka or "",
        "CHIMERA_POSTGRES": settings.postgres or "",
    }
    started = subprocess.Popen([sys.executable, "-c", PROGRAM.format(topic=topic)], env=env, stderr=subprocess.PIPE)
    try:
        until(lambda: answers(settings.home) or started.poll() is not None)
        yield started
    finally:
        started.kill()
        started.communicate()


class Kept:
    """Puts all that the log holds into snapshots and read models, as brain and projector do; goes on where it stopped."""

    def __init__(self, home: Path, bootstrap: str, topic: str, dsn: str) -> None:
        self.home, self.bootstrap, self.topic, self.dsn = home, bootstrap, topic, dsn
        self.folds: dict[int, PartitionFold] = {}
        self.times = dict.fromkeys(range(PARTITIONS), 0)
        self.projector: Projector | None = None

    def __call__(self) -> None:
        if not (self.home / "installation.json").exists():
            return
        installation = load_installation(self.home)
        if self.projector is None:
            self.projector = Projector(self.bootstrap, self.dsn, installation.root_public, topic=self.topic)
            self.folds = {p: PartitionFold(p, PARTITIONS, installation.root_public, place) for p in range(PARTITIONS)}
        start, ends = {p: fold.next_offset for p, fold in self.folds.items()}, end_offsets(self.bootstrap, self.topic)
        moved = [p for p in ends if start[p] < ends[p]]
        for batch in read_until(self.bootstrap, self.topic, moved, start, ends) if moved else ():
            for raw in batch:
                self.folds[raw.partition].apply(raw)
                self.times[raw.partition] = raw.append_ts
        with contextlib.closing(PostgresSnapshots(self.dsn, maker(installation.root))) as store:
            save_whole(store, [(self.folds[p], self.times[p]) for p in moved])
        catch_up(self.projector, ends)

    def close(self) -> None:
        if self.projector is not None:
            self.projector.close()
