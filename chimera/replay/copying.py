"""Chosen streams of the log copied to a topic of their own, for staging: same bytes, same places, same append times.

The rules not to break: what was sealed stays sealed, since keys are no records and stay where they are; nothing is written to a
live log; a record that is not copied leaves its place behind, so every reference and every ruling is as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chimera.errors import ChimeraError
from chimera.eventlog.copies import LEFT_OUT, BadTarget, CopyWriter, Target, create
from chimera.eventlog.read import read_until
from chimera.events.envelope import LAW_KEY_PREFIX
from chimera.events.raw import RawRecord
from chimera.replay.look import Log, Progress

_LAW = LAW_KEY_PREFIX.encode()


class NothingChosen(ChimeraError):
    """No stream of the log is selected; the message says what to loosen."""


class Choice(NamedTuple):
    """Which streams: of these agents, of this tenant (all of its streams); only those that did something at or after `since` (ms).

    Whoever is chosen comes with all their records before the cut: without them nothing later would fold.
    """

    agents: frozenset[str] = frozenset()
    tenant: str | None = None
    since: int = 0


class Plan(NamedTuple):
    """What would be copied. `upto`: per partition, up to its last chosen record."""

    streams: frozenset[bytes]
    upto: dict[int, int]
    records: int
    left_out: int
    bytes: int


def plan(log: Log, choice: Choice, upto: dict[int, int], progress: Progress = lambda done, total: None) -> Plan:
    """Read headers up to the cut and choose. Raises `NothingChosen`, and what reading raises."""
    total, done = sum(upto.values()), 0
    size: dict[bytes, int] = {}
    count: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    partition_of: dict[bytes, int] = {}
    active: set[bytes] = set()
    wanted_tenant = None if choice.tenant is None else choice.tenant.encode()
    tenants: set[bytes] = set()
    for batch in read_until(log.bootstrap, log.topic, upto, None, upto):
        for raw in batch:
            key = raw.key
            if not key:
                continue
            count[key] = count.get(key, 0) + 1
            size[key] = size.get(key, 0) + len(raw.value or b"")
            last[key], partition_of[key] = raw.offset, raw.partition
            if raw.append_ts >= choice.since:
                active.add(key)
            if wanted_tenant is not None and ("ce_tenant", wanted_tenant) in raw.headers:
                tenants.add(key)
        done += len(batch)
        progress(done, total)
    laws = {key for key in count if key.startswith(_LAW)}
    named = {key.encode() for key in choice.agents}
    streams = (named | tenants if named or wanted_tenant is not None else set(count)) & active - laws
    streams &= count.keys()
    if not streams:
        raise NothingChosen(
            f"no stream of the {len(count) - len(laws)} on the log is selected: loosen --agent, --tenant or --since "
            "(`chimera agent list` shows who there is)"
        )
    chosen = streams | laws
    ends: dict[int, int] = {}
    for key in chosen:
        ends[partition_of[key]] = max(ends.get(partition_of[key], 0), last[key] + 1)
    records = sum(count[key] for key in chosen)
    return Plan(frozenset(chosen), ends, records, sum(ends.values()) - records, sum(size[key] for key in chosen))


def copy(log: Log, made: Plan, at: Target, partitions: int, progress: Progress = lambda done, total: None) -> str:
    """Write the copy and read it back; SHA-256 (hex) over what both sides hold. Raises `BadTarget`, and what reading raises."""
    create(at, partitions)
    sent: dict[int, hashlib._Hash] = {}
    done, total = 0, 2 * sum(made.upto.values())
    with CopyWriter(at) as writer:
        for batch in read_until(log.bootstrap, log.topic, made.upto, None, made.upto):
            copied = list(kept(batch, made.streams))
            _note(sent, copied)
            writer.write(copied)
            done += len(batch)
            progress(done, total)
        writer.flush()
    there: dict[int, hashlib._Hash] = {}
    for batch in read_until(at.bootstrap, at.topic, made.upto, None, made.upto):
        _note(there, batch)
        done += len(batch)
        progress(done, total)
    if _said(sent) != _said(there):
        raise BadTarget(f"{at.topic} does not hold what was sent: delete it and copy again")
    return _said(sent)


def kept(batch: Iterable[RawRecord], streams: frozenset[bytes]) -> Iterator[RawRecord]:
    """The same places: chosen records as they are, the others as empty ones that keep the place."""
    for raw in batch:
        yield raw if raw.key in streams else raw._replace(key=None, value=None, headers=LEFT_OUT)


def _note(digests: dict[int, hashlib._Hash], raws: Iterable[RawRecord]) -> None:
    """Partition by partition: batches of two readers mix partitions differently."""
    for raw in raws:
        digest = digests.setdefault(raw.partition, hashlib.sha256())
        digest.update(repr((raw.offset, raw.append_ts, raw.key, raw.value, raw.headers)).encode())


def _said(digests: dict[int, hashlib._Hash]) -> str:
    return hashlib.sha256("".join(f"{p}:{digests[p].hexdigest()}" for p in sorted(digests)).encode()).hexdigest()
