"""The load processes of a build, as whoever runs it sees them: started, paced, started again, told to end.

The rule not to break: a process that dies is started again only as long as the build gets on.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple, Self

import orjson

from chimera.errors import ChimeraError
from chimera.projections.checkpoints import MODEL_SET
from chimera.replay.plan import Ends, Plan, shares, total
from chimera.replay.survey import Where

RESTARTS = 5
"""So many deaths of a load process without a record in between are no accident."""


Job = dict[str, object]


class _Hand(NamedTuple):
    """A process, what it says, and the job that it was given."""

    process: subprocess.Popen[bytes]
    said: IO[bytes]
    job: Job


class Idle:
    """Load processes that were started ahead of their jobs, since that takes longer than making empty tables. A context manager:
    who has not got a job by its end, ends.
    """

    def __init__(self, processes: int = 0) -> None:
        self._started = [_start() for _ in range(processes)]

    def take(self) -> _Hand:
        """One of them; a new one where none is left."""
        return self._started.pop() if self._started else _start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._started)
        self._started = []


def jobs_of(where: Where, build: int, plan: Plan, processes: int, written: Ends, rate: float) -> list[Job]:
    """What is left to be loaded, by at most so many processes and one for each topic without a fold."""
    jobs: list[Job] = []
    for topic, model_set in where.topics.items():
        ends = plan.ends[topic]
        some = shares(ends, written.get(topic, {}), processes if model_set == MODEL_SET else 1)
        jobs += [
            {
                "bootstrap": where.bootstrap, "dsn": where.dsn, "root_public": where.root_public, "build": build,
                "schema": f"build_{build}", "topic": topic, "model_set": model_set, "rate": rate,
                "ends": {str(p): ends[p] for p in share},
            }
            for share in some
        ]  # fmt: skip
    return jobs


class Hands:
    """The load processes of one run: `idle` ones, and new ones where those are too few."""

    def __init__(self, jobs: Sequence[Job], idle: Idle) -> None:
        self._deaths = 0
        self._done_before = -1
        self._hands = [_given(idle.take(), job) for job in jobs]

    def over(self, written: Callable[[], Ends]) -> bool:
        """Whether all are done; who died is started again. Raises `ChimeraError` where one gave up, or they keep dying."""
        for n, hand in enumerate(self._hands):
            code = hand.process.poll()
            if code is None or code == 0:
                continue
            said = _last_line(hand.said)
            if code == 1:
                raise ChimeraError(said or "a load process failed without a word")
            done = total(written())
            self._deaths = self._deaths + 1 if done == self._done_before else 1
            self._done_before = done
            if self._deaths > RESTARTS:
                raise ChimeraError(f"a load process died {self._deaths} times without getting on (exit {code}): {said}")
            self._hands[n] = _given(_start(), hand.job)
        return all(hand.process.poll() == 0 for hand in self._hands)

    def wait(self, seconds: float) -> None:
        """So long, or until one that is at work ends."""
        for hand in self._hands:
            if hand.process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    hand.process.wait(seconds)
                return

    def pace(self, rate: float, hold: bool) -> None:
        """Tell all how fast to go."""
        for hand in self._hands:
            _say(hand.process, {"rate": rate, "hold": hold})

    def stop(self) -> None:
        """Let them end between two transactions."""
        _end(self._hands)


def _start() -> _Hand:
    said = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads would hold it up; closed with the process
    process = subprocess.Popen(
        [sys.executable, "-m", "chimera.replay"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
    )
    return _Hand(process, said, {})


def _given(hand: _Hand, job: Job) -> _Hand:
    _say(hand.process, job)
    return hand._replace(job=job)


def _end(hands: Sequence[_Hand]) -> None:
    for hand in hands:
        if hand.process.stdin is not None and not hand.process.stdin.closed:
            try:
                hand.process.stdin.close()
            except BrokenPipeError:
                continue
    for hand in hands:
        try:
            hand.process.wait(30)
        except subprocess.TimeoutExpired:
            hand.process.kill()
            hand.process.wait()
        hand.said.close()


def _say(process: subprocess.Popen[bytes], what: Mapping[str, object]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(orjson.dumps(what) + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return  # it ended: `over` looks at how


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
