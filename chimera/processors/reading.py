"""Records of the log for those who work here: what was folded a moment ago from memory, everything else from Kafka.

The rule not to break: who is about to act outside reads Kafka's bytes, never what is held as it was folded.
"""

from __future__ import annotations

from chimera import failpoints
from chimera.commands.keys import LOG
from chimera.eventlog.store import RecordStore
from chimera.events.envelope import Record
from chimera.events.raw import RawRecord
from chimera.events.state import Ref
from chimera.processors.readback import read_before_calls
from chimera.processors.readings import Readings
from chimera.processors.swarm import Swarm

READ_BYTES = 32 * 1024 * 1024
RAW_BYTES = 16 * 1024 * 1024
"""What a process keeps of records at hand: decoded for jobs, and as Kafka sent them what its executor reads back before a call."""


class Reading:
    """The records that one process reads, decoded and verified by the fold of their partition."""

    def __init__(self, bootstrap: str, client_id: str, swarm: Swarm) -> None:
        self._swarm = swarm
        self._readings = Readings(READ_BYTES)
        self._store = RecordStore(bootstrap, client_id=client_id, cache_bytes=RAW_BYTES)

    def folded(self, record: Record, raw: RawRecord) -> None:
        """A record that is about to be folded is what jobs read next."""
        self._readings.put(record)
        if "executor" in self._swarm.roles and read_before_calls(record):
            self._store.cache.put(raw)

    async def read(self, ref: Ref) -> Record:
        """The record at a place. Raises `RecordMissing`, `ReadFailed`."""
        record = self._readings.get(ref)
        if record is None:
            record = await self.read_back(ref)
            self._readings.put(record)
        await failpoints.at("record.read")
        return record

    async def read_back(self, ref: Ref) -> Record:
        """The record made from the bytes that Kafka holds, decoded and verified anew."""
        raw = await self._store.aread_at(LOG, ref.partition, ref.offset)
        return self._swarm.fold_for(ref.partition).read(raw)

    def holds(self, partition: int) -> bool:
        """Is the partition folded here, caught up or not?"""
        return partition in self._swarm.partitions

    async def read_held(self, ref: Ref) -> Record:
        """A record of a partition that is held here. Raises LookupError where it moved away meanwhile."""
        record = self._readings.get(ref)
        if record is None:
            raw = await self._store.aread_at(LOG, ref.partition, ref.offset)
            record = self._swarm.partitions[ref.partition].read(raw)
        return record

    def close(self) -> None:
        """Let the connection go."""
        self._store.close()
