"""`chimera audit export`: the log as files that prove themselves: records with rulings, trees, checkpoints, a signed manifest.

The rule not to break: the same log, selection, keys and code give the same bytes. The manifest is written last.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from chimera.audit import manifest as mf
from chimera.audit import standalone
from chimera.audit.manifest import ENVELOPE, MANIFEST, PLAN, SUMS, Manifest, Plan, TopicPart, dump, envelope, software, totals
from chimera.audit.notary import load_notary_keys
from chimera.audit.partition import RECEIPTS, Finished, Job, security_file, write_partition
from chimera.audit.sealed import DISCLOSED, disclosed_keys
from chimera.audit.source import TOPICS, Redaction, Selection, Source, Topic
from chimera.audit.standalone import SECURITY
from chimera.audit.workers import side_by_side
from chimera.commands.keys import load_installation
from chimera.errors import ChimeraError
from chimera.events.law import LAW

FORMATS = ("jsonl", "parquet")
DOCUMENTS = ("VERIFY.md", "VERIFY.sql")


class ExportRefused(ChimeraError):
    """The directory is not one that this export may write into."""


def export(
    source: Source,
    home: Path,
    out: Path,
    *,
    selection: Selection | None = None,
    redaction: Redaction | None = None,
    formats: Sequence[str] = FORMATS,
    topics: Sequence[Topic] = TOPICS,
    ends: Mapping[str, Mapping[int, int]] | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Export what was in the log when the export began; an interrupted export is resumed by the same call.

    `home` holds installation, the notary's keys and its trees. `ends`: topic -> partition -> how far the trees reach
    (`sign_now`), since a log under load goes on; None: to the log's end. `jobs`: processes.
    Raises `ExportRefused` for a directory that holds anything else, and what `write_partition` raises.
    """
    plan = _plan(source, home, out, selection or Selection(), redaction or Redaction(), formats, topics, ends)
    if plan is None:
        _clear(out)
        return mf.load_manifest(out)
    total, done = sum(sum(ends.values()) for ends in plan.ends.values()), 0
    work = [Job(source, home, out, plan, topic, partition) for topic in topics for partition in sorted(plan.ends[topic.name])]
    finished: dict[tuple[str, int], Finished] = {}
    for job, found in _all(work, jobs):
        finished[job.topic.name, job.partition] = found
        done += plan.ends[job.topic.name][job.partition]
        progress(done, total)
    made = _close(home, out, plan, topics, finished)
    _clear(out)
    return made


def _all(work: list[Job], jobs: int) -> Iterator[tuple[Job, Finished]]:
    open_ = []
    for job in work:
        done = _finished(job)
        if done is None:
            open_.append(job)
        else:
            yield job, done
    yield from side_by_side(_write, open_, jobs, lambda job: job.plan.ends[job.topic.name][job.partition])


def _write(job: Job) -> Finished:
    found = write_partition(job)
    receipt = _receipt(job)
    _write_whole(receipt, found.model_dump_json().encode())
    return found


