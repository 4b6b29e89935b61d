"""Single records and single agents found on the log without folding all of it.

The rule not to break: an agent's rulings depend on its own stream and on the law of its partition, so those two are folded and
nothing else; every ruling shown is the law's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from chimera.commands.keys import PARTITIONS
from chimera.commands.trace import Ruled
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.envelope import LAW_KEY_PREFIX
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord

Progress = Callable[[int, int], None]
_ID = "ce_id"


class Log(NamedTuple):
    """Where the log is, and which root key it hangs on."""

    bootstrap: str
    topic: str
    root_public: str


def at(log: Log, partition: int, offset: int) -> RawRecord | None:
    """The record at that place; None where the log has none there. Raises what reading raises."""
    ends = end_offsets(log.bootstrap, log.topic)
    if offset >= ends.get(partition, 0):
        return None
    for batch in read_until(log.bootstrap, log.topic, [partition], {partition: offset}, {partition: offset + 1}):
        return batch[0]
    return None


def by_id(log: Log, id_: str, progress: Progress) -> list[RawRecord]:
    """Every record of that id: the whole log is read, headers are compared, nothing is decoded. Raises what reading raises."""
    wanted = (_ID, id_.encode())
    return [raw for raw in _read(log, range(PARTITIONS), progress) if wanted in raw.headers]


def stream(
    log: Log, partition: int, key: bytes | None, progress: Progress, upto: int | None = None
) -> tuple[list[Ruled], PartitionFold]:
    """All records with that key in that partition (those below `upto` where it is given), ruled; and the fold that ruled them.

    Raises what reading raises.
    """
    fold = PartitionFold(partition, PARTITIONS, log.root_public, place)
    law = LAW_KEY_PREFIX.encode()
    found: list[Ruled] = []
    for raw in _read(log, [partition], progress, upto):
        if raw.key == key:
            found.append(Ruled(*fold.apply(raw)))
        elif raw.key is not None and raw.key.startswith(law):
            fold.apply(raw)
    return found, fold


def _read(log: Log, partitions: Iterable[int], progress: Progress, upto: int | None = None) -> Iterator[RawRecord]:
    ends = end_offsets(log.bootstrap, log.topic, partitions)
    if upto is not None:
        ends = {p: min(end, upto) for p, end in ends.items()}
    done, total = 0, sum(ends.values())
    for batch in read_until(log.bootstrap, log.topic, ends, None, ends):
        yield from batch
        done += len(batch)
        progress(done, total)
