"""Starting and ending one operating-system process so that it can never be left behind.

The rule not to break: every process of the stack is started by `spawn`, from a thread that lives as long as the process
should: on Linux the kernel ends the child when the *thread* that started it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from chimera.errors import ChimeraError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
"""Loaded at import: between fork and exec nothing may be imported or looked up."""

START_MARK = "=== started "
"""Begins the line that `spawn` writes into a log before the process says its first word."""

LOG_ROTATE_BYTES = 10_000_000
"""A log file larger than this moves to `NAME.log.1` when its process is started again."""


class PortInUse(ChimeraError):
    """A port that somebody asked for by number is taken."""


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True when a server could listen on the port now (connections still in TIME_WAIT do not count)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None, avoid: Sequence[int] = ()) -> int:
    """A free port on 127.0.0.1: the preferred one when it is free, else a random one below the ephemeral range.

    Ports of the ephemeral range are no good: any outgoing connection may take them between two runs.
    """
    if preferred is not None and preferred not in avoid and port_is_free(preferred):
        return preferred
    for _ in range(200):
        port = random.randrange(20_000, 32_000)
        if port not in avoid and port_is_free(port):
            return port
    raise ChimeraError("no free port between 20000 and 32000 on 127.0.0.1 in 200 tries: stop servers that you do not need")


def demand_port(port: int, who: str) -> int:
    """The port itself when it is free; raises `PortInUse` that names who asked for it and the way out."""
    if not port_is_free(port):
        raise PortInUse(
            f"port {port} on 127.0.0.1 was asked for by {who} but another process listens there: "
            f"stop that process, choose another port, or give no port and a free one is found"
        )
    return port


def open_log(path: Path) -> int:
    """File descriptor of the log file at its end; a file beyond `LOG_ROTATE_BYTES` is first moved to `NAME.1`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_ROTATE_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def log_tail(path: Path, lines: int = 5, *, this_start: bool = False, limit: int = 64_000) -> list[str]:
    """The last lines of a log file that are not empty, on request only those since the last start; no file, no lines."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - limit))
        text = file.read().decode("utf-8", "replace")
    if this_start:
        text = text.rpartition(START_MARK)[2].partition("\n")[2]
    return [line for line in text.splitlines() if line.strip()][-lines:]


def _leash(death_signal: int, parent: int) -> Callable[[], None]:
    """What the child does between fork and exec: ask the kernel for `death_signal` when its starter dies."""

    def tie() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if os.getppid() != parent:  # the starter died between fork and prctl: nobody would send the signal
                os._exit(1)

    return tie


def spawn(
    argv: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    cwd: Path | None = None,
    user: str | None = None,
    death_signal: int = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, output appended to `log`, leashed to the calling thread.

    `env` is added to this process's environment, of which the names in `without` are kept back. `user` (only as root) drops to that
    user and its group. Raises `OSError` when the program cannot be started.
    """
    fd = open_log(log)
    os.write(fd, f"{START_MARK}{datetime.now(UTC).isoformat(timespec='milliseconds')} {argv[0]}\n".encode())
    try:
        # preexec runs after the change of user: a change of credentials would clear the death signal.
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if name not in without} | {**(env or {})},
            cwd=cwd,
            process_group=0,
            user=user,
            group=_group_of(user),
            extra_groups=[] if user else None,
            preexec_fn=_leash(death_signal, os.getpid()),
        )
    finally:
        os.close(fd)


def _group_of(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd

    return pwd.getpwnam(user).pw_gid


def signal_process(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the process if it still runs."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to whatever is left of the process's group, itself included, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
