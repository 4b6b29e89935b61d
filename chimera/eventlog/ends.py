"""Where the log ends, asked again and again over one connection: for lag, health and watching.

The rule not to break: an answer is the broker's of this moment or an error; an old answer is never handed out for a new one.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from chimera.eventlog.cluster import admin_client, unavailable
from chimera.eventlog.offsets import LATEST


class Ends:
    """The end offsets of some partitions of one topic. For one thread."""

    def __init__(self, bootstrap: str, topic: str, partitions: Iterable[int], timeout_s: float = 5.0) -> None:
        self._bootstrap, self._topic, self._timeout_s = bootstrap, topic, timeout_s
        self._partitions = sorted(partitions)
        self._admin: AdminClient | None = None

    def now(self) -> dict[int, int]:
        """Partition -> offset that its next record will get. Raises `KafkaUnavailable`."""
        wanted = {TopicPartition(self._topic, p): LATEST for p in self._partitions}
        self._admin = self._admin or admin_client(self._bootstrap)
        try:
            answers = self._admin.list_offsets(wanted, request_timeout=self._timeout_s)
            return {tp.partition: answer.result(self._timeout_s).offset for tp, answer in answers.items()}
        except (KafkaException, TimeoutError) as error:
            # The client asks on under the leader epochs that it knows, and after a broker's restart those are fenced off until its
            # metadata expire, which is minutes: the next question is asked by a client that knows nothing yet.
            self._admin = None
            raise unavailable(self._bootstrap, f"tell the offsets of {self._topic}", error) from error
