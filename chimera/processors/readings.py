"""The records that this process has decoded and verified, by place: what is folded is what jobs read a moment later.

The rule not to break: a record on the log never changes, so what is held is never stale, but it is held as the fold read it; who
must know what Kafka holds before acting outside (the executor) reads the bytes again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from chimera.events.envelope import ALIKE, Record
from chimera.events.state import Ref

_UNREAD = frozenset(
    (
        "AccountLinked",
        "AgentEnrolled",
        "CopiesDelivered",
        "EffectClaimed",
        "EffectDeferred",
        "EffectSubmitted",
        "FundsAnswered",
        "TaskPlanned",
        "WorkStarted",
    )
)
"""What the state says all of. Every third record is one of these: held for nobody, they would push out what jobs come back to."""
_OVERHEAD_BYTES = 2_500
"""A decoded record beside its texts: the model, its dictionaries and lists."""
_ALIKE_BYTES = 1_000
"""A record whose content all who adopted the same hold together."""


class Readings:
    """The records read last, bounded by the bytes that they hold, about. Used on one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._records: OrderedDict[Ref, tuple[Record, int]] = OrderedDict()
        self.bytes = 0

    def get(self, ref: Ref) -> Record | None:
        """The record at this place when it is held, without its bytes (`value` is empty)."""
        held = self._records.get(ref)
        if held is None:
            return None
        self._records.move_to_end(ref)
        return held[0]

    def put(self, record: Record) -> None:
        """Hold a record, letting those used longest ago go; not what no job reads, nor one larger than all that may be held."""
        if record.type in _UNREAD:
            return
        ref, size = Ref(record.partition, record.offset), held_bytes(record)
        if ref in self._records or size > self._max_bytes:
            return
        self._records[ref] = replace(record, value=b""), size
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, (_, gone) = self._records.popitem(last=False)
            self.bytes -= gone


def held_bytes(record: Record) -> int:
    """Bytes that a decoded record will hold, about: the texts in its value, and what Python adds."""
    return _ALIKE_BYTES if record.type in ALIKE else len(record.value) + _OVERHEAD_BYTES
