"""`chimera audit verify`: what `verify.py` in an export checks, and what needs Chimera's code: the fold, and the Parquet files.

The rule not to break: nothing is believed that can be computed; what must be believed (two keys) is asked for and printed.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from chimera.audit import tlog
from chimera.audit.cells import Cells
from chimera.audit.export import RARELY
from chimera.audit.files import row_of
from chimera.audit.leaf import leaf_of
from chimera.audit.lines import BadLine, line, parse
from chimera.audit.manifest import ENVELOPE, MANIFEST, Manifest, Part, TopicPart, load_manifest, software
from chimera.audit.partition import file_of
from chimera.audit.standalone import MANY, Report
from chimera.audit.standalone import verify as verify_bytes
from chimera.events.envelope import key_id
from chimera.events.law import LAW
from chimera.events.partition import PartitionFold, UnknownLaw
from chimera.events.raw import RawRecord
from chimera.projections.folding import new_fold

__all__ = ["Report", "fold_again", "verify"]


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
    report = verify_bytes(directory, keys=keys, root=root, previous=previous, progress=progress, jobs=jobs)
    fold_again(directory, report, jobs)
    return report


def fold_again(directory: Path, report: Report, jobs: int = 0) -> None:
    """Add to the report of `verify.py` what only our code can say: rulings by a fresh fold, and the cells of the Parquet files."""
    try:
        manifest = Manifest.model_validate(report.manifest)
        key_id(manifest.root_public)
    except ValueError as error:
        what = str(error).splitlines()[0]
        report.expect("manifest", False, MANIFEST, -1, f"it is not the manifest of an export: {what}")
        return
    if "jsonl" not in manifest.formats:
        report.skipped |= {"rulings": "the export holds no JSON lines", "cells": "the export holds no JSON lines to compare with"}
        return
    report.skipped.pop("rulings"), report.skipped.pop("cells")
    why = _unfoldable(manifest)
    if why:
        report.skipped["rulings"] = why
    cells = "parquet" in manifest.formats
    if not cells:
        report.skipped["cells"] = "the export holds no Parquet"
    work = [
        _Work(directory, manifest, topic, part, topic.ruled and not why, cells)
        for topic in manifest.topics
        for part in topic.partitions
    ]
    jobs = jobs or (os.cpu_count() or 1 if manifest.totals.count >= MANY else 1)
    if jobs == 1:
        for each in work:
            report.add(_check(each))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=gc.set_threshold, initargs=RARELY) as pool:
        for found in pool.map(_check, work):
            report.add(found)


def _unfoldable(manifest: Manifest) -> str:
    """Why rulings cannot be computed from this export; empty where they can."""
    if not manifest.selection.whole or manifest.selection.from_ms is not None:
        return "the fold needs every record from the first on, and this export withholds some"
    if manifest.law > LAW:
        return f"it is of law {manifest.law}, this code knows {LAW}: use the version that wrote it"
    return ""


class _Work(NamedTuple):
    directory: Path
    manifest: Manifest
    topic: TopicPart
    part: Part
    fold: bool
    cells: bool


def _check(work: _Work) -> Report:
    """Rulings and cells of one partition."""
    report = Report()
    directory, manifest, topic, part, fold, cells = work
    file = file_of(topic.topic, part.partition, "jsonl")
    folding = new_fold(part.partition, len(topic.partitions), manifest.root_public) if fold else None
    table = Cells(directory, file_of(topic.topic, part.partition, "parquet"), report) if cells else None
    due = 0
    for number, text in _lines(directory / file):
        try:
            raw, members = parse(text, topic.topic)
        except BadLine:  # named by the check of records
            _give_up(folding, file, due, report)
            if table is not None:
                table.add(due, None)
            folding, due = None, due + 1
            continue
        if folding is not None and (raw.partition, raw.offset) != (part.partition, due):
            _give_up(folding, file, due, report)
            folding = None
        due = raw.offset + 1
        digest = hashlib.sha256(raw.value or b"").hexdigest()
        if folding is not None and not _refold(folding, raw, text, members, digest, file, number, manifest, report):
            folding = None
        if table is not None:
            table.add(raw.offset, _row(raw, members, digest))
    if table is not None:
        table.close(due)
    return report


def _give_up(fold: PartitionFold | None, file: str, index: int, report: Report) -> None:
    """What follows cannot be ruled, and no silence may pass for agreement."""
    if fold is not None:
        report.expect("rulings", False, file, index, "rulings from here on were not compared: this record is not what is due")


def _refold(
    fold: PartitionFold,
    raw: RawRecord,
    text: bytes,
    members: dict[str, Any],
    digest: str,
    file: str,
    number: int,
    manifest: Manifest,
    report: Report,
) -> bool:
    """Rule one record; False once the fold cannot go on."""
    try:
        record, ruling = fold.apply(raw)
    except UnknownLaw as error:
        return report.expect("rulings", False, file, raw.offset, f"line {number}: {error}")
    told = (members.get("ruling"), members.get("rulingreason"), members.get("stateversion"))
    ruled = (ruling.outcome, ruling.reason, ruling.version)
    hint = "" if manifest.software == software() else f" (written by {manifest.software}, this is {software()})"
    why = f"line {number}: {told} in the file, {ruled} when folded again{hint}"
    if not report.expect("rulings", told == ruled, file, raw.offset, f"{why}; not compared further"):
        return False
    return report.expect(
        "records",
        line(raw, record, ruling, digest) == text,
        file,
        raw.offset,
        f"line {number} is not written as an export writes it",
    )


def _row(raw: RawRecord, members: dict[str, Any], digest: str) -> tuple[Any, ...]:
    leaf = leaf_of(raw, digest)
    ruled = (members.get("ruling"), members.get("rulingreason"), members.get("stateversion")) if "ruling" in members else None
    return row_of(raw, ruled, leaf, tlog.leaf_hash(leaf).hex(), digest)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if path.is_file():
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                yield number, text.removesuffix(b"\n")
