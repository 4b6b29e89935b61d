"""`chimera audit verify`: what `verify.py` in an export checks, and what needs Chimera's code: the fold, and the Parquet files.

The rule not to break: nothing is believed that can be computed; what must be believed (two keys) is asked for and printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chimera.audit.cells import Cells
from chimera.audit.files import row_of
from chimera.audit.leaf import Seen, see
from chimera.audit.lines import line as line_of
from chimera.audit.manifest import ENVELOPE, MANIFEST, Manifest, load_manifest, software
from chimera.audit.partition import file_of
from chimera.audit.source import AT_ONCE
from chimera.audit.standalone import Damage, Line, Report, Work, check_partition, check_partitions
from chimera.audit.standalone import verify as verify_bytes
from chimera.audit.workers import side_by_side
from chimera.events.envelope import Record, key_id
from chimera.events.law import LAW
from chimera.events.partition import PartitionFold, UnknownLaw
from chimera.events.raw import RawRecord
from chimera.events.state import Ruling
from chimera.projections.folding import new_fold

__all__ = ["Report", "verify"]


def verify(
    directory: Path,
    *,
    keys: list[bytes] | None = None,
    root: str | None = None,
    previous: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    jobs: int = 0,
) -> Report:
    """Check everything that an export claims. `keys`: public keys of the notary, `root`: id of the root key, that are trusted.

    Raises `ManifestTrouble` when there is no export at all.
    """
    if not (directory / MANIFEST).is_file() and not (directory / ENVELOPE).is_file():
        load_manifest(directory)
    run = _Run()
    report = verify_bytes(directory, keys=keys, root=root, previous=previous, progress=progress, jobs=jobs, run=run.partitions)
    report.damages += run.damages
    for check, why in run.skipped.items():
        if why:
            report.skipped[check] = why
        elif check in report.skipped:
            del report.skipped[check]
    return report


class _Run:
    """Checks partitions as `verify.py` does, and their rulings and cells in the same reading."""

    def __init__(self) -> None:
        self.damages: list[Damage] = []
        self.skipped: dict[str, str] = {}
        """What only our code can say: rulings by a fresh fold, and the cells of Parquet files. Empty text: it was looked at."""

    def partitions(self, work: list[Work], jobs: int) -> Iterator[tuple[int, Report]]:
        """Number of the partition in `work`, and what was found."""
        try:
            manifest = Manifest.model_validate(work[0][1])
            key_id(manifest.root_public)
        except (ValueError, IndexError) as error:
            what = str(error).splitlines()[0]
            self.damages.append(Damage("manifest", MANIFEST, -1, f"it is not the manifest of an export: {what}"))
            yield from check_partitions(work, 1)
            return
        self.skipped = _unseen(manifest)
        todo = [_Work(n, each, not self.skipped["rulings"], not self.skipped["cells"]) for n, each in enumerate(work)]
        for item, (found, skipped) in side_by_side(_check, todo, jobs, lambda item: int(item.of[3]["size"])):
            self.skipped |= skipped
            yield item.number, found


def _unseen(manifest: Manifest) -> dict[str, str]:
    """Why rulings and cells cannot be looked at; empty texts where they can."""
    if "jsonl" not in manifest.formats:
        return {"rulings": "the export holds no JSON lines", "cells": "the export holds no JSON lines to compare with"}
    return {"rulings": _unfoldable(manifest), "cells": "" if "parquet" in manifest.formats else "the export holds no Parquet"}


def _unfoldable(manifest: Manifest) -> str:
    """Why rulings cannot be computed from this export; empty where they can."""
    if not manifest.selection.whole or manifest.selection.from_ms is not None:
        return "the fold needs every record from the first on, and this export withholds some"
    if manifest.law > LAW:
        return f"it is of law {manifest.law}, this code knows {LAW}: use the version that wrote it"
    return ""


class _Work(NamedTuple):
    number: int
    of: Work
    fold: bool
    cells: bool


def _check(work: _Work) -> tuple[Report, dict[str, str]]:
    """One partition; and what could not be looked at."""
    again = _Again(work)
    report = check_partition(work.of, again)
    again.close()
    report.damages += again.report.damages
    for check in ("rulings", "cells", "records"):
        report.checked[check] += again.report.checked[check]
    return report, again.report.skipped


class _Again:
    """Rulings and cells of one partition, from its lines."""

    def __init__(self, work: _Work) -> None:
        directory, told, topic, part, _ = work.of
        self.report = Report()
        self._topic, self._partition = topic["topic"], part["partition"]
        self._file = file_of(self._topic, self._partition, "jsonl")
        self._hint = "" if told["software"] == software() else f" (written by {told['software']}, this is {software()})"
        folds = work.fold and topic["ruled"]
        self._fold = new_fold(self._partition, len(topic["partitions"]), told["root_public"]) if folds else None
        cells = file_of(self._topic, self._partition, "parquet")
        self._table = Cells(directory, cells, self.report) if work.cells else None
        self._due = 0
        self._waiting: list[tuple[int, bytes, Line]] = []

    def line(self, number: int, text: bytes, line: Line | None) -> None:
        """The next line."""
        if line is None:  # named by the check of records
            self._look()
            self._give_up(self._due)
            if self._table is not None:
                self._table.add(self._due, None)
            self._due += 1
            return
        if (line.members["partition"], line.offset) != (self._partition, self._due):
            self._look()
            self._give_up(self._due)
        self._due = line.offset + 1
        if self._fold is not None or self._table is not None:
            self._waiting.append((number, text, line))
            if len(self._waiting) == AT_ONCE:
                self._look()

    def close(self) -> None:
        """There are no more lines."""
        self._look()
        if self._table is not None:
            self._table.close(self._due)

    def _look(self) -> None:
        """At the lines that wait: one step for all of them, then the next."""
        lines, self._waiting = self._waiting, []
        seens = [see(self._record(line)) for _, _, line in lines]
        if self._fold is not None and not self._refold(self._fold, lines, seens):
            self._fold = None
        if self._table is not None:
            for seen, (_, _, line) in zip(seens, lines, strict=True):
                self._table.add(line.offset, row_of(seen, _told(line) if "ruling" in line.members else None))

    def _record(self, line: Line) -> RawRecord:
        return RawRecord(self._topic, line.members["partition"], line.offset, line.appended, line.key, line.value, line.headers)

    def _give_up(self, index: int) -> None:
        """What follows cannot be ruled, and no silence may pass for agreement."""
        if self._fold is not None:
            why = "rulings from here on were not compared: this record is not what is due"
            self.report.expect("rulings", False, self._file, index, why)
            self._fold = None

    def _refold(self, fold: PartitionFold, lines: list[tuple[int, bytes, Line]], seens: list[Seen]) -> bool:
        """Rule these records; False once the fold cannot go on."""
        ruled: list[tuple[Record, Ruling]] = []
        stopped = ""
        try:
            for seen in seens:
                ruled.append(fold.apply(seen.raw))
        except UnknownLaw as error:
            stopped = str(error)
        for (number, text, line), seen, (record, ruling) in zip(lines, seens, ruled, strict=False):
            self.report.checked["rulings"] += 1
            told, right = _told(line), (ruling.outcome, ruling.reason, ruling.version)
            if told != right:
                why = f"line {number}: {told} in the file, {right} when folded again{self._hint}; not compared further"
                self.report.fault("rulings", self._file, line.offset, why)
                return False
            self.report.checked["records"] += 1
            if line_of(seen, record, ruling) != text:
                self.report.fault("records", self._file, line.offset, f"line {number} is not written as an export writes it")
                return False
        if stopped:
            number, _, line = lines[len(ruled)]
            return self.report.expect("rulings", False, self._file, line.offset, f"line {number}: {stopped}")
        return True


def _told(line: Line) -> tuple[Any, Any, Any]:
    """Ruling, reason and state version as the line says them."""
    return line.members.get("ruling"), line.members.get("rulingreason"), line.members.get("stateversion")
