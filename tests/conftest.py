"""Real servers for the tests, started once per session, and an honest account of what was skipped.

The rule not to break: a test never shares a topic or a database with another; the servers are shared, their contents are not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no finding: neither a slow example nor slowly made ones fail a property.
settings.register_profile("chimera", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("chimera")

ALLOWED_SKIPS: dict[str, str] = {
    "tests/e2e/test_control_browser.py": "Chromium is the system's; pages are tested over HTTP everywhere",
    "tests/integration/test_desk_browser.py": "Chromium is the system's; the desk is tested over HTTP everywhere",
    "tests/faults/test_full_disk.py": "a disk of its own needs mount(2), which root has, and not in every container",
    "tests/integration/test_simulator_page.py": "a browser is no part of Chimera, and is looked at where there is one",
    "tests/integration/test_sandbox_page.py::test_chromium": "a browser is no part of Chimera, and is looked at where there is one",
    "tests/integration/test_memory_kills.py": "Weaviate takes minutes to build; CHIMERA_TEST_WEAVIATE names a built server",
    "tests/integration/test_memory_store.py": "Weaviate takes minutes to build; CHIMERA_TEST_WEAVIATE names a built server",
    "tests/integration/test_real_servers.py": "real servers are installed only by those who want to compare them with ours",
}
"""Node id prefix -> why a skip is right there even in CI. Everything else that is skipped fails a run with CI=true."""

_skipped: list[tuple[str, str]] = []


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """Address of a real broker: CHIMERA_TEST_KAFKA, else a container where Docker answers, else a local process."""
    given = os.environ.get("CHIMERA_TEST_KAFKA")
    if given:
        yield given
        return
    with ExitStack() as stack:
        yield stack.enter_context(_kafka_container() if _docker_answers() else _kafka_process())


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """URL of a real PostgreSQL: CHIMERA_TEST_POSTGRES, else a container where Docker answers, else a local process."""
    given = os.environ.get("CHIMERA_TEST_POSTGRES")
    if given:
        yield given
        return
    with ExitStack() as stack:
        yield stack.enter_context(_postgres_container() if _docker_answers() else _postgres_process())


@pytest.fixture
def make_database(postgres_dsn: str) -> Iterator[Callable[[], str]]:
    """A function that makes a fresh, empty database and gives its URL; all of them are dropped after the test."""
    import psycopg

    made: list[str] = []

    def make() -> str:
        name = f"test_{uuid.uuid4().hex[:16]}"
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        made.append(name)
        return _with_database(postgres_dsn, name)

    yield make
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        for name in made:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _with_database(dsn: str, name: str) -> str:
    from urllib.parse import urlsplit, urlunsplit

    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


@contextmanager
def _home(kind: str) -> Iterator[Path]:
    """A short path of our own: pytest's temporary directories are closed to the user that the database runs as."""
    home = Path(tempfile.mkdtemp(prefix=f"chimera-test-{kind}-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _kafka_process() -> Iterator[str]:
    from chimera.stack.kafka import prepare_kafka
    from chimera.stack.supervisor import Supervisor

    with _home("kafka") as home:
        kafka = prepare_kafka(home)
        supervisor = Supervisor(home / "logs")
        supervisor.start()
        try:
            supervisor.add([kafka.child])
            yield kafka.bootstrap
        finally:
            supervisor.stop()


@contextmanager
def _postgres_process() -> Iterator[str]:
    from chimera.stack.postgres import prepare_postgres
    from chimera.stack.supervisor import Supervisor

    with _home("postgres") as home:
        postgres = prepare_postgres(home, durable=False)
        supervisor = Supervisor(home / "logs")
        supervisor.start()
        try:
            supervisor.add([postgres.child])
            yield postgres.dsn
        finally:
            supervisor.stop()


def _docker_answers() -> bool:
    import docker  # type: ignore[import-untyped]
    from docker.errors import DockerException  # type: ignore[import-untyped]

    try:
        client = docker.from_env(timeout=2)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except DockerException:
        return False


@contextmanager
def _kafka_container() -> Iterator[str]:
    from testcontainers.kafka import KafkaContainer

    with KafkaContainer().with_kraft() as kafka:
        yield kafka.get_bootstrap_server()


@contextmanager
def _postgres_container() -> Iterator[str]:
    from testcontainers.postgres import PostgresContainer

    with PostgresContainer("pgvector/pgvector:pg18", driver=None) as postgres:
        yield postgres.get_connection_url()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember every skip with its reason."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append((report.nodeid, reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what did not run, and why, at the end of every run."""
    for nodeid, reason in _skipped:
        mark = "" if _may_skip(nodeid) else " (not on the list of allowed skips)"
        terminalreporter.write_line(f"skipped: {nodeid}: {reason}{mark}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that silently does not run is a failure."""
    hidden = [nodeid for nodeid, _ in _skipped if not _may_skip(nodeid)]
    if os.environ.get("CI") == "true" and session.exitstatus == 0 and hidden:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _may_skip(nodeid: str) -> bool:
    return any(nodeid.startswith(prefix) for prefix in ALLOWED_SKIPS)
