"""CPU time of other processes on this machine, from /proc: so that a figure says who worked for it. None where they run elsewhere.

The rule not to break: what a process that has ended took is counted with its parent, or not at all, never twice.
"""

from __future__ import annotations

import os
from pathlib import Path

import psycopg

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def of_postgres(dsn: str) -> float | None:
    """Seconds of the server and of all its processes since it was started."""
    with psycopg.connect(dsn) as connection:
        asked = connection.execute("SELECT pg_backend_pid(), current_setting('data_directory')").fetchone()
    assert asked is not None
    try:
        server = int((Path(asked[1]) / "postmaster.pid").read_text().split()[0])
        every = {int(path.name): _stat(path) for path in Path("/proc").glob("[0-9]*")}
    except OSError:
        return None
    if server not in every:
        return None
    living = sum(_own(found) for found in every.values() if _parent(found) == server)
    return _own(every[server]) + _of_children(every[server]) + living


def of_listener(address: str) -> float | None:
    """Seconds of the process that listens on the port of `host:port` since it was started."""
    port = f":{int(address.split(',')[0].rsplit(':', 1)[1]):04X}"
    listening = {
        fields[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(port) and fields[3] == "0A"
    }
    sockets = {f"socket:[{inode}]" for inode in listening}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(file) in sockets for file in (process / "fd").iterdir()):
                return _own(_stat(process))
        except OSError:  # it ended, or is somebody else's
            continue
    return None


def _stat(process: Path) -> list[str]:
    """The fields of `stat` behind the name; empty for a process that has ended."""
    try:
        return (process / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def _parent(found: list[str]) -> int:
    return int(found[1]) if found else 0


def _own(found: list[str]) -> float:
    return (int(found[11]) + int(found[12])) * _TICK if found else 0.0


def _of_children(found: list[str]) -> float:
    return (int(found[13]) + int(found[14])) * _TICK if found else 0.0
