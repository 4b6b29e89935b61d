"""Offsets asked of the broker: where partitions begin or end, or stood at a time.

The rule not to break: a leader that moves is waited for, since a log whose broker just came back is not one that cannot be read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # its stubs leave it out of __all__

from chimera.errors import ChimeraError
from chimera.eventlog.cluster import admin_client, unavailable

LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

_LEADER_MOVES = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
    }
)
"""What a broker answers for a partition that was just made, or whose leader just moved or came back."""


class ReadFailed(ChimeraError):
    """A partition that cannot be read, or that made no progress before its deadline."""


def offsets_of(bootstrap: str, topic: str, partitions: Iterable[int] | None, which: OffsetSpec, timeout_s: float) -> dict[int, int]:
    """Per partition (all when None) the offset that was asked for. Raises `ReadFailed`, `KafkaUnavailable`."""
    admin = admin_client(bootstrap)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return _once(admin, bootstrap, topic, partitions, which, timeout_s)
        except (KafkaException, TimeoutError) as error:
            cause = error.args[0] if error.args else None
            moving = isinstance(cause, KafkaError) and cause.code() in _LEADER_MOVES
            if not moving or time.monotonic() > deadline:
                raise unavailable(bootstrap, f"tell the offsets of {topic}", error) from error
            time.sleep(0.05)


def _once(
    admin: AdminClient, bootstrap: str, topic: str, partitions: Iterable[int] | None, which: OffsetSpec, timeout_s: float
) -> dict[int, int]:
    listed = admin.list_topics(topic, timeout=timeout_s).topics[topic]
    if listed.error is not None:
        if listed.error.code() in _LEADER_MOVES:
            raise KafkaException(listed.error)
        raise ReadFailed(f"topic {topic} at {bootstrap}: {listed.error.str()}; run `chimera topics apply`")
    wanted = sorted(listed.partitions if partitions is None else partitions)
    unknown = [p for p in wanted if p not in listed.partitions]
    if unknown:
        raise ReadFailed(f"topic {topic} at {bootstrap} has {len(listed.partitions)} partitions, not {unknown}")
    if not wanted:
        return {}
    answers = admin.list_offsets({TopicPartition(topic, p): which for p in wanted}, request_timeout=timeout_s)
    return {tp.partition: answer.result(timeout_s).offset for tp, answer in answers.items()}
