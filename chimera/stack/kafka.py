"""The local broker: a real Apache Kafka, one KRaft node on 127.0.0.1, from jars and a Java that packages bring.

The rule not to break: the broker's data are formatted once and never again; a home that holds a log is only ever started.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chimera.errors import ChimeraError
from chimera.stack.java import find_java
from chimera.stack.process import demand_port, free_port
from chimera.stack.supervisor import Child

KAFKA_VERSION = "4.4.0"
JARS = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:2.0.17"
"""The broker, and a logging back end: without one it writes no log at all."""

HEAP = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Small and quick to start; measured good for 120,000 records/s of 500 bytes."""

CONFIG = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
"""
"""The short broker session lets a broker that was killed register again after 4 s instead of 9; with one node nobody else
could take over anyway."""


class JarsMissing(ChimeraError):
    """The broker's jars could not be resolved."""


@dataclass(frozen=True)
class Kafka:
    """A broker ready to be started: its address and the row for the supervisor's table."""

    bootstrap: str
    child: Child


def resolve_jars() -> list[Path]:
    """The broker's class path, downloaded once into the user's caches (`~/.m2`, `~/.cache/jgo`), 45 MB.

    Raises `JarsMissing` when the jar registry does not answer or `jgo` is not installed.
    """
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.env import EnvironmentBuilder, LinkStrategy
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise JarsMissing(
            f"the local Kafka broker needs the extra 'stack' ({error}): "
            f"run `pip install 'chimera-swarm[stack]'` or set CHIMERA_KAFKA"
        ) from error
    config = GlobalSettings.load()
    context = MavenContext(
        repo_cache=config.repo_cache,
        # jgo's own resolver always: a Maven on PATH would bring its own settings and moods.
        resolver=PythonResolver(),
        remote_repos={"central": MAVEN_CENTRAL_URL, **config.repositories},
    )
    builder = EnvironmentBuilder(context=context, cache_dir=config.cache_dir, link_strategy=LinkStrategy.AUTO)
    try:
        with _one_at_a_time(config.cache_dir):
            jars = [Path(jar) for jar in builder.from_endpoint(JARS).all_jars]
    except (OSError, RuntimeError, ValueError) as error:  # requests' errors are OSErrors
        raise JarsMissing(
            f"the jars of Apache Kafka {KAFKA_VERSION} could not be resolved ({_short(error)}): check that the Maven registry is "
            f"reachable (REQUESTS_CA_BUNDLE names an own CA), or set CHIMERA_KAFKA to a running broker"
        ) from error
    if not any(jar.name == f"kafka_2.13-{KAFKA_VERSION}.jar" for jar in jars):
        raise JarsMissing(
            f"jgo resolved {len(jars)} jars for {JARS}, but not the broker's: delete {config.cache_dir} and start again"
        )
    return jars


@contextlib.contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    """Two first starts at once would write the same jar files."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".chimera.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _short(error: BaseException | str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "…"


def prepare_kafka(
    home: Path,
    *,
    java: Path | None = None,
    port: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Kafka:
    """Make `home` (a directory of the broker's own) a formatted broker home and say how to start it.

    The port is kept over restarts while it is free; `port` demands one. Raises `NoJava`, `JarsMissing`, `PortInUse`, or
    `ChimeraError` when formatting fails.
    """
    if port is not None:
        demand_port(port, "the local Kafka broker")
    binary, version = find_java(java)
    progress(f"Java {version} at {binary}")
    progress(f"jars of Apache Kafka {KAFKA_VERSION} (the first time 45 MB are fetched)")
    jars = resolve_jars()
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    broker_port, controller_port = _choose_ports(home / "ports.json", port)
    config, data = home / "server.properties", home / "data"
    config.write_text(CONFIG.format(port=broker_port, controller_port=controller_port, data=data))
    run = [str(binary), *HEAP, *_quiet(version), *_logging(), "-cp", os.pathsep.join(map(str, jars))]
    if not (data / "meta.properties").exists():
        progress("formatting the broker's log directory")
        _format(run, config)
    bootstrap = f"127.0.0.1:{broker_port}"
    child = Child(
        name="kafka",
        argv=[*run, "kafka.Kafka", str(config)],
        cwd=home,
        ready=lambda: answers_metadata(bootstrap),
        ready_timeout_s=60,
        stop_timeout_s=20,
    )
    return Kafka(bootstrap, child)


def _choose_ports(path: Path, demanded: int | None) -> tuple[int, int]:
    kept = json.loads(path.read_text()) if path.exists() else {}
    broker = demanded if demanded is not None else free_port(kept.get("broker"))
    controller = free_port(kept.get("controller"), avoid=(broker,))
    path.write_text(json.dumps({"broker": broker, "controller": controller}))
    return broker, controller


def _quiet(java: int) -> list[str]:
    """zstd's native code makes newer Javas print warnings."""
    return ["--enable-native-access=ALL-UNNAMED"] if java >= 22 else []


def _logging() -> list[str]:
    simple = "-Dorg.slf4j.simpleLogger."
    return [
        f"{simple}showDateTime=true",
        f"{simple}dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
        f"{simple}defaultLogLevel=info",
        f"{simple}log.org.apache.kafka.common.config=warn",
        f"{simple}log.org.apache.kafka.common.utils.AppInfoParser=warn",
    ]


def _format(run: list[str], config: Path) -> None:
    cluster = base64.urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    answer = subprocess.run(
        [*run, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config), "--ignore-formatted"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if answer.returncode != 0:
        raise ChimeraError(
            f"the broker's log directory beside {config} could not be formatted: {_short(answer.stderr + answer.stdout)}"
        )


def answers_metadata(bootstrap: str, timeout_s: float = 2.0) -> bool:
    """True when the broker gives a real metadata answer that names a broker (not merely an open port)."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    host, _, port = bootstrap.split(",")[0].rpartition(":")
    try:
        # First the bare port: a client would retry and log while the broker is still starting.
        socket.create_connection((host, int(port)), timeout=timeout_s).close()
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": int(timeout_s * 1000)})
        return bool(admin.list_topics(timeout=timeout_s).brokers)
    except (OSError, KafkaException):
        return False
