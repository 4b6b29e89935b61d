"""How an append fails, and what is known of the record then.

The rule not to break: `maybe_written` is False only where every attempt is refused alike; any doubt is True.
"""

from __future__ import annotations

from confluent_kafka import KafkaError

from chimera.errors import ChimeraError

_NEVER_WRITTEN = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""Of any other reason, an earlier attempt may have been written and only its answer lost."""


class AppendFailed(ChimeraError):
    """An append that has no position. `maybe_written` says whether the record may nevertheless be in the log.

    Appending again is always safe for the fold (a second copy is void), so a caller retries with the same event id.
    """

    def __init__(self, topic: str, partition: int, reason: str, maybe_written: bool) -> None:
        known = "it may be in the log all the same, and giving it again is harmless" if maybe_written else "it is not in the log"
        super().__init__(f"append to {topic}[{partition}] failed: {reason}; {known}")
        self.topic = topic
        self.partition = partition
        self.reason = reason
        self.maybe_written = maybe_written


def failure_of(topic: str, partition: int, error: KafkaError) -> AppendFailed:
    """What a delivery report with an error means for its record."""
    return AppendFailed(topic, partition, error.str(), error.code() not in _NEVER_WRITTEN)
