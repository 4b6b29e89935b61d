"""The local stack of one home directory, from start to stop: servers, then whatever processes its user adds.

The rule not to break: one stack per home at a time. The kernel's lock on `stack.lock` says so, not a file that a crash leaves.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from chimera.errors import ChimeraError
from chimera.settings import Settings
from chimera.stack import addresses, valkey
from chimera.stack.addresses import Addresses
from chimera.stack.children import EMBEDDINGS, ROLES, SANDBOX, environment, kept_back, role_process, sandbox_server, vendors_of
from chimera.stack.kafka import prepare_kafka
from chimera.stack.postgres import prepare_postgres
from chimera.stack.process import free_port, log_tail, open_log
from chimera.stack.supervisor import Child, ChildFailed, ChildState, Supervisor
from chimera.stack.weaviate import binary_in, prepare_weaviate

Progress = Callable[[str], None]


class AlreadyRunning(ChimeraError):
    """Another program runs a stack in this home."""


def make_home(home: Path) -> None:
    """The directory of an installation, where there is none yet. Raises `ChimeraError` where none can be."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ChimeraError(f"{home} cannot be a home ({error.strerror}): name another by CHIMERA_HOME or --home") from error


def quiet(text: str) -> None:
    """A progress function that tells nobody."""


class LocalStack:
    """Runs the servers that the settings do not name, and the processes added to them; a context manager.

    `with LocalStack(settings) as stack: addresses = stack.start(print)`. Leaving the block, Ctrl-C, SIGTERM or SIGHUP stop
    everything in order; `kill -9` of this program ends everything at once. Data stay in `settings.home`.
    """

    def __init__(
        self, settings: Settings, *, kafka_port: int | None = None, durable: bool = True, sandbox: Sequence[str] = SANDBOX
    ) -> None:
        """`durable=False` switches Postgres's fsync off (tests). `sandbox` names the MCP servers to run."""
        self.settings = settings
        self.home = settings.home.resolve()
        self.logs = self.home / "logs"
        self._kafka_port = kafka_port
        self._durable = durable
        self._sandbox = tuple(sandbox)
        self._lock_fd: int | None = None
        self._supervisor: Supervisor | None = None
        self._addresses: Addresses | None = None
        self._servers: list[str] = []
        self.page: str | None = None
        """Address of the page with all timelines and media of the sandboxes, once they are started."""
        self._phase = "starting"
        self._publishing = threading.Lock()
        self._old_handlers: dict[int, Any] = {}

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> LocalStack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._old_handlers[number] = signal.signal(number, _leave)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)
            self._old_handlers.clear()

    def start(self, progress: Progress = quiet) -> Addresses:
        """Start the servers and wait until each answers; safe to repeat on a home with data.

        Raises `AlreadyRunning`, `NoJava`, `JarsMissing`, `PortInUse`, `ChildFailed` or another `ChimeraError`; what had been
        started by then is stopped again.
        """
        if self._supervisor is not None:
            raise ChimeraError(f"the stack in {self.home} is already started by this program: use its addresses")
        self._take_lock()
        try:
            return self._start(progress)
        except BaseException:
            self.stop()
            raise

    def _start(self, progress: Progress) -> Addresses:
        (self.home / addresses.STACK_FILE).unlink(missing_ok=True)
        self._phase = "starting"
        for private in (self.logs, self.home / "kafka", self.home / "mcp"):
            private.mkdir(mode=0o700, exist_ok=True)  # the home itself may be open to the database's user
        self._publish([])
        self._supervisor = Supervisor(self.logs, self._publish)
        self._supervisor.start()
        children: list[Child] = []
        postgres_dsn, bootstrap = self.settings.postgres, self.settings.kafka
        if postgres_dsn is None:
            postgres = prepare_postgres(self.home / "postgres", durable=self._durable, progress=progress)
            children.append(postgres.child)
            postgres_dsn = postgres.dsn
        if bootstrap is None:
            kafka = prepare_kafka(self.home / "kafka", java=self.settings.java, port=self._kafka_port, progress=progress)
            children.append(kafka.child)
            bootstrap = kafka.bootstrap
        if self.settings.memory == "weaviate" and self.settings.weaviate is None:
            children.append(self._weaviate())
        mcp, servers = self._sandbox_servers()
        children.extend(servers)
        children = [replace(child, without=kept_back(child.name, self.settings)) for child in children]
        self._supervisor.add(children, progress)
        self._servers = [child.name for child in children]
        self._cache(progress)
        self._addresses = Addresses(kafka=bootstrap, postgres=postgres_dsn, mcp=mcp)
        self._publish(self._supervisor.states())
        return self._addresses

    def _cache(self, progress: Progress) -> None:
        """Valkey, where the settings name no other and it is installed. Nobody waits for it, and nothing fails for it."""
        binary = valkey.binary() if self.settings.cache is None else None
        if binary is None:
            return
        child = valkey.prepare_valkey(self.home, binary)
        try:
            self._running().add([replace(child, without=kept_back(child.name, self.settings))], progress)
        except ChildFailed as error:
            progress(f"no episodes are kept: {error}")

    def _weaviate(self) -> Child:
        binary = binary_in(self.home)
        if binary is None:
            raise ChimeraError("memory is to lie in Weaviate: build it by `chimera stack add weaviate`, or set CHIMERA_WEAVIATE")
        return prepare_weaviate(self.home, binary).child

    def _sandbox_servers(self) -> tuple[dict[str, str], list[Child]]:
        named = addresses.mcp_overrides(self.settings)
        kept_file = self.home / "mcp" / "ports.json"
        kept = addresses.kept_ports(kept_file)
        urls, children = dict(named), []
        played = vendors_of(self.settings)
        for name in (*self._sandbox, *((EMBEDDINGS,) if self.settings.embedding == "endpoint" else ())):
            if name in named or (name == "vendors" and not played):
                continue
            data = self.home / "mcp" / name
            data.mkdir(parents=True, exist_ok=True)
            kept[name] = free_port(kept.get(name), avoid=[port for other, port in kept.items() if other != name])
            more = ["--pace", str(self.settings.sandbox_pace)] if name in ("x", "vendors") else []
            more += ["--only", ",".join(played)] if name == "vendors" else []
            more += ["--media", self.settings.media] if name == "vendors" and self.settings.media is not None else []
            server = sandbox_server(name, data, kept[name], self.environment(), more)
            several = {vendor: server.url.replace("/mcp", f"/{vendor}/mcp") for vendor in played}
            urls |= several if name == "vendors" else {name: server.url}
            if name == "vendors":
                self.page = server.url.removesuffix("mcp")
            children.append(server.child)
        if children:
            addresses.write_whole(kept_file, json.dumps(kept))
        return urls, children

    def stop(self) -> None:
        """Stop all processes, dependents first, and give the home free. Repeating it does nothing."""
        self._phase = "stopping"
        try:
            if self._supervisor is not None:
                self._supervisor.stop()
        finally:
            self._supervisor = None
            self._addresses = None
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

    # --- use --------------------------------------------------------------------------------------------------------

    def add_children(self, children: Sequence[Child], progress: Progress = quiet) -> None:
        """Start further processes and wait until they are ready; raises `ChildFailed` when one cannot be brought up."""
        self._running().add(children, progress)

    def role_children(self, roles: Sequence[str] = ROLES) -> list[Child]:
        """Rows for the command service, brain, gate and projector, to be given to `add_children`."""
        rows = []
        for role in roles:
            for gate in (self.settings.gates or [None]) if role == "gate" else [None]:
                row = role_process(role, self.environment(), self._servers, gate)
                rows.append(replace(row, without=kept_back(role, self.settings, gate)))
        return rows

    def run_step(self, *words: str, timeout_s: float = 120.0) -> str:
        """Run one `chimera` command to its end (such as `topics apply`) and return what it printed.

        Raises `ChildFailed` with the end of its output when it fails or takes longer than `timeout_s`.
        """
        name = " ".join(words)
        argv = [sys.executable, "-m", "chimera.cli.main", *words]
        try:
            done = subprocess.run(
                argv, env={**os.environ, **self.environment()}, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ChildFailed(f"`chimera {name}` did not end within {timeout_s:g} s: run it by hand to see why") from error
        fd = open_log(self.logs / "setup.log")
        with os.fdopen(fd, "w") as log:
            log.write(f"$ chimera {name}\n{done.stdout}{done.stderr}")
        if done.returncode != 0:
            said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise ChildFailed(f"`chimera {name}` failed with exit code {done.returncode}: {said}")
        return done.stdout

    def announce_ready(self) -> None:
        """Say in the stack file that everything that belongs to this stack now runs (`chimera up --detach` waits for it)."""
        self._phase = "ready"
        self._publish(self._running().states())

    def states(self) -> list[ChildState]:
        """What is known of each process; empty when the stack is not started."""
        return [] if self._supervisor is None else self._supervisor.states()

    def environment(self) -> dict[str, str]:
        """Environment variables, added to this program's, with which a process finds this stack."""
        return environment(self.settings, self.home)

    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise ChimeraError(f"the stack in {self.home} is not started: call start() first")
        return self._supervisor

    # --- lock and stack file ----------------------------------------------------------------------------------------

    def _take_lock(self, patience_s: float = 1.0) -> None:
        make_home(self.home)
        fd = os.open(self.home / addresses.LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # A reader that only looks holds the lock for an instant; a stack holds it for good.
                if time.monotonic() > deadline:
                    pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                    os.close(fd)
                    raise AlreadyRunning(
                        f"a stack already runs in {self.home} (pid {pid}): stop it with `chimera down`, "
                        f"or choose another home by CHIMERA_HOME"
                    ) from None
                time.sleep(0.05)
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._lock_fd = fd

    def _publish(self, states: list[ChildState]) -> None:
        with self._publishing:
            known = {} if self._addresses is None else {**self._addresses.model_dump(), "page": self.page}
            rows = [{**asdict(state), "log": str(state.log)} for state in states]
            addresses.publish(
                self.home, {"phase": self._phase, "pid": os.getpid(), "home": str(self.home), **known, "children": rows}
            )


def _leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM and SIGHUP unwind the program like Ctrl-C does, so that every `with` block closes."""
    raise SystemExit(128 + number)


def end_of_log(home: Path, name: str, lines: int) -> list[str]:
    """The last lines of one process's log."""
    return log_tail(home / "logs" / f"{name}.log", lines)
