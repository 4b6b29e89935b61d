"""Signatures verified ahead of the fold, on another core: an Ed25519 verification costs more than all else that a fold does.

The rule not to break: a record is read under the law in force at its place. Where a stretch may change the law, nothing is
read ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

from chimera.events.envelope import LAW_KEY_PREFIX, Record
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord

CHUNK = 16
_LAW = LAW_KEY_PREFIX.encode()
Read = Callable[[RawRecord], Record]


def read_ahead(fold: PartitionFold, raws: Sequence[RawRecord], pool: Executor) -> Read:
    """Begin to read the signed ones among the next records of `fold` (verifying lets go of the interpreter); how to read each."""
    if any(raw.key is not None and raw.key.startswith(_LAW) for raw in raws):
        return fold.read
    # Where the signature is not the last header, as `encode` writes it, the record is read in its turn: slower, not otherwise.
    signed = [raw for raw in raws if raw.headers and raw.headers[-1][0] == "ce_signature"]
    begun: dict[int, tuple[Future[list[Record]], int]] = {}
    for start in range(0, len(signed), CHUNK):
        chunk = signed[start : start + CHUNK]
        reading = pool.submit(_read_all, fold, chunk)
        begun.update((raw.offset, (reading, place)) for place, raw in enumerate(chunk))

    def read(raw: RawRecord) -> Record:
        found = begun.get(raw.offset)
        return fold.read(raw) if found is None else found[0].result()[found[1]]

    return read


def _read_all(fold: PartitionFold, raws: Sequence[RawRecord]) -> list[Record]:
    return [fold.read(raw) for raw in raws]
