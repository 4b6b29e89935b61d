"""Keeps a table of processes running: start in order, wait until ready, restart with back-off, stop in reverse order.

What never came up is given up after a few tries; what once was ready is started again for as long as the supervisor lives, at
most every half minute: whatever took it (a full disk, a server away) may be mended at any hour, and nobody is there to say so.

The rule not to break: all processes are started and watched by the one supervisor thread, which lives until `stop()`;
so whatever ends this program, even `kill -9`, ends them too (see `chimera.stack.process`).
"""

from __future__ import annotations

import http.client
import json
import logging
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from chimera.errors import ChimeraError
from chimera.stack.process import kill_group, log_tail, signal_process, spawn

log = logging.getLogger(__name__)

TICK_S = 0.1
HEALTHY_S = 30.0
BACKOFF_S = (0.5, 30.0)
READY_S = 120.0
FAILURES_BEFORE_READY = 3


@dataclass(frozen=True)
class Window:
    """Where a process that chooses its own port tells of it: `run/ROLE.PID.json` of its home (`chimera.observe.watch`)."""

    home: Path
    role: str

    def answers(self, pid: int) -> bool:
        """True when the process of that id has told its address and says there that it is well."""
        try:
            url = json.loads((self.home / "run" / f"{self.role}.{pid}.json").read_text())["http"]
        except (OSError, ValueError, KeyError):  # not there yet, or of a process of long ago that had the same id
            return False
        return bool(url) and http_answers(f"{url}/health")


Ready = Callable[[], bool] | Window | str | None


class ChildFailed(ChimeraError):
    """A process of the stack could not be brought up; the message holds the end of its log."""


class Phase(StrEnum):
    """Where a child is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    ALARM = "alarm"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Child:
    """One row of the table: a process and how to know that it is ready.

    `ready`: a function that answers at once or within about a second, the URL of a loopback HTTP server (any answer below 500
    counts), the window of a role process, or None (it has run for `settle_s` seconds). `after`: names that must be ready before it
    is started. `env` is added to the environment of the supervisor, of which `without` is kept back. `death_signal` is what the
    kernel sends when the supervisor dies.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    without: Sequence[str] = ()
    ready: Ready = None
    after: Sequence[str] = ()
    user: str | None = None
    cwd: Path | None = None
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    settle_s: float = 0.5
    ready_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0


@dataclass(frozen=True)
class ChildState:
    """What is known of a child now. `since` is seconds since the epoch; `restarts` counts starts after the first."""

    name: str
    phase: Phase
    log: Path
    pid: int | None = None
    restarts: int = 0
    failures: int = 0
    since: float = 0.0
    last_exit: str | None = None


class _Running:
    """The supervisor thread's own view of a child; nobody else touches it."""

    def __init__(self, child: Child, log: Path) -> None:
        self.child = child
        self.state = ChildState(child.name, Phase.WAITING, log, since=time.time())
        self.process: subprocess.Popen[bytes] | None = None
        self.was_ready = False
        self.began = 0.0
        self.healthy_from = 0.0
        self.retry_at = 0.0


