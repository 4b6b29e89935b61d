"""One process of a load: `python -m chimera.replay`, its job and then its pace as lines of JSON on standard input.

The rule not to break: it writes rows and checkpoints in one transaction, as the live projector does, so it may be killed anywhere;
when its input ends, whoever started it is gone, and it stops between two transactions.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import orjson
import psycopg

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.eventlog.read import read_until
from chimera.eventlog.topics import KafkaUnavailable
from chimera.events.envelope import key_id
from chimera.events.raw import RawRecord
from chimera.projections.batch import NotKept
from chimera.projections.checkpoints import MODEL_SET, connect, open_checkpoints
from chimera.projections.cuts import cuts_of_build
from chimera.projections.engine import Projector, Stopped
from chimera.projections.pace import BULK, at_once
from chimera.projections.tuned import tuned
from chimera.projections.write import Connection, Moved
from chimera.snapshots.state import SnapshotUnavailable

log = logging.getLogger(__name__)

STARTS = 8
"""So often a load is taken up anew after a crash of the database or while Kafka does not answer."""
PATIENCE_S = 60.0
"""So long without a record though some are due is a failure."""


def writer_of(model_set: str) -> Callable[[Connection, str, list[RawRecord]], None]:
    """Who writes a model set without a fold."""
    from chimera.projections import calls, metrics, security  # more than a quarter of the start of a load that needs none of them

    return {
        calls.MODEL_SET: calls.write_calls,
        metrics.MODEL_SET: metrics.write_raws,
        security.MODEL_SET: security.write_security,
    }[model_set]


class Pace:
    """How fast to go, as last told: a thread reads it from standard input and sets `stop` where that ends."""

    def __init__(self, rate: float) -> None:
        self.stop = threading.Event()
        self._rate, self._hold = rate, False
        self._next_at = time.monotonic()
        threading.Thread(target=self._listen, name="pace", daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            said = orjson.loads(line)
            self._rate, self._hold = float(said["rate"]), bool(said["hold"])
        self.stop.set()

    def go_on(self, done: int) -> bool:
        """After so many more records: wait as long as the pace asks for. False when it is time to stop."""
        if self._rate > 0:
            self._next_at = max(self._next_at, time.monotonic() - 1.0) + done / self._rate
            self.stop.wait(max(0.0, self._next_at - time.monotonic()))
        while self._hold and not self.stop.is_set():
            self.stop.wait(0.1)
        return not self.stop.is_set()

    @property
    def batch(self) -> int:
        """Records to take at once: at a slow pace, no more than half a second's."""
        return BULK if self._rate <= 0 else max(1, min(BULK, int(self._rate / 2)))


def load_log(job: dict[str, Any], pace: Pace) -> None:
    """All models of the fold, for some partitions, up to the job's ends. Raises `ChimeraError` where a partition stops.

    A database that crashed has lost its last transactions, rows and checkpoints alike: then it goes on from what is left. That
    a row is refused or held back is seldom: only then are each record's rows kept, which costs time, and only from there on.
    """
    n, keeps = 1, False
    while True:
        try:
            _load_log(job, pace, keeps)
            return
        except NotKept as error:
            log.warning("%s; starting over from the checkpoints", error)
            keeps = True
        except (Moved, KafkaUnavailable) as error:
            if n == STARTS:
                raise
            log.warning("%s; starting over from the checkpoints", error)
            pace.stop.wait(float(n))
            n += 1


def _load_log(job: dict[str, Any], pace: Pace, keeps: bool) -> None:
    ends = {int(p): int(offset) for p, offset in job["ends"].items()}
    cuts = cuts_of_build(job["dsn"], job["bootstrap"], job["topic"], key_id(job["root_public"]), job["build"])
    projector = Projector(
        job["bootstrap"], job["dsn"], job["root_public"],
        schema=job["schema"], topic=job["topic"], partitions=ends, stop=pace.stop, cuts=cuts, keeps=keeps, bulk=True,
    )  # fmt: skip
    try:
        projector.open()
        failpoints.here("load.opened", Moved)
        moved_at = time.monotonic()
        while left := sum(max(0, ends[p] - offset) for p, offset in projector.folded.items()):
            done = projector.step(min(left, at_once(pace.batch, left)), 0.1)
            if done:
                failpoints.here("load.taken", Moved)
            _look_for_stopped(projector)
            now = time.monotonic()
            moved_at = now if done else moved_at
            if now - moved_at > PATIENCE_S:
                raise ChimeraError(f"no record of {job['topic']} for {PATIENCE_S:g} s though some are due: is Kafka up?")
            if not pace.go_on(done):
                break
        failpoints.here("load.folded", Moved)
        projector.flush()
        _look_for_stopped(projector)
        projector.save_cuts()
    except Stopped:
        return
    except SnapshotUnavailable as error:  # costs time only: what follows folds again
        log.warning("no cut was kept: %s", error)
    finally:
        projector.close()
        cuts.close()


def _look_for_stopped(projector: Projector) -> None:
    if projector.progress.stopped:
        raise ChimeraError(next(iter(projector.progress.stopped.values())))


def load_plain(job: dict[str, Any], pace: Pace) -> None:
    """A model set without a fold, up to the job's ends. Where the database goes away, on from its checkpoints when it is back."""
    ends, write = {int(p): int(offset) for p, offset in job["ends"].items()}, writer_of(job["model_set"])
    deadline = time.monotonic() + PATIENCE_S
    while not pace.stop.is_set():
        try:
            with connect(job["dsn"]) as connection:
                start = open_checkpoints(connection, job["schema"], job["model_set"], job["topic"], ends)
                start = {p: min(offset, ends[p]) for p, offset in start.items()}
                for raws in read_until(job["bootstrap"], job["topic"], ends, start, ends, max_records=pace.batch):
                    write(connection, job["schema"], raws)
                    deadline = time.monotonic() + PATIENCE_S
                    if not pace.go_on(len(raws)):
                        return
            return
        except (Moved, KafkaUnavailable, psycopg.OperationalError) as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s: %s; trying again", job["topic"], str(error).splitlines()[0])
            pace.stop.wait(0.5)


def main() -> int:
    """0: done, or told to stop; 1: why not is the last line of standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if os.environ.get(failpoints.VARIABLE):
        from chimera.settings import Settings  # a fifteenth of the start, and nothing else here asks for settings

        failpoints.arm(Settings().home, "load")
    given = sys.stdin.buffer.readline()
    if not given:  # it was started ahead, and nobody needs it
        return 0
    job = orjson.loads(given)
    tuned()
    pace = Pace(float(job["rate"]))
    try:
        (load_log if job["model_set"] == MODEL_SET else load_plain)(job, pace)
    except (ChimeraError, psycopg.Error) as error:
        print(str(error).strip().splitlines()[0], file=sys.stderr)
        return 1
    return 0


def run() -> NoReturn:
    """Be that process: `main`, and no end but its own."""
    code = 2
    try:
        code = main()
    except Exception:  # noqa: BLE001  # told here: the interpreter's own end would wait for the thread that listens, and abort
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)
