"""`chimera audit verify`: checks an export offline, each claim with a verdict of its own, each damage with its place.

The rule not to break: nothing is believed that can be computed; what must be believed (the root key) is printed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from chimera.audit.lines import BadLine, parse
from chimera.audit.manifest import MANIFEST, Manifest, PartitionPart, load_manifest, totals
from chimera.events.envelope import key_id, signature
from chimera.events.law import LAW
from chimera.events.partition import PartitionFold, UnknownLaw
from chimera.events.raw import RawRecord
from chimera.projections.engine import new_fold

CHECKS = {
    "root": "the root key is the one that was asked for",
    "files": "every file is there, and no other",
    "sha256": "every file has the hash that the manifest names",
    "lines": "every line is a record",
    "offsets": "offsets are contiguous, from the first to the last that the manifest names",
    "counts": "counts and totals are those of the manifest",
    "values": "every value has the hash that its line names",
    "signatures": "every signature of a key of the law holds, and so does the root's over the law",
    "rulings": "refolding gives the same ruling and state version for every record",
}


class Damage(NamedTuple):
    """One thing that does not hold, and where. `line` counts from 1; 0 = the file as a whole."""

    check: str
    file: str
    line: int
    text: str


@dataclass
class Verdicts:
    """What was checked, how often, and what did not hold."""

    root: str
    software: str
    records: int = 0
    signed: int = 0
    checked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKS, 0))
    damages: list[Damage] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not self.damages

    def holds(self, check: str) -> bool:
        return not any(damage.check == check for damage in self.damages)

    def expect(self, check: str, holds: bool, file: str, line: int, text: str) -> bool:
        """Count one assertion; note the damage where it does not hold."""
        self.checked[check] += 1
        if not holds:
            self.damages.append(Damage(check, file, line, text))
        return holds


def verify(
    directory: Path, *, root: str | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> Verdicts:
    """Check everything that an export claims. `root` pins the key id that the log must hang on.

    Raises `ManifestTrouble` when there is no manifest to check against.
    """
    manifest = load_manifest(directory)
    verdicts = Verdicts(manifest.root, manifest.software)
    own = _key_id(manifest.root_public)
    verdicts.expect("root", own == manifest.root, MANIFEST, 0, f"root {manifest.root} is not the id of its public key")
    if root is not None:
        verdicts.expect("root", manifest.root == root, MANIFEST, 0, f"root is {manifest.root}, asked for {root}")
    _check_files(directory, manifest, verdicts)
    done = 0
    for part in manifest.partitions:
        path = directory / part.file
        if path.is_file() and path.parent == directory:
            _check_partition(path, part, manifest, verdicts, lambda n, done=done: progress(done + n, manifest.totals.count))  # type: ignore[misc]
        done += part.count
    return verdicts


def _check_files(directory: Path, manifest: Manifest, verdicts: Verdicts) -> None:
    named = {part.file for part in manifest.partitions}
    there = {path.name for path in directory.iterdir()} - {MANIFEST}
    for name in sorted(named | there):
        verdicts.expect("files", name in there, name, 0, "missing")
        verdicts.expect("files", name in named, name, 0, "not named by the manifest")
    numbers = [part.partition for part in manifest.partitions]
    verdicts.expect("files", numbers == list(range(len(numbers))), MANIFEST, 0, "partitions are not 0, 1, 2 ...")
    verdicts.expect("counts", totals(manifest.partitions) == manifest.totals, MANIFEST, 0, "totals are not the sums")


def _check_partition(
    path: Path, part: PartitionPart, manifest: Manifest, verdicts: Verdicts, progress: Callable[[int], None]
) -> None:
    fold: PartitionFold | None = new_fold(part.partition, len(manifest.partitions), manifest.root_public)
    verdicts.expect("offsets", part.first in (0, None), path.name, 0, f"begins at offset {part.first}: the log begins at 0")
    sha, count, expected = hashlib.sha256(), 0, part.first if part.first is not None else 0
    outcomes = {"applied": 0, "rejected": 0, "void": 0}
    name = path.name
    for number, text in _lines(path, sha):
        count += 1
        try:
            raw, members = parse(text, manifest.topic)
        except BadLine as error:
            verdicts.expect("lines", False, name, number, str(error))
            _note_lost(fold, name, number, verdicts)
            fold = None
            expected += 1
            continue
        verdicts.checked["lines"] += 1
        place = (raw.partition, raw.offset)
        right = verdicts.expect(
            "offsets",
            place == (part.partition, expected),
            name,
            number,
            f"{place} where {(part.partition, expected)} is due",
        )
        if not right:
            _note_lost(fold, name, number, verdicts)
            fold = None
        expected = raw.offset + 1
        actual = hashlib.sha256(raw.value or b"").hexdigest()
        verdicts.expect("values", actual == members["valuesha256"], name, number, f"value of offset {raw.offset} was changed")
        if members["ruling"] in outcomes:
            outcomes[members["ruling"]] += 1
        if fold is not None and not _check_record(fold, raw, members, name, number, verdicts):
            fold = None
        if number % 1000 == 0:
            progress(number)
    verdicts.records += count
    verdicts.expect("sha256", sha.hexdigest() == part.sha256, name, 0, f"sha256 is {sha.hexdigest()}, not {part.sha256}")
    claimed = (part.count, part.applied, part.rejected, part.void)
    found = (count, outcomes["applied"], outcomes["rejected"], outcomes["void"])
    verdicts.expect("counts", found == claimed, name, 0, f"(lines, applied, rejected, void) {found}, not {claimed}")
    last = expected - 1 if count else None
    verdicts.expect("offsets", last == part.last, name, 0, f"ends at offset {last}, not {part.last}")


def _note_lost(fold: PartitionFold | None, name: str, number: int, verdicts: Verdicts) -> None:
    """A record is missing here: what follows cannot be ruled, and no silence may pass for agreement."""
    if fold is not None:
        verdicts.expect("rulings", False, name, number, "rulings and signatures from here on were not compared")


def _check_record(fold: PartitionFold, raw: RawRecord, members: dict[str, Any], name: str, number: int, verdicts: Verdicts) -> bool:
    """Signature and ruling of one record; False once the fold cannot go on."""
    try:
        record, ruling = fold.apply(raw)
    except UnknownLaw as error:
        verdicts.expect("rulings", False, name, number, f"{error} (this code knows law {LAW})")
        return False
    claimed = signature(raw)
    if claimed is not None and claimed[0] in fold.law.public and record.defect is None:
        verdicts.signed += 1
        # A signature that does not hold is no damage where the law saw it and said forged.
        fine = record.signed_by == claimed[0] or ruling.reason == "forged"
        verdicts.expect("signatures", fine and not (members["ruling"] == "applied" and record.signed_by is None), name, number,
                        f"signature by {claimed[0]} over {record.type} does not hold")  # fmt: skip
    told = (members["ruling"], members["rulingreason"], members["stateversion"])
    ruled = (ruling.outcome, ruling.reason, ruling.version)
    return verdicts.expect(
        "rulings", told == ruled, name, number, f"{told} in the file, {ruled} when refolded; not compared further"
    )


def _lines(path: Path, sha: hashlib._Hash) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            sha.update(text)
            yield number, text.removesuffix(b"\n")


def _key_id(public: str) -> str:
    try:
        return key_id(public)
    except ValueError:
        return "not a key"
