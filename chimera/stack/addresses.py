"""Where the servers are: written by the running stack, read by every process and command.

The rule not to break: a file left by a dead stack is never believed; the stack's lock says whether it runs.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from chimera.errors import ChimeraError
from chimera.settings import Settings
from chimera.stack.process import free_port

STACK_FILE = "stack.json"
LOCK_FILE = "stack.lock"
CONTROL_FILE = "control/port"
MEDIA_FILE = "control/media-port"


class StackDown(ChimeraError):
    """An address is wanted that only a running stack could give."""


class Addresses(BaseModel):
    """Addresses of everything a process talks to.

    `kafka`: bootstrap servers `host:port,...`. `postgres`: a libpq connection URL (for SQLAlchemy replace `postgresql://` by
    `postgresql+psycopg://`). `mcp`: URL of each MCP server by name (`x`, `feeds`, `ideogram` ...), as far as known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka: str
    postgres: str
    mcp: Mapping[str, str] = {}


def load(settings: Settings) -> Addresses:
    """Addresses by the settings where they name one, else of the stack that runs in `settings.home`.

    Raises `StackDown` when neither gives Kafka and Postgres.
    """
    running = running_stack(settings.home)
    kafka = settings.kafka or running.get("kafka")
    postgres = settings.postgres or running.get("postgres")
    if kafka is None or postgres is None:
        raise _down(settings.home)
    return Addresses(kafka=kafka, postgres=postgres, mcp={**running.get("mcp", {}), **mcp_overrides(settings)})


def load_kafka(settings: Settings) -> str:
    """The broker's address alone, for what must work while Postgres is down. Raises `StackDown`."""
    kafka = settings.kafka or running_stack(settings.home).get("kafka")
    if kafka is None:
        raise _down(settings.home)
    return str(kafka)


def control_url(home: Path) -> str:
    """Where this home's Mission Control listens. The port is chosen once, so that bookmarks last."""
    return f"http://127.0.0.1:{_kept_port(home / CONTROL_FILE)}"


def media_url(home: Path) -> str:
    """Where its media are served: a site of its own by port and by name, so that no cookie of the desk is ever sent there."""
    return f"http://localhost:{_kept_port(home / MEDIA_FILE)}"


def _kept_port(file: Path) -> int:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):  # what a full disk or a power cut left is no port either
        port = free_port()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, str(port))
        return port


def kept_ports(file: Path) -> dict[str, int]:
    """Name -> port, as they were before; none where the file holds none: ports are chosen anew then."""
    try:
        found = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {str(name): port for name, port in found.items() if isinstance(port, int)} if isinstance(found, dict) else {}


def write_whole(file: Path, text: str) -> None:
    """Write a file in one step: a reader sees the old one or the new one, never a part; readable by its owner alone."""
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(file)


def mcp_overrides(settings: Settings) -> dict[str, str]:
    """MCP servers that the settings name."""
    named = {"x": settings.x_url, "feeds": settings.feeds_url, "writer": settings.writer_url}
    return {**settings.mcp, **{name: url for name, url in named.items() if url is not None}}


def mcp_urls(settings: Settings) -> dict[str, str]:
    """Setting names that profiles use (`x_url`) -> server addresses. What is missing is launched over stdio."""
    known = {**running_stack(settings.home).get("mcp", {}), **mcp_overrides(settings)}
    return {f"{name}_url": url for name, url in known.items()}


def running_stack(home: Path) -> dict[str, Any]:
    """The stack file of the stack that runs in this home; empty when none runs."""
    if holder(home) is None:
        return {}
    try:
        found = json.loads((home / STACK_FILE).read_text())
    except FileNotFoundError:
        return {}  # it runs, but has no address to tell yet
    except ValueError as error:
        raise ChimeraError(f"{home / STACK_FILE} is not JSON ({error}): stop the stack and start it again") from error
    if not isinstance(found, dict):
        raise ChimeraError(f"{home / STACK_FILE} holds no JSON object: stop the stack and start it again")
    return found


def holder(home: Path) -> int | None:
    """Pid of the program that runs a stack in this home; None when none does.

    The lock is the kernel's (flock): it is gone with its holder, however that one ended.
    """
    try:
        fd = os.open(home / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else -1
    finally:
        os.close(fd)
    return None


def publish(home: Path, content: Mapping[str, Any]) -> None:
    """Write the stack file."""
    write_whole(home / STACK_FILE, json.dumps(content, indent=2) + "\n")


def _down(home: Path) -> StackDown:
    return StackDown(f"no stack runs in {home.resolve()}: start it with `chimera up` or set CHIMERA_KAFKA and CHIMERA_POSTGRES")