def _finished(job: Job) -> Finished | None:
    """What an interrupted run has finished already; its bytes are checked."""
    try:
        found = Finished.model_validate_json(_receipt(job).read_bytes())
        for name, digest in found.digests.items():
            with (job.out / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return None
        events = security_file(job.out, job.topic.name, job.partition)
        if hashlib.sha256(events.read_bytes()).hexdigest() != found.security:
            return None
    except (OSError, ValidationError):
        return None
    return found


def _receipt(job: Job) -> Path:
    return job.out / RECEIPTS / f"{job.topic.name}-{job.partition:02d}.json"


def _plan(
    source: Source,
    home: Path,
    out: Path,
    selection: Selection,
    redaction: Redaction,
    formats: Sequence[str],
    topics: Sequence[Topic],
    ends: Mapping[str, Mapping[int, int]] | None,
) -> Plan | None:
    """The plan of this directory: a new one for an empty directory, the old one where it fits, None where all is written."""
    unknown = [each for each in formats if each not in FORMATS]
    if unknown or not formats:
        raise ExportRefused(f"no format {', '.join(unknown) or 'is given'}: take {' or '.join(FORMATS)}")
    out.mkdir(parents=True, exist_ok=True)
    found = sorted(path.name for path in out.iterdir())
    if MANIFEST in found and PLAN not in found:
        raise ExportRefused(
            f"{out} holds a finished export: name another directory, or check this one by `chimera audit verify {out}`"
        )
    pinned = load_installation(home)
    fresh = Plan(
        software=software(),
        law=LAW,
        installation=pinned.installation,
        root=pinned.root,
        root_public=pinned.root_public,
        notary=[base64.b64encode(key.public_key().public_bytes_raw()).decode() for key in load_notary_keys(home).keys],
        selection=selection,
        formats=sorted(set(formats)),
        redaction=redaction,
        ends={topic.name: dict(source.ends(topic.name) if ends is None else ends[topic.name]) for topic in topics},
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
    if old.model_copy(update={"ends": fresh.ends}) != fresh or not _goes_on(old.ends, fresh.ends):
        raise ExportRefused(
            f"{out} holds an export of another log, of another selection or by another version or key that was interrupted: "
            "name another directory"
        )
    return None if MANIFEST in found else old


def _goes_on(old: dict[str, dict[int, int]], new: dict[str, dict[int, int]]) -> bool:
    """Has every partition at least the records that it had?"""
    same = old.keys() == new.keys() and all(old[topic].keys() == new[topic].keys() for topic in old)
    return same and all(end <= new[topic][partition] for topic, ends in old.items() for partition, end in ends.items())


def _close(home: Path, out: Path, plan: Plan, topics: Sequence[Topic], finished: dict[tuple[str, int], Finished]) -> Manifest:
    """What stands beside the records, and the manifest."""
    digests: dict[str, str] = {}
    types, keys, policies = Counter[str](), dict[str, set[str]](), set[str]()
    for found in finished.values():
        digests |= found.digests
        types.update(found.types)
        policies.update(found.policies)
        for role, ids in found.keys.items():
            keys.setdefault(role, set()).update(ids)
    disclosed, people = disclosed_keys(home, plan.redaction, (subject for found in finished.values() for subject in found.subjects))
    for name, content in (*_documents(), *([(DISCLOSED, disclosed)] if people else [])):
        _write_whole(out / name, content)
        digests[name] = hashlib.sha256(content).hexdigest()
    digests[SECURITY] = _security(out, plan, topics)
    sums = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()
    _write_whole(out / SUMS, sums)
    parts = [
        TopicPart(topic=t.name, ruled=t.ruled, partitions=[finished[t.name, p].part for p in sorted(plan.ends[t.name])])
        for t in topics
    ]
    made = Manifest(
        **plan.model_dump(exclude={"ends", "format", "redaction"}),
        redaction=plan.redaction.policy,
        disclosed=people,
        topics=parts,
        totals=totals(part for topic in parts for part in topic.partitions),
        types=dict(types),
        security=sum(found.events for found in finished.values()),
        keys={role: sorted(ids) for role, ids in keys.items()},
        policies=sorted(policies),
        sums=hashlib.sha256(sums).hexdigest(),
    )
    payload = dump(made)
    _write_whole(out / ENVELOPE, envelope(payload, load_notary_keys(home).keys))
    _write_whole(out / MANIFEST, payload)
    return made


def _security(out: Path, plan: Plan, topics: Sequence[Topic]) -> str:
    """The security events of all partitions, one after the other; the SHA-256."""
    sha, draft = hashlib.sha256(), out / f"{SECURITY}.part"
    with draft.open("wb") as file:
        for topic in topics:
            for partition in sorted(plan.ends[topic.name]):
                with security_file(out, topic.name, partition).open("rb") as part:
                    while block := part.read(1 << 20):
                        file.write(block)
                        sha.update(block)
    draft.replace(out / SECURITY)
    return sha.hexdigest()


def _documents() -> Iterator[tuple[str, bytes]]:
    """The verifier and how to use it: the same in every export of this version."""
    yield "verify.py", Path(standalone.__file__).read_bytes()
    for name in DOCUMENTS:
        yield name, (Path(__file__).parent / "documents" / name).read_bytes()


def _clear(out: Path) -> None:
    """What only an unfinished export needs."""
    shutil.rmtree(out / RECEIPTS, ignore_errors=True)
    (out / PLAN).unlink(missing_ok=True)


def _write_whole(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(content)
    draft.replace(path)
