"""What one record of the log costs a process that only reads and folds it: piece by piece, and by type.

    python benchmarks/record.py [--agents N] [--posts N]

CPU time of one thread, the least of some rounds, microseconds per record; no servers. Records are those of agents' days, signed
where commands are. Consuming is not in it (`benchmarks/project.py` reads from Kafka), nor is anything made of what was folded.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from chimera.events.envelope import LAW_KEY_PREFIX, Record, decode, decode_claimed, verified
from chimera.events.headers import plain_headers
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.upcasters import TYPES
from chimera.projections.engine import new_fold
from chimera.projections.tuned import tuned
from tests.integration.projection_data import PARTITIONS, History, day

ROUNDS = 5
LAW = LAW_KEY_PREFIX.encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--agents", type=int, default=60)
    parser.add_argument("--posts", type=int, default=20)
    given = parser.parse_args()
    tuned()
    h = History("chimera.log")
    for n in range(given.agents):
        day(h, f"agent-{n}", given.posts)
    raws = [raw for raw in h.raws() if not (raw.key or b"").startswith(LAW)]
    size = sum(len(raw.value or b"") for raw in raws) / len(raws)
    records = [decode(raw) for raw in raws]
    validate = {name: model.__pydantic_validator__.validate_json for name, model in TYPES.items()}
    signed = [(decode_claimed(raw)[0], claim[1]) for raw in raws if (claim := decode_claimed(raw)[1]) is not None]
    print(f"{len(raws)} records, {size:.0f} B a value, {100 * len(signed) / len(raws):.1f} % signed; us per record")
    public = h.command.public
    pieces: dict[str, float] = {
        "decode": least(lambda: [decode(raw) and None for raw in raws], len(raws)),
        "  of which headers": least(lambda: [plain_headers(raw.headers) and None for raw in raws], len(raws)),
        "  of which values": least(lambda: [validate[r.type](r.value) and None for r in records if r.type in validate], len(raws)),
        "verify": least(lambda: [verified(record, claim, public) for record, claim in signed], len(raws)),
        "rule": min(ruling(h, raws)[0] for _ in range(ROUNDS)),
    }
    for name, figure in pieces.items():
        print(f"{name:<24} {figure:>8.2f}")
    print(f"{'type':<24} {'share %':>8} {'decode':>8} {'rule':>8}")
    by_type = defaultdict[str, list[RawRecord]](list)
    for raw, record in zip(raws, records, strict=True):
        by_type[record.type].append(raw)
    ruled = ruling(h, raws)[1]
    for name, own in sorted(by_type.items(), key=lambda item: -len(item[1])):
        decoded = least(lambda own=own: [decode(raw) and None for raw in own], len(own))
        print(f"{name:<24} {100 * len(own) / len(raws):>8.1f} {decoded:>8.2f} {ruled[name] / len(own):>8.2f}")


def least(run: Callable[[], object], items: int) -> float:
    """CPU us per item, the least of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        run()
        best = min(best, time.process_time() - began)
    return 1e6 * best / items


def ruling(h: History, raws: Sequence[RawRecord]) -> tuple[float, dict[str, float]]:
    """CPU us per record of ruling all of them, and us of all records of each type.

    The second holds a look at the clock for each record: it says which type is dear, the first what one costs.
    """
    by_type = defaultdict[str, float](float)
    whole = 0.0
    for told_apart in (False, True):
        folds = {p: new_fold(p, PARTITIONS, h.root.public) for p in range(PARTITIONS)}
        for raw in h.raws():
            if (raw.key or b"").startswith(LAW):
                folds[raw.partition].apply(raw)
        for start in range(0, len(raws), 100):  # as many as stay in the core's cache: a reader rules what it has just read
            read = [folds[raw.partition].read(raw) for raw in raws[start : start + 100]]
            whole += rule_apart(folds, read, by_type) if told_apart else rule(folds, read)
    return 1e6 * whole / len(raws), by_type


def rule(folds: dict[int, PartitionFold], records: Sequence[Record]) -> float:
    began = time.process_time()
    for record in records:
        folds[record.partition].rule(record)
    return time.process_time() - began


def rule_apart(folds: dict[int, PartitionFold], records: Sequence[Record], by_type: dict[str, float]) -> float:
    for record in records:
        began = time.process_time()
        folds[record.partition].rule(record)
        by_type[record.type] += 1e6 * (time.process_time() - began)
    return 0.0


if __name__ == "__main__":
    main()
