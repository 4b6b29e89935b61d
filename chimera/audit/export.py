"""`chimera audit export`: the log as files, one per partition in offset order, each record with its ruling.

The rule not to break: the same log gives the same bytes. A partition's file has its name only when it is complete.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from chimera.audit.lines import line
from chimera.audit.manifest import MANIFEST, PLAN, Manifest, PartitionPart, Plan, dump, software, totals
from chimera.errors import ChimeraError
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.envelope import key_id
from chimera.events.law import LAW
from chimera.projections.engine import LOG, new_fold


class ExportRefused(ChimeraError):
    """The directory is not one that this export may write into."""


def export(
    bootstrap: str,
    root_public: str,
    out: Path,
    *,
    topic: str = LOG,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Export everything that was in the log when the export began; an interrupted export is resumed by the same call.

    Raises `ExportRefused` for a directory that holds anything else, and what reading the log raises.
    """
    plan = _plan(bootstrap, root_public, out, topic)
    total, done = sum(plan.ends.values()), 0
    parts: list[PartitionPart] = []
    for partition in sorted(plan.ends):
        end = plan.ends[partition]
        part = _finished(out, plan, partition)
        if part is None:
            before = done
            part = _export_partition(bootstrap, out, plan, partition, lambda n, before=before: progress(before + n, total))  # type: ignore[misc]
        done += end
        progress(done, total)
        parts.append(part)
    manifest = Manifest(
        software=plan.software,
        law=plan.law,
        topic=plan.topic,
        root=plan.root,
        root_public=plan.root_public,
        partitions=parts,
        totals=totals(parts),
    )
    _write_whole(out / MANIFEST, dump(manifest))
    for partition in plan.ends:
        _receipt(out, plan, partition).unlink(missing_ok=True)
    (out / PLAN).unlink()
    return manifest


def _plan(bootstrap: str, root_public: str, out: Path, topic: str) -> Plan:
    """The plan of this directory: a new one for an empty directory, the old one where it fits."""
    out.mkdir(parents=True, exist_ok=True)
    found = sorted(path.name for path in out.iterdir())
    if MANIFEST in found:
        raise ExportRefused(
            f"{out} holds a finished export: name another directory, or check this one by `chimera audit verify {out}`"
        )
    fresh = Plan(
        software=software(),
        law=LAW,
        topic=topic,
        root=key_id(root_public),
        root_public=root_public,
        ends=end_offsets(bootstrap, topic),
    )
    if not found:
        _write_whole(out / PLAN, dump(fresh))
        return fresh
    if PLAN not in found:
        raise ExportRefused(f"{out} is not empty and holds no export ({found[0]} is there): name an empty directory")
    try:
        old = Plan.model_validate_json((out / PLAN).read_bytes())
    except ValidationError as error:
        raise ExportRefused(f"{out / PLAN} cannot be read: empty the directory and export again") from error
    same = old.model_copy(update={"ends": fresh.ends})
    if same != fresh or old.ends.keys() != fresh.ends.keys() or any(old.ends[p] > fresh.ends[p] for p in old.ends):
        raise ExportRefused(
            f"{out} holds an export of another log or by another version that was interrupted: name another directory"
        )
    return old


def _finished(out: Path, plan: Plan, partition: int) -> PartitionPart | None:
    """What an interrupted run has finished already; its bytes are checked."""
    receipt, path = _receipt(out, plan, partition), out / _file(plan.topic, partition)
    if not receipt.exists() or not path.exists():
        return None
    part = PartitionPart.model_validate_json(receipt.read_bytes())
    with path.open("rb") as file:
        return part if hashlib.file_digest(file, "sha256").hexdigest() == part.sha256 else None


def _export_partition(bootstrap: str, out: Path, plan: Plan, partition: int, progress: Callable[[int], None]) -> PartitionPart:
    fold = new_fold(partition, len(plan.ends), plan.root_public)
    path = out / _file(plan.topic, partition)
    draft = path.with_name(path.name + ".part")
    sha, size, count = hashlib.sha256(), 0, 0
    outcomes: Counter[str] = Counter()
    upto: Mapping[int, int] = {partition: plan.ends[partition]}
    with draft.open("wb") as file:
        for raws in read_until(bootstrap, plan.topic, [partition], None, upto):
            lines: list[bytes] = []
            for raw in raws:
                record, ruling = fold.apply(raw)
                lines.append(line(raw, record, ruling))
                outcomes[ruling.outcome] += 1
            block = b"\n".join(lines) + b"\n"
            file.write(block)
            sha.update(block)
            size, count = size + len(block), count + len(raws)
            progress(count)
    part = PartitionPart(
        partition=partition,
        file=path.name,
        count=count,
        first=0 if count else None,
        last=count - 1 if count else None,
        bytes=size,
        sha256=sha.hexdigest(),
        applied=outcomes["applied"],
        rejected=outcomes["rejected"],
        void=outcomes["void"],
    )
    draft.replace(path)
    _write_whole(_receipt(out, plan, partition), dump(part))
    return part


def _file(topic: str, partition: int) -> str:
    return f"{topic}-{partition:02d}.jsonl"


def _receipt(out: Path, plan: Plan, partition: int) -> Path:
    return out / (_file(plan.topic, partition) + ".done")


def _write_whole(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(content)
    draft.replace(path)
