"""What proving costs: an export with lines and Parquet, its verification with and without our code, one proof in a large tree.

    python benchmarks/audit.py [--agents N] [--leaves N] [--jobs N] [--json]

The rule not to break: every figure stands beside its limit from the same run. The log lies in files, so what Kafka costs to read is
not in it (`benchmarks/export.py` exports a log that lies on a broker), reading the files is; records are those of agents' days,
signed where commands are, each folded anew. On a busy machine the rates say little; CPU time per record, beside the fold's in the
same run, says more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chimera.audit import standalone, tlog
from chimera.audit.export import export
from chimera.audit.files import Tiles, Written
from chimera.audit.leaf import leaf_of
from chimera.audit.note import sign
from chimera.audit.tree import StoredTree, TreeWriter
from chimera.audit.verify import verify
from chimera.events.raw import RawRecord
from chimera.projections.folding import new_fold
from tests.audithouse import LOG, MemorySource, home_for, notarise, source_of
from tests.integration.projection_data import History, day


class Stored(NamedTuple):
    """A log in files, one per partition, so that each process reads its own part alone."""

    directory: Path
    counts: dict[str, dict[int, int]]

    def ends(self, topic: str) -> dict[int, int]:
        return self.counts[topic]

    def read(self, topic: str, partition: int, end: int) -> Iterator[list[RawRecord]]:
        import pickle

        records = pickle.loads((self.directory / f"{topic}-{partition}").read_bytes())[:end]
        for at in range(0, len(records), 2000):
            yield records[at : at + 2000]


def stored(source: MemorySource, directory: Path) -> Stored:
    """The log as files."""
    import pickle

    directory.mkdir()
    for topic, partitions in source.topics.items():
        for partition, records in partitions.items():
            (directory / f"{topic}-{partition}").write_bytes(pickle.dumps(records))
    return Stored(directory, {topic: source.ends(topic) for topic in source.topics})


def rate(count: int, began: float) -> float:
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--agents", type=int, default=300)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as place:
        found |= of_an_export(Path(place), given.agents, given.jobs)
        found |= of_a_tree(Path(place), given.leaves)
        found["notary CPU us per record"] = of_the_notary(Path(place))
    for name, figure in found.items():
        print(f"{name:<46} {figure:>14,.2f}", file=sys.stderr if given.json else sys.stdout)
    if given.json:
        print(json.dumps(found))


def of_an_export(place: Path, agents: int, jobs: int) -> dict[str, float]:
    """Records per second, all processes together, and the memory of the largest."""
    made = History(LOG)
    for n in range(agents):
        day(made, f"agent-{n}")
    source = source_of(made)
    home = home_for(place / "home", made)
    notarise(home, source)
    files, count = stored(source, place / "log"), len(made.entries)
    blocks = [entry.value + b"".join(value for _, value in entry.headers) for entry in made.entries]
    began = time.perf_counter()
    for block in blocks:
        hashlib.sha256(block).digest()
    found = {"records": float(count), "limit: sha256 of the same bytes, records/s": rate(count, began)}
    began = time.perf_counter()
    export(files, home, place / "out", jobs=jobs)
    found["export records/s"] = rate(count, began)
    used = time.process_time()
    for partition in files.ends(LOG):
        fold = new_fold(partition, len(files.ends(LOG)), made.root.public)
        for raws in files.read(LOG, partition, count):
            for raw in raws:
                fold.apply(raw)
    folding = time.process_time() - used
    found |= {"fold alone, CPU us per record": folding / count * 1e6, "fold alone, records per CPU second": count / folding}
    began, used = time.perf_counter(), time.process_time()
    export(files, home, place / "alone")
    spent = time.process_time() - used
    found |= {
        "export, one process, records/s": rate(count, began),
        "export, CPU us per record": spent / count * 1e6,
        "export without its fold, CPU us per record": (spent - folding) / count * 1e6,
        "export, records per CPU second": count / spent,
    }
    used = time.process_time()
    assert standalone.verify(place / "out", jobs=1).intact
    found["verify.py, CPU us per record"] = (time.process_time() - used) / count * 1e6
    used = time.process_time()
    assert verify(place / "out", jobs=1).intact
    found["audit verify, CPU us per record"] = (time.process_time() - used) / count * 1e6
    began = time.perf_counter()
    assert standalone.verify(place / "out", jobs=jobs).intact
    found["verify.py records/s"] = rate(count, began)
    began = time.perf_counter()
    assert verify(place / "out", jobs=jobs).intact
    found["audit verify (fold and cells too) records/s"] = rate(count, began)
    return found


def of_a_tree(place: Path, leaves: int) -> dict[str, float]:
    """Checking the tiles of a tree against its root, and one proof in it."""
    tiles = Tiles(Written(place / "big"), "tree")
    began = time.perf_counter()
    for at in range(0, leaves, 512):
        tiles.extend([tlog.leaf_hash(n.to_bytes(8, "big")) for n in range(at, min(at + 512, leaves))])
    root = tiles.close()
    found = {"tiles written, leaves/s": rate(leaves, began)}
    report = standalone.Report()
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    standalone.check_tree(place / "big" / "tree", "tree", leaves, root, report)
    found["verify leaves/s"] = rate(leaves, began)
    found["verify grew by MiB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert report.intact
    began = time.perf_counter()
    for n in range(20):
        index = n * (leaves // 20)
        tree = StoredTree(place / "big" / "tree", leaves)  # a new one: nothing is remembered from the proof before
        path = tlog.inclusion_proof(index, leaves, tree.hash)
        tlog.check_inclusion(index, leaves, tlog.leaf_hash(index.to_bytes(8, "big")), path, root)
    found["one proof ms"] = (time.perf_counter() - began) / 20 * 1000
    return found | {"leaves": float(leaves)}


def of_the_notary(place: Path, seconds: int = 10, per_second: int = 1_000) -> float:
    """CPU that the byte trees take, in us per record: leaf, tree, tiles on disk, and a commit every two seconds in 24 partitions.

    Reading from Kafka is not in it. At 1,000 records a second every 10 us are one percent of a core.
    """
    made = History(LOG)
    for n in range(20):
        day(made, f"agent-{n}")
    entries = made.entries
    writers = [TreeWriter(place / "notary" / str(p), str(p)) for p in range(24)]
    key = Ed25519PrivateKey.generate()
    used = time.process_time()
    for n in range(seconds * per_second):
        entry = entries[n % len(entries)]
        writer = writers[n % 24]
        raw = RawRecord(LOG, n % 24, writer.next_index, n, entry.key.encode(), entry.value, entry.headers)
        writer.extend(leaf_of(raw))
        if n % (2 * per_second) == 2 * per_second - 1:
            for each in writers:
                each.commit(sign(each.checkpoint().text, [(each.origin, key)]))
    return (time.process_time() - used) / (seconds * per_second) * 1e6


if __name__ == "__main__":
    main()