class Supervisor:
    """Runs children in one background thread.

    `on_change` is called from that thread after any change of a state; where it raises `OSError` (no room to write it down), again
    at the next tick.
    """

    def __init__(self, log_dir: Path, on_change: Callable[[list[ChildState]], None] | None = None) -> None:
        self._log_dir = log_dir
        self._on_change = on_change
        self._table: dict[str, _Running] = {}
        self._inbox: queue.SimpleQueue[list[Child]] = queue.SimpleQueue()
        self._states: dict[str, ChildState] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._crash: BaseException | None = None
        self._untold = False
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    # --- what others call -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the supervisor thread; children come by `add`."""
        self._thread.start()

    def add(self, children: Sequence[Child], progress: Callable[[str], None] | None = None) -> None:
        """Take children into the table and wait until all of them are ready.

        Raises `ChildFailed` as soon as one is given up, or when they take longer than `READY_S` and the most patient of them; the
        others go on running.
        """
        timeout_s = max([READY_S, *(child.ready_timeout_s for child in children)])
        names = [child.name for child in children]
        known = set(names) | set(self._states)
        for child in children:
            missing = [name for name in child.after if name not in known]
            if missing:
                raise ChimeraError(f"child '{child.name}' starts after {missing}, which the table does not hold: add them first")
        with self._changed:
            for child in children:
                if child.name in self._states:
                    raise ChimeraError(f"child '{child.name}' is already in the table: give it another name")
                self._states[child.name] = ChildState(child.name, Phase.WAITING, self.log_of(child.name))
        self._inbox.put(list(children))
        self._await_ready(names, progress, time.monotonic() + timeout_s)

    def states(self) -> list[ChildState]:
        """A consistent picture of all children, in table order. Raises `ChimeraError` when the supervisor itself failed."""
        if self._crash is not None:
            raise ChimeraError(f"the supervisor itself failed and stopped everything: {self._crash!r}") from self._crash
        with self._changed:
            return list(self._states.values())

    def log_of(self, name: str) -> Path:
        """Where the output of a child goes."""
        return self._log_dir / f"{name}.log"

    def stop(self) -> None:
        """Stop all children, dependents first, each with its own deadline, then SIGKILL. A second Ctrl-C kills at once."""
        self._stopping.set()
        if not self._thread.is_alive():
            return
        try:
            self._thread.join()
        except (KeyboardInterrupt, SystemExit):
            self._hurry.set()
            self._thread.join(timeout=15)
        if self._crash is not None:
            raise ChimeraError(f"the supervisor itself failed: {self._crash!r}") from self._crash

    def _await_ready(self, names: list[str], progress: Callable[[str], None] | None, deadline: float) -> None:
        told: set[str] = set()
        while True:
            with self._changed:
                states = [self._states[name] for name in names]
            for state in states:
                if state.phase is Phase.ALARM:
                    raise ChildFailed(_why(state))
                if state.phase is Phase.READY and state.name not in told:
                    told.add(state.name)
                    if progress is not None:
                        progress(f"{state.name} is ready")
            if len(told) == len(names):
                return
            if self._crash is not None or not self._thread.is_alive():
                raise ChimeraError(f"the supervisor ended while {names} were starting: {self._crash!r}")
            if time.monotonic() > deadline:
                late = next(state for state in states if state.name not in told)
                raise ChildFailed(_why(late))
            with self._changed:
                self._changed.wait(TICK_S)

    # --- the supervisor thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping.wait(TICK_S):
                self._take_in()
                for running in list(self._table.values()):
                    self._step(running)
                if self._untold:
                    self._tell(self.states())
        except BaseException as error:  # noqa: BLE001 - kept for the caller's thread: stop() and add() raise it
            self._crash = error
        finally:
            self._stop_all()

    def _take_in(self) -> None:
        while not self._inbox.empty():
            for child in self._inbox.get():
                self._table[child.name] = _Running(child, self.log_of(child.name))

    def _step(self, running: _Running) -> None:
        phase = running.state.phase
        now = time.monotonic()
        if phase is Phase.WAITING:
            if all(self._table[name].was_ready for name in running.child.after):
                self._begin(running)
        elif phase is Phase.BACKOFF:
            if now >= running.retry_at:
                self._begin(running)
        elif phase in (Phase.STARTING, Phase.READY):
            assert running.process is not None
            code = running.process.poll()
            if code is not None:
                kill_group(running.process)
                self._failed(running, f"exit code {code}" if code >= 0 else f"signal {-code}")
            elif phase is Phase.STARTING:
                self._look_whether_ready(running, now)
            elif running.state.failures and now - running.healthy_from >= HEALTHY_S:
                self._set(running, failures=0)

    def _begin(self, running: _Running) -> None:
        child = running.child
        again = running.began > 0
        running.began = time.monotonic()
        try:
            running.process = spawn(
                child.argv,
                running.state.log,
                env=child.env,
                without=child.without,
                cwd=child.cwd,
                user=child.user,
                death_signal=child.death_signal,
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._failed(running, f"could not be started: {error}")
            return
        self._set(running, phase=Phase.STARTING, pid=running.process.pid, restarts=running.state.restarts + (1 if again else 0))

    def _look_whether_ready(self, running: _Running, now: float) -> None:
        settled = running.child.ready is not None or now - running.began >= running.child.settle_s
        assert running.process is not None
        if settled and is_ready(running.child.ready, running.process.pid):
            running.was_ready = True
            running.healthy_from = time.monotonic()
            self._set(running, phase=Phase.READY)
        elif now - running.began > running.child.ready_timeout_s:
            kill_group(running.process)
            self._failed(running, f"not ready within {running.child.ready_timeout_s:g} s")

    def _failed(self, running: _Running, how: str) -> None:
        failures = running.state.failures + 1
        low, high = BACKOFF_S
        running.retry_at = time.monotonic() + min(high, low * 2 ** min(failures - 1, 16))
        running.process = None
        phase = Phase.ALARM if failures >= FAILURES_BEFORE_READY and not running.was_ready else Phase.BACKOFF
        self._set(running, phase=phase, pid=None, failures=failures, last_exit=how)

    def _stop_all(self) -> None:
        """Deepest dependents first; those of one depth together."""
        depth: dict[str, int] = {}
        for name, running in self._table.items():  # table order: dependencies come before their dependents
            depth[name] = 1 + max((depth.get(other, 0) for other in running.child.after), default=0)
        for level in sorted(set(depth.values()), reverse=True):
            self._stop_level([running for name, running in self._table.items() if depth[name] == level])
        # Told last: a listener that fails must not keep a process alive.
        for running in self._table.values():
            self._set(running, phase=Phase.STOPPED, pid=None)

    def _stop_level(self, level: list[_Running]) -> None:
        began = time.monotonic()
        alive = [running for running in level if running.process is not None]
        for running in alive:
            assert running.process is not None
            signal_process(running.process, running.child.stop_signal)
        for running in alive:
            assert running.process is not None
            deadline = began + running.child.stop_timeout_s
            while running.process.poll() is None and time.monotonic() < deadline and not self._hurry.is_set():
                self._hurry.wait(0.02)
            kill_group(running.process)
            running.process = None

    def _set(self, running: _Running, **changes: object) -> None:
        running.state = replace(running.state, since=time.time(), **changes)  # type: ignore[arg-type]
        with self._changed:
            self._states[running.child.name] = running.state
            states = list(self._states.values())
            self._changed.notify_all()
        self._tell(states)

    def _tell(self, states: list[ChildState]) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(states)
        except OSError as error:  # a full disk must not end the one who starts everything again when there is room
            if not self._untold:
                log.warning("how the processes are could not be written down (%s); tried again all the time", error)
            self._untold = True
        else:
            self._untold = False


def _why(state: ChildState) -> str:
    tail = log_tail(state.log, lines=3, this_start=True)
    said = f"; last lines: {' | '.join(tail)}" if tail else ""
    return f"'{state.name}' is not running ({state.last_exit or 'not ready in time'}): see {state.log}{said}"


def is_ready(ready: Ready, pid: int) -> bool:
    """Ask once whether the child that runs as `pid` is ready; see `Child.ready` for the ways."""
    if ready is None:
        return True
    if isinstance(ready, Window):
        return ready.answers(pid)
    return http_answers(ready) if isinstance(ready, str) else ready()


def http_answers(url: str, timeout_s: float = 1.0) -> bool:
    """True when the loopback HTTP server answers the URL with any status below 500."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
