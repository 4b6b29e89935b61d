"""One agent as it was: its state at a version or a moment, and what changed from one version to another through which records.

The rule not to break: the state shown is the fold's own, from offset 0; nothing is read from what was projected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from chimera.errors import ChimeraError
from chimera.eventlog.moments import Cut
from chimera.eventlog.partitioner import partition_for, place
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.envelope import LAW_KEY_PREFIX, Record
from chimera.events.partition import PartitionFold
from chimera.events.records import AgentEnrolled
from chimera.events.state import Agent, Ruling
from chimera.events.state_codec import state_to_json
from chimera.events.tenant import Tenant

Progress = Callable[[int, int], None]
_LAW = LAW_KEY_PREFIX.encode()
_TYPE = ("ce_type", AgentEnrolled.TYPE.encode())


class NotThere(ChimeraError):
    """No such agent, or none at that version or moment. The message says what there is."""


class Log(NamedTuple):
    """Where the log is, and which root key it hangs on."""

    bootstrap: str
    topic: str
    root_public: str


class Look(NamedTuple):
    """A stream's state after one record. `state` is plain JSON, what equals its default left out."""

    stream: str
    version: int
    record: Record
    ruling: Ruling
    state: dict[str, Any]


class Step(NamedTuple):
    """A record of the stretch between two versions, and the fields it changed."""

    record: Record
    ruling: Ruling
    fields: tuple[str, ...]


class Field(NamedTuple):
    """One field that differs between two versions. None where it was not there; `by`: the records that changed it, in order."""

    path: str
    before: Any
    after: Any
    by: tuple[Record, ...]


class Diff(NamedTuple):
    """What happened to a stream between two versions: the fields that differ, and every record in between."""

    stream: str
    before: int
    after: int
    fields: tuple[Field, ...]
    steps: tuple[Step, ...]


def find_agent(log: Log, name: str, progress: Progress = lambda done, total: None) -> str:
    """Stream key of an agent by name or key. A name is looked for in the whole log (headers only); a key costs nothing.

    Raises `NotThere` where nobody, or more than one, is called so; and what reading raises.
    """
    if name.startswith("agent/"):
        return name
    found, known = set(), set()
    ends = end_offsets(log.bootstrap, log.topic)
    done, total = 0, sum(ends.values())
    for batch in read_until(log.bootstrap, log.topic, ends, None, ends):
        for raw in batch:
            if _TYPE in raw.headers and raw.key and raw.value:
                said = _name(raw.value)
                known.add(said)
                if said == name:
                    found.add(raw.key.decode(errors="replace"))
        done += len(batch)
        progress(done, total)
    if not found:
        near = ", ".join(sorted(known)[:8]) or "nobody yet"
        raise NotThere(f"no agent is called '{name}': there are {near}{' …' if len(known) > 8 else ''} (`chimera agent list`)")
    if len(found) > 1:
        raise NotThere(f"{len(found)} agents are called '{name}': name one by its stream key: {', '.join(sorted(found))}")
    return found.pop()


def _name(value: bytes) -> str:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return ""
    return str(body.get("name", "")) if isinstance(body, dict) else ""


def ruled(
    log: Log, key: str, upto: int | None = None, progress: Progress = lambda done, total: None
) -> Iterator[tuple[Record, Ruling, Agent | Tenant | None]]:
    """Every record of one stream with its ruling and the state after it (which the next one may change in place).

    `upto`: the first offset of its partition that is left out. Raises what reading raises.
    """
    ends = end_offsets(log.bootstrap, log.topic)
    partition = partition_for(key, len(ends))
    fold = PartitionFold(partition, len(ends), log.root_public, place)
    wanted, end = key.encode(), ends[partition] if upto is None else min(upto, ends[partition])
    for batch in read_until(log.bootstrap, log.topic, [partition], None, {partition: end}):
        for raw in batch:
            if raw.key == wanted:
                record, ruling = fold.apply(raw)
                yield replace(record, value=b""), ruling, fold.state(key)
            elif raw.key is not None and raw.key.startswith(_LAW):
                fold.apply(raw)
        progress(batch[-1].offset + 1, end)


def at_version(log: Log, key: str, version: int, progress: Progress = lambda done, total: None) -> Look:
    """The state when that version was reached. Raises `NotThere`."""
    newest = 0
    for record, ruling, state in ruled(log, key, None, progress):
        newest = ruling.version
        if state is not None and ruling.version >= version:
            return _look(key, record, ruling, state)
    raise NotThere(_no_version(key, version, newest))


def at_cut(log: Log, key: str, cut: Cut, progress: Progress = lambda done, total: None) -> Look:
    """The state after the last record before the cut. Raises `NotThere`."""
    last: tuple[Record, Ruling] | None = None
    kept: Agent | Tenant | None = None
    for record, ruling, state in ruled(log, key, cut.upto[partition_for(key, len(cut.upto))], progress):
        last, kept = (record, ruling), state
    if last is None or kept is None:
        raise NotThere(f"{key} was not there yet at that moment: name a later one, or see `chimera events tail --agent {key}`")
    return _look(key, *last, kept)


def between(log: Log, key: str, before: int, after: int, progress: Progress = lambda done, total: None) -> Diff:
    """What changed from reaching version `before` to reaching version `after`, through which records. Raises `NotThere`."""
    if before >= after:
        raise NotThere(f"nothing lies between version {before} and version {after}: write the lower one first")
    old: dict[str, Any] | None = {} if before == 0 else None
    now: dict[str, Any] = {}
    steps: list[Step] = []
    by: dict[str, list[Record]] = {}
    newest = 0
    for record, ruling, state in ruled(log, key, None, progress):
        newest = ruling.version
        if state is None or (old is None and ruling.version < before):
            continue
        flat = flatten(plain(state))
        if old is None:
            old = now = flat
            continue
        fields = tuple(path for path in sorted(now.keys() | flat.keys()) if now.get(path) != flat.get(path))
        for path in fields:
            by.setdefault(path, []).append(record)
        steps.append(Step(record, ruling, fields))
        now = flat
        if ruling.version >= after:
            changed = tuple(
                Field(path, old.get(path), now.get(path), tuple(by[path])) for path in sorted(by) if old.get(path) != now.get(path)
            )
            return Diff(key, before, after, changed, tuple(steps))
    raise NotThere(_no_version(key, after, newest))


def plain(state: Agent | Tenant) -> dict[str, Any]:
    """A state as JSON values."""
    made: dict[str, Any] = orjson.loads(state_to_json(state))
    return made


def flatten(value: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Path (`campaigns.1.tasks.2.status`) -> value; lists are values."""
    found: dict[str, Any] = {}
    for name, content in value.items():
        path = f"{above}{name}"
        if isinstance(content, dict) and content:
            found |= flatten(content, f"{path}.")
        else:
            found[path] = content
    return found


def now(log: Log) -> Cut:
    """All that the log holds at this moment."""
    return Cut(0, end_offsets(log.bootstrap, log.topic))


def _look(key: str, record: Record, ruling: Ruling, state: Agent | Tenant) -> Look:
    return Look(key, ruling.version, record, ruling, plain(state))


def _no_version(key: str, version: int, newest: int) -> str:
    if not newest:
        return f"nothing on the log counts for {key}: see `chimera agent list` for who is there"
    return f"{key} has never been at version {version}: it is at {newest} now, choose one from 1 to {newest}"
