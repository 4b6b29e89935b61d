"""The records that this process has decoded and verified, by place: what is folded is what jobs read a moment later.

The rule not to break: a record on the log never changes, so what is held is never stale, but it is held as the fold read it; who
must know what Kafka holds before acting outside (the executor) reads the bytes again.
"""

from __future__ import annotations

from collections import OrderedDict

from chimera.events.envelope import Record
from chimera.events.state import Ref

_OVERHEAD_BYTES = 2_500
"""A decoded record beside its texts: the model, its dictionaries and lists."""


class Readings:
    """The records read last, bounded by the bytes that they hold, about. Used on one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._records: OrderedDict[Ref, Record] = OrderedDict()
        self.bytes = 0

    def get(self, ref: Ref) -> Record | None:
        """The record at this place when it is held."""
        record = self._records.get(ref)
        if record is not None:
            self._records.move_to_end(ref)
        return record

    def put(self, record: Record) -> None:
        """Hold a record, letting those used longest ago go; one larger than everything that may be held is not."""
        ref, size = Ref(record.partition, record.offset), held_bytes(record)
        if ref in self._records or size > self._max_bytes:
            return
        self._records[ref] = record
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, gone = self._records.popitem(last=False)
            self.bytes -= held_bytes(gone)


def held_bytes(record: Record) -> int:
    """Bytes that a decoded record holds, about: its value, the texts in it once more, and what Python adds."""
    return 2 * len(record.value) + _OVERHEAD_BYTES
