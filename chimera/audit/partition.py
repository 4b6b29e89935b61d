"""One partition as files of an export: read, fold, write, and sign what the notary signed.

The rule not to break: an export signs no tree but the beginning of one that the notary signed, after seeing that it is one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import orjson
from pydantic import BaseModel

from chimera.audit import tlog
from chimera.audit.files import Lines, Table, Tiles, Written, row_of
from chimera.audit.leaf import Seen, see
from chimera.audit.lines import line
from chimera.audit.manifest import Part, Plan
from chimera.audit.notary import LogChanged, NotaryKeys, directory_of, load_notary_keys, origin_of, signed_checkpoint
from chimera.audit.note import Checkpoint, sign
from chimera.audit.sealed import sealed_in
from chimera.audit.source import AT_ONCE, Source, Topic, is_law
from chimera.audit.standalone import Line, Security
from chimera.audit.tree import CHECKPOINT, StoredTree
from chimera.errors import ChimeraError
from chimera.events.envelope import Record
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.records import PolicyAdopted
from chimera.events.records.tenants import PolicyPublished
from chimera.events.state import Ruling
from chimera.projections.folding import new_fold


class NotSigned(ChimeraError):
    """Records that the notary did not sign yet."""


class Job(NamedTuple):
    """What a worker needs to write one partition; it may run in another process."""

    source: Source
    home: Path
    out: Path
    plan: Plan
    topic: Topic
    partition: int


class Finished(BaseModel):
    """A partition that is written: what the manifest says of it, and its files with their SHA-256."""

    part: Part
    digests: dict[str, str]
    types: dict[str, int]
    keys: dict[str, list[str]]
    policies: list[str]
    security: str
    """SHA-256 of its security events, which wait in `security_file` until all partitions are there."""
    events: int
    subjects: list[str]
    """Pseudonyms of people whose sealed words are shown; none where all keys are withheld."""


Kind = tuple[bytes | None, bytes | None]
"""Type and schema version as a record's headers hold them."""


def _read(seen: Seen, text: bytes) -> Line:
    """What `read_line` makes of the line of this record, of which it need not be shown that an export wrote it."""
    at, raw = text.find(b',"data":'), seen.raw
    members = orjson.loads(text if at < 0 else text[:at] + b"}")
    return Line(raw.offset, raw.append_ts, raw.key, raw.value, list(raw.headers), members, seen.digest)


def _kind(seen: Seen) -> Kind:
    shape = seen.shape
    if shape is not None:
        at = shape.places.get("ce_schemaversion")
        return seen.contents[shape.type], None if at is None else seen.contents[at]
    found = dict(seen.raw.headers)
    return found.get("ce_type"), found.get("ce_schemaversion")


@lru_cache(maxsize=256)
def _told(value: bytes | None, absent: str) -> str:
    return value.decode(errors="replace") if value else absent


def _added(kinds: Mapping[Kind, int]) -> dict[str, int]:
    """How many records there are of each type and version, by their names as text."""
    found = Counter[str]()
    for (type_, version), count in kinds.items():
        found[f"{_told(type_, '?')}/{_told(version, '-')}"] += count
    return dict(found)


def outcome_leaf(offset: int, record: bytes, ruling: Ruling) -> bytes:
    """The leaf of the outcome tree: what was ruled, bound by the record's leaf hash to what it was ruled about."""
    return b'{"v":1,"offset":%d,"record":"%b"%b%d}' % (
        offset,
        record.hex().encode(),
        _ruled(ruling.outcome, ruling.reason),
        ruling.version,
    )


@lru_cache(maxsize=256)
def _ruled(outcome: str, reason: str) -> bytes:
    return b',"ruling":%b,"reason":%b,"version":' % (orjson.dumps(outcome), orjson.dumps(reason))


def outcome_origin(plan: Plan, topic: str, partition: int) -> str:
    """Whose outcome tree it is: rulings hold for one law and one version of the code."""
    return f"{origin_of(plan.installation, topic, partition)}/outcomes/law-{plan.law}/{plan.software}"


RECEIPTS = "export.parts"
Shown = tuple[Seen, Record | None, Ruling | None]
_POLICIES = frozenset((PolicyAdopted.TYPE, PolicyPublished.TYPE))


