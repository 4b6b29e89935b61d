"""The whole local stack on real servers: data stay, nothing is left behind, mistakes are said in one sentence."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from chimera.settings import Settings
from chimera.stack import addresses
from chimera.stack.local import AlreadyRunning, LocalStack
from chimera.stack.process import PortInUse

HOST = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from chimera.settings import Settings
    from chimera.stack.local import LocalStack
    with LocalStack(Settings(home=Path(sys.argv[1])), sandbox=()) as stack:
        stack.start()
        stack.announce_ready()
        print(*[state.pid for state in stack.states()], flush=True)
        time.sleep(600)
    """
)


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="chimera-test-stack-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def settings(home: Path) -> Settings:
    return Settings(home=home, kafka=None, postgres=None)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def leave_marks(found: addresses.Addresses) -> None:
    admin = AdminClient({"bootstrap.servers": found.kafka})
    admin.create_topics([NewTopic("marks", num_partitions=1)])["marks"].result(timeout=20)
    producer = Producer({"bootstrap.servers": found.kafka, "acks": "all"})
    producer.produce("marks", b"here")
    assert producer.flush(20) == 0
    with psycopg.connect(found.postgres) as connection:
        connection.execute("CREATE TABLE marks AS SELECT 'here' AS mark")


def assert_marks(found: addresses.Addresses) -> None:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": found.kafka, "group.id": "none", "enable.auto.commit": False})
    low, high = consumer.get_watermark_offsets(TopicPartition("marks", 0), timeout=20)
    consumer.close()
    assert (low, high) == (0, 1)
    with psycopg.connect(found.postgres) as connection:
        assert connection.execute("SELECT mark FROM marks").fetchone() == ("here",)


def test_data_and_ports_stay_over_a_restart_and_one_home_holds_one_stack(home: Path) -> None:
    with LocalStack(settings(home), sandbox=()) as stack:
        first = stack.start()
        leave_marks(first)
        assert addresses.load(settings(home)) == first
        with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}\): stop it with `chimera down`"):
            LocalStack(settings(home), sandbox=()).start()
        pids = [state.pid for state in stack.states()]
    assert all(pid is not None and gone(pid) for pid in pids)
    with pytest.raises(addresses.StackDown):
        addresses.load(settings(home))
    with LocalStack(settings(home), sandbox=()) as stack:
        again = stack.start()
        assert again == first
        assert_marks(again)


def test_after_kill_minus_nine_nothing_runs_and_the_next_start_finds_the_data(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOST, str(home)], stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout is not None
            pids = [int(word) for word in host.stdout.readline().split()]
            assert len(pids) == 3, "broker, database and cache"
            leave_marks(addresses.load(settings(home)))
        finally:
            host.send_signal(signal.SIGKILL)
    assert addresses.holder(home) is None
    deadline = time.monotonic() + 20
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline, "a server outlived its supervisor"
        time.sleep(0.05)
    with LocalStack(settings(home), sandbox=()) as stack:
        assert_marks(stack.start())


def test_sigterm_stops_everything_in_order(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOST, str(home)], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pids = [int(word) for word in host.stdout.readline().split()]
        host.terminate()
    assert host.returncode == 128 + signal.SIGTERM
    assert all(gone(pid) for pid in pids)
    assert "database system is shut down" in (home / "logs" / "postgres.log").read_text()


def test_a_used_port_stops_the_start_with_the_way_out_and_leaves_the_home_free(home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} .* asked for by the local Kafka broker"):
            LocalStack(settings(home), kafka_port=port, sandbox=()).start()
    assert addresses.holder(home) is None
