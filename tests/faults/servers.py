"""Kafka and PostgreSQL outside the stack, each behind a proxy; and small disks that can be filled.

The rule not to break: the test's own eyes go around the proxy, so that what it says of an outage is not blurred by it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from chimera.stack.addresses import Addresses
from chimera.stack.kafka import prepare_kafka
from chimera.stack.postgres import prepare_postgres
from chimera.stack.process import free_port
from chimera.stack.supervisor import Supervisor
from tests.faults.proxy import Proxy


class Outside(NamedTuple):
    """Two servers: through their proxies as the stack sees them, and as they are."""

    kafka: Proxy
    postgres: Proxy
    through: Addresses
    direct: Addresses


@contextmanager
def servers_behind_proxies() -> Iterator[Outside]:
    """Start both servers; the broker has a second listener that it advertises at its proxy's port."""
    with ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="chimera-test-servers-", ignore_cleanup_errors=True)))
        kafka, postgres = prepare_kafka(home / "kafka"), prepare_postgres(home / "postgres", durable=False)
        direct = int(kafka.bootstrap.rpartition(":")[2])
        taken = [direct]
        for _ in range(3):
            taken.append(free_port(avoid=taken))
        listener, kafka_port, postgres_port = taken[1:]
        _listen_twice(home / "kafka" / "server.properties", direct, listener, kafka_port)
        supervisor = Supervisor(home / "logs")
        supervisor.start()
        closing.callback(supervisor.stop)
        supervisor.add([kafka.child, postgres.child])
        socket = Path(parse_qs(urlsplit(postgres.dsn).query)["host"][0]) / ".s.PGSQL.5432"
        kafka_proxy = closing.enter_context(Proxy(("127.0.0.1", listener), kafka_port))
        postgres_proxy = closing.enter_context(Proxy(socket, postgres_port))
        dsn = f"postgresql://postgres@127.0.0.1:{postgres_port}/chimera?connect_timeout=5"
        through = Addresses(kafka=f"127.0.0.1:{kafka_port}", postgres=dsn)
        yield Outside(kafka_proxy, postgres_proxy, through, Addresses(kafka=kafka.bootstrap, postgres=postgres.dsn))


def _listen_twice(config: Path, direct: int, listener: int, advertised: int) -> None:
    changed = {
        "listeners": lambda old: f"{old},PROXIED://127.0.0.1:{listener}",
        "advertised.listeners": lambda old: f"{old},PROXIED://127.0.0.1:{advertised}",
        "listener.security.protocol.map": lambda old: f"{old},PROXIED:PLAINTEXT",
    }
    lines = [line.split("=", 1) for line in config.read_text().splitlines()]
    config.write_text("".join(f"{name}={changed.get(name, str)(value)}\n" for name, value in lines))
    assert f"PLAINTEXT://127.0.0.1:{direct},CONTROLLER" in config.read_text()
