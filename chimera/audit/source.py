"""Where an export reads from, and which records it shows.

The rule not to break: reading begins at offset 0 and has no hole; what is not shown is still counted by its leaf.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import orjson
from pydantic import BaseModel, ConfigDict

from chimera.commands.agents import UnknownAgent, near
from chimera.eventlog.offsets import ReadFailed
from chimera.eventlog.read import check_bounds, end_offsets, read_until
from chimera.events.envelope import LAW_KEY_PREFIX, decode
from chimera.events.raw import RawRecord
from chimera.events.records import AgentEnrolled

_LAW = LAW_KEY_PREFIX.encode()


class Topic(NamedTuple):
    """A topic as an export takes it. `ruled`: the law rules on its records."""

    name: str
    ruled: bool


TOPICS = (Topic("chimera.log", True), Topic("chimera.calls", False), Topic("chimera.security", False))


AT_ONCE = 512
"""Records that go through each step together: taking every record through all steps costs a fifth more, for the code of one step
drives that of the others out of the processor's caches; and thousands at once drive out each other."""


class Source(Protocol):
    """Records of topics; each method may be called from another process, so a source is copied there."""

    def ends(self, topic: str) -> dict[int, int]:
        """Per partition the offset that the next record will get."""

    def read(self, topic: str, partition: int, end: int) -> Iterator[list[RawRecord]]:
        """Everything from 0 up to and without `end`, in order."""


@dataclass(frozen=True)
class KafkaSource:
    """The log itself. `prefix` stands before its topics' names."""

    bootstrap: str
    prefix: str = ""

    def ends(self, topic: str) -> dict[int, int]:
        """Raises what `end_offsets` raises."""
        return end_offsets(self.bootstrap, self.prefix + topic)

    def read(self, topic: str, partition: int, end: int) -> Iterator[list[RawRecord]]:
        """Raises what `read_until` raises."""
        whole = self.prefix + topic
        try:
            for batch in read_until(self.bootstrap, whole, [partition], None, {partition: end}, max_records=AT_ONCE, unasked=True):
                yield [raw._replace(topic=topic) for raw in batch] if self.prefix else batch
        except ReadFailed:
            check_bounds(self.bootstrap, whole, {partition: 0})  # a log without its beginning is told as that
            raise


class Selection(BaseModel):
    """Which records an export shows: those in a stretch of time that any of the named agents, tenants and types is of.

    `from_ms` and `until_ms` (exclusive) are append times, milliseconds since the epoch. `agents` are stream keys. Empty: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    from_ms: int | None = None
    until_ms: int | None = None
    agents: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Within its stretch of time nothing is left out."""
        return not (self.agents or self.tenants or self.types)

    def shows(self, raw: RawRecord, topic: Topic) -> bool:
        """Is the record one of those that are asked for, its time left aside?"""
        if self.whole:
            return True
        headers = dict(raw.headers)
        if self.agents and (raw.key or b"").decode(errors="replace") not in self.agents:
            return False
        if self.types and _text(headers.get("ce_type")) not in self.types:
            return False
        return not self.tenants or _tenant(raw, headers, topic) in self.tenants


class Redaction(BaseModel):
    """Whose keys an export withholds: everybody's, nobody's, or those of the listed pseudonyms. Words stay sealed without a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["all", "none", "listed"] = "all"
    subjects: tuple[str, ...] = ()

    def withholds(self, subject: str) -> bool:
        """Is the key of this person kept back?"""
        return self.policy == "all" or subject in self.subjects


def is_law(raw: RawRecord) -> bool:
    """Records of the law are in every export: without its keys no signature can be checked."""
    return raw.key is not None and raw.key.startswith(_LAW)


def _tenant(raw: RawRecord, headers: dict[str, bytes], topic: Topic) -> str:
    if "ce_tenant" in headers or topic.ruled:
        return _text(headers.get("ce_tenant"))
    try:
        found = orjson.loads(raw.value or b"{}")
    except orjson.JSONDecodeError:
        return ""
    return str(found.get("tenant", "")) if isinstance(found, dict) else ""


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")


def agents_called(source: Source, names: Sequence[str], log: str = TOPICS[0].name) -> tuple[str, ...]:
    """The stream keys of agents given by name or stream key; every agent of that name, whatever its tenant.

    Reads the log to find names. Raises `UnknownAgent`.
    """
    keys = {name for name in names if name.startswith("agent/")}
    wanted = set(names) - keys
    if not wanted:
        return tuple(sorted(keys))
    found: dict[str, set[str]] = {}
    for partition, end in source.ends(log).items():
        for raws in source.read(log, partition, end):
            for raw in raws:
                if dict(raw.headers).get("ce_type") == AgentEnrolled.TYPE.encode():
                    record = decode(raw)
                    if isinstance(record.data, AgentEnrolled):
                        found.setdefault(record.data.name, set()).add(record.key)
    for name in sorted(wanted):
        if name not in found:
            raise UnknownAgent(f"no agent is called '{name}'{near(name, found)}")
    return tuple(sorted(keys.union(*(found[name] for name in wanted))))