def security_file(out: Path, topic: str, partition: int) -> Path:
    """Where a partition's security events lie while the export is made."""
    return out / RECEIPTS / f"{topic}-{partition:02d}.ocsf.jsonl"


def file_of(topic: str, partition: int, kind: str) -> str:
    """A partition's records in an export."""
    return f"records/{topic}-{partition:02d}.{kind}"


def write_partition(job: Job) -> Finished:
    """Write one partition. Raises `LogChanged`, `NotSigned`, `TreeDamaged`, `BadNote`, and what reading raises."""
    writer = _Writer(job)
    try:
        for raws in job.source.read(job.topic.name, job.partition, job.plan.ends[job.topic.name][job.partition]):
            if not writer.add(raws):
                break
    finally:
        writer.close()
    return writer.finish(load_notary_keys(job.home))


class _Writer:
    def __init__(self, job: Job) -> None:
        self.job, plan, name = job, job.plan, job.topic.name
        self.below = f"{name}/{job.partition}"
        for folder in ("trees", "outcomes"):
            shutil.rmtree(job.out / folder / self.below, ignore_errors=True)  # of a run that was cut off
        self.files = Written(job.out)
        self.tree = Tiles(self.files, f"trees/{self.below}")
        self.outcomes = Tiles(self.files, f"outcomes/{self.below}")
        self.lines = Lines(self.files, file_of(name, job.partition, "jsonl")) if "jsonl" in plan.formats else None
        self.table = Table(self.files, file_of(name, job.partition, "parquet")) if "parquet" in plan.formats else None
        self.fold: PartitionFold | None = None
        if job.topic.ruled:
            self.fold = new_fold(job.partition, len(plan.ends[name]), plan.root_public)
        self.first: int | None = None
        self.first_appended: int | None = None
        self.last_appended: int | None = None
        self.count = self.laws = 0
        self.rulings, self.types = Counter[str](), Counter[Kind]()
        self.policies, self.subjects = set[str](), set[str]()
        self.security = Security(name, job.partition, plan.software)
        self.events, self.events_sha = 0, hashlib.sha256()
        path = security_file(job.out, name, job.partition)
        path.parent.mkdir(exist_ok=True)
        self.events_file = path.open("wb")

    def add(self, raws: list[RawRecord]) -> bool:
        """Take in the next records; False once the stretch of time is over."""
        until = self.job.plan.selection.until_ms
        over = len(raws)
        if until is not None:
            over = next((n for n, raw in enumerate(raws) if raw.append_ts >= until), over)
        for at in range(0, over, AT_ONCE):
            self._take(raws[at : min(at + AT_ONCE, over)])
        return over == len(raws)

    def _take(self, raws: list[RawRecord]) -> None:
        """One step for all of them, then the next."""
        seens = [see(raw) for raw in raws]
        self.tree.extend([seen.hash for seen in seens])
        if self.fold is None:
            self._show([(seen, None, None) for seen in seens if self._is_shown(seen.raw)])
            return
        ruled = [self.fold.rule(record) for record in self.fold.read_ahead(raws)]
        leaves = [outcome_leaf(seen.raw.offset, seen.hash, ruling) for seen, (_, ruling) in zip(seens, ruled, strict=True)]
        self.outcomes.extend([tlog.leaf_hash(leaf) for leaf in leaves])
        for record, _ in ruled:
            if record.type in _POLICIES and isinstance(record.data, PolicyAdopted | PolicyPublished):
                self.policies.add(record.data.digest)
        told = zip(seens, ruled, strict=True)
        self._show([(seen, record, ruling) for seen, (record, ruling) in told if self._is_shown(seen.raw)])

    def _is_shown(self, raw: RawRecord) -> bool:
        """Is the record one of those that are shown? Asked of each in order."""
        selection, topic = self.job.plan.selection, self.job.topic
        if self.first is None and (selection.from_ms is None or raw.append_ts >= selection.from_ms):
            self.first, self.first_appended = raw.offset, raw.append_ts
        if self.first is not None:
            self.last_appended = raw.append_ts
            if selection.whole:
                return True
        law = topic.ruled and is_law(raw)
        self.laws += law and self.first is None
        return law or (self.first is not None and selection.shows(raw, topic))

    def _show(self, shown: list[Shown]) -> None:
        self.count += len(shown)
        kinds = [_kind(seen) for seen, _, _ in shown]
        self.types.update(kinds)
        self.rulings.update(ruling.outcome for _, _, ruling in shown if ruling is not None)
        if self.job.plan.redaction.policy != "all":
            for seen, _, _ in shown:
                if seen.raw.value is not None and b'"key_commitment"' in seen.raw.value:
                    self.subjects.update(str(each["subject"]) for each in sealed_in(seen.raw.value))
        texts = [line(seen, record, ruling) for seen, record, ruling in shown]
        if self.lines is not None:
            self.lines.add(texts)
        if self.table is not None:
            self.table.extend([row_of(seen, None if r is None else (r.outcome, r.reason, r.version)) for seen, _, r in shown])
        for (seen, _, ruling), kind, text in zip(shown, kinds, texts, strict=True):
            if self.security.concerns(_told(kind[0], "?"), "" if ruling is None else ruling.reason, seen.raw.value):
                self._secure(self.security.event(_read(seen, text)))

    def _secure(self, event: bytes | None) -> None:
        if event is not None:
            self.events += 1
            self.events_file.write(event + b"\n")
            self.events_sha.update(event + b"\n")

    def close(self) -> None:
        """Close the files, finished or not."""
        self.events_file.close()
        for each in (self.lines, self.table):
            if each is not None:
                each.close()

    def finish(self, keys: NotaryKeys) -> Finished:
        """Compare with what the notary signed, sign, and tell what was written."""
        job, size = self.job, self.tree.size
        origin = origin_of(job.plan.installation, job.topic.name, job.partition)
        root = self.tree.close()
        self._is_signed(origin, size, root, keys)
        note = sign(Checkpoint(origin, size, root).text, keys.signers(origin))
        self.files.put(f"trees/{self.below}/{CHECKPOINT}", note)
        outcomes = b""
        if job.topic.ruled:
            outcomes, name = self.outcomes.close(), outcome_origin(job.plan, job.topic.name, job.partition)
            self.files.put(f"outcomes/{self.below}/{CHECKPOINT}", sign(Checkpoint(name, size, outcomes).text, keys.signers(name)))
        first = size if self.first is None else self.first
        part = Part(
            partition=job.partition,
            size=size,
            first=first,
            count=self.count,
            withheld=size - first - (self.count - self.laws),
            applied=self.rulings["applied"],
            rejected=self.rulings["rejected"],
            void=self.rulings["void"],
            first_appended=self.first_appended,
            last_appended=self.last_appended,
            root=root.hex(),
            outcomes=outcomes.hex(),
        )
        listed = {role: sorted(ids) for role, ids in self.fold.law.ever.items()} if self.fold is not None else {}
        return Finished(
            part=part,
            digests=self.files.digests,
            types=_added(self.types),
            keys=listed,
            policies=sorted(self.policies),
            security=self.events_sha.hexdigest(),
            events=self.events,
            subjects=sorted(self.subjects),
        )

    def _is_signed(self, origin: str, size: int, root: bytes, keys: NotaryKeys) -> None:
        if size == 0:
            return
        directory, place = (
            directory_of(self.job.home, self.job.topic.name, self.job.partition),
            f"{self.job.topic.name}[{self.job.partition}]",
        )
        signed = signed_checkpoint(directory, origin, keys.verifiers(origin))
        if signed is None or signed.size < size:
            have = 0 if signed is None else signed.size
            raise NotSigned(f"{place}: {size} records are to be exported, {have} are signed: is `chimera run notary` running?")
        stored = StoredTree(directory, signed.size)
        if tlog.root_of(size, stored.hash) == root:
            return
        mine = StoredTree(self.job.out / "trees" / self.below, size)
        at = next((index for index in range(size) if mine.hash(0, index) != stored.hash(0, index)), size - 1)
        raise LogChanged(
            f"{place}@{at} reads differently from what was signed: the log or the tree below {directory} was changed; "
            "`chimera audit compare` tells which. Nothing is exported as long as they differ"
        )


__all__ = [
    "RECEIPTS",
    "Finished",
    "Job",
    "NotSigned",
    "file_of",
    "outcome_leaf",
    "outcome_origin",
    "security_file",
    "write_partition",
]
