"""Signatures verified ahead of the fold, on another core: an Ed25519 verification costs more than all else that a fold does.

The rule not to break: a record is read under the law in force at its place, so nothing is read ahead of a record that may
change the law.
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
    """How to read each of the next records of `fold`, in order; the signed ones are begun ahead of their turn.

    Verifying lets go of the interpreter, so another thread does it while this one folds. What that thread has not got to when
    its turn comes is read at once.
    """
    law_at = next((raw.offset for raw in reversed(raws) if raw.key is not None and raw.key.startswith(_LAW)), -1)
    begun: dict[int, tuple[Future[list[Record]], int]] | None = _begin(fold, raws, pool) if law_at < 0 else None

    def read(raw: RawRecord) -> Record:
        nonlocal begun
        if begun is None:
            if raw.offset <= law_at:
                return fold.read(raw)
            begun = _begin(fold, [later for later in raws if later.offset > law_at], pool)
        found = begun.get(raw.offset)
        if found is None or found[0].cancel():
            return fold.read(raw)
        return found[0].result()[found[1]]

    return read


def _begin(fold: PartitionFold, raws: Sequence[RawRecord], pool: Executor) -> dict[int, tuple[Future[list[Record]], int]]:
    """Offset -> who reads it, and its place there."""
    # Where the signature is not the last header, as `encode` writes it, the record is read in its turn: slower, not otherwise.
    signed = [raw for raw in raws if raw.headers and raw.headers[-1][0] == "ce_signature"]
    begun: dict[int, tuple[Future[list[Record]], int]] = {}
    for start in range(0, len(signed), CHUNK):
        chunk = signed[start : start + CHUNK]
        reading = pool.submit(_read_all, fold, chunk)
        begun.update((raw.offset, (reading, place)) for place, raw in enumerate(chunk))
    return begun


def _read_all(fold: PartitionFold, raws: Sequence[RawRecord]) -> list[Record]:
    return [fold.read(raw) for raw in raws]
