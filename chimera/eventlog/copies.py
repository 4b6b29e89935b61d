"""Copies of the log for staging: a topic of another kind, in which records keep their bytes, their places and their append times.

The rule not to break: a copy's timestamps are its writer's (CreateTime) and a live log's are the broker's. Every process that acts
refuses to start on such a topic (`require_topics`), so what lies in a copy can be folded and looked at, and is never executed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from chimera.errors import ChimeraError
from chimera.eventlog.clientlog import ClientLog
from chimera.eventlog.cluster import actual_topics, cluster_id, create_topics
from chimera.eventlog.read import end_offsets, log
from chimera.eventlog.topics import TopicSpec, load_topics
from chimera.events.raw import RawRecord

KIND = "message.timestamp.type"
OURS = "CreateTime"
LEFT_OUT = [("chimera_left_out", b"1")]
"""Headers of a record that only keeps the place of one that was not copied: it has no key and no value."""
_FLUSH_S = 60.0


class BadTarget(ChimeraError):
    """A place that nothing is copied to; the message says why and what to name instead."""


class Target(NamedTuple):
    """Where a copy goes. `ready`: it exists and is empty."""

    bootstrap: str
    topic: str
    cluster: str
    ready: bool


def target(text: str, source_bootstrap: str, partitions: int) -> Target:
    """`TOPIC` on the source's cluster, or `host:port/TOPIC` on another. Raises `BadTarget` for what is, or may be, a live log.

    A topic that is there must be a copy (CreateTime), empty, and have as many partitions as the source.
    """
    address, _, topic = text.rpartition("/")
    bootstrap = address or source_bootstrap
    if not topic or (":" in topic and not address):
        raise BadTarget(f"--to {text} names no topic: write TOPIC, or host:port/TOPIC for another cluster")
    if topic in load_topics().names or topic.startswith("__"):
        raise BadTarget(
            f"--to {text}: '{topic}' is the name of a live topic, on this cluster or another: name one such as staging.{topic}"
        )
    there = actual_topics(bootstrap, [topic]).get(topic)
    if there is not None:
        if there.config.get(KIND) != OURS:
            raise BadTarget(
                f"--to {text}: its timestamps are the broker's ({KIND}), as a live log's are: name a topic that does not exist"
            )
        if there.partitions != partitions:
            raise BadTarget(
                f"--to {text} has {there.partitions} partitions, not {partitions}: streams would lie elsewhere; name another"
            )
        held = sum(end_offsets(bootstrap, topic).values())
        if held:
            raise BadTarget(f"--to {text} holds {held} records: places would not be kept; name another topic, or delete this one")
    return Target(bootstrap, topic, cluster_id(bootstrap), there is not None)


def create(at: Target, partitions: int) -> None:
    """The copy's topic, where it is not there yet. Raises `KafkaUnavailable`."""
    if not at.ready:
        config = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", KIND: OURS}
        spec = TopicSpec(name=at.topic, purpose="copy", key="stream", partitions=partitions, config=config)
        create_topics(at.bootstrap, [spec], 30.0)


class CopyWriter:
    """Writes records to a copy at the places that they had. For one thread."""

    def __init__(self, at: Target) -> None:
        self._at = at
        self._failed: str | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": at.bootstrap,
                "client.id": "chimera-copy",
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": "zstd",
                "message.timeout.ms": 60_000,
            },
            logger=ClientLog(log),
        )

    def write(self, raws: Iterable[RawRecord]) -> None:
        """Append each to its partition, under its own append time. Raises `BadTarget` where one did not get its own place."""
        for raw in raws:
            self._produce(raw)
        if self._failed is not None:
            raise BadTarget(self._failed)

    def flush(self) -> None:
        """Return when all is there. Raises `BadTarget`."""
        left = self._producer.flush(_FLUSH_S)
        if left and self._failed is None:
            self._failed = f"{left} records did not reach {self._at.topic} within {_FLUSH_S:g} s: is that cluster up?"
        if self._failed is not None:
            raise BadTarget(f"{self._failed}; delete topic {self._at.topic} and copy again")

    def _produce(self, raw: RawRecord) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failed = self._failed or f"{self._at.topic} did not take {raw.partition}:{raw.offset}: {error.str()}"
            elif message.offset() != raw.offset:
                self._failed = self._failed or (
                    f"{raw.partition}:{raw.offset} came to lie at {message.offset()}: somebody else writes to {self._at.topic}"
                )

        how: dict[str, Any] = {"partition": raw.partition, "timestamp": raw.append_ts, "headers": raw.headers}
        while True:
            try:
                self._producer.produce(self._at.topic, raw.value, raw.key, on_delivery=delivered, **how)
                break
            except BufferError:
                self._producer.poll(0.5)
            except KafkaException as error:
                raise BadTarget(f"{self._at.topic} takes nothing: {error}") from error
        self._producer.poll(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.purge()
        self._producer.flush(5.0)
