"""Notes for tests of memory, and keys that can be destroyed.

The rule not to break: what is made here is what processors write; only its words are made up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from chimera.events.notes import TOPIC, Kind, MemoryNoted, Provenance, Source, encode, note_id
from chimera.events.raw import RawRecord
from chimera.events.records import Taint
from chimera.events.sealed import SubjectKeys, seal, unseal
from chimera.memory.contract import Found, MemoryAway, Query, Remembered, allowed, ranked
from chimera.memory.embedding import Embedder, Vector
from chimera.memory.store import subject_key

AVA, BEN = "agent/11111111-1111-4111-8111-111111111111", "agent/22222222-2222-4222-8222-222222222222"
NOW_MS = 1_795_000_000_000


class Keys:
    """Subject keys in memory; `forget` destroys one for good."""

    def __init__(self) -> None:
        self.forgotten: set[str] = set()

    def key_for(self, subject: str) -> bytes:
        return hashlib.sha256(subject.encode()).digest()

    def known_key(self, subject: str) -> bytes | None:
        return None if subject in self.forgotten else self.key_for(subject)

    def forget(self, subject: str) -> None:
        self.forgotten = self.forgotten | {subject}  # a new set: a follower may be reading the old one

    def gone(self) -> set[str]:
        return {subject_key(subject) for subject in self.forgotten}


def note(
    text: str,
    *,
    agent: str = AVA,
    tenant: str = "acme",
    kind: Kind = "fact_with_source",
    identity: str = "",
    subject: str = "",
    taint: Taint = "allowlisted",
    ts: int = NOW_MS,
    url: str = "",
    numbers: dict[str, float] | None = None,
    keys: SubjectKeys | None = None,
) -> MemoryNoted:
    """A note; its id follows from agent, kind and `identity` (the words, where that is empty)."""
    return MemoryNoted(
        id=note_id(agent, kind, identity or text),
        agent=agent,
        tenant=tenant,
        kind=kind,
        text=seal(keys or Keys(), subject or agent, text),
        source=Source(title="", url=url) if url else None,
        numbers=numbers or {},
        provenance=Provenance(record=f"r-{identity or text}"[:60], partition=3, offset=7),
        taint=taint,
        policy_edition=1,
        ts=ts,
    )


def raw(note: MemoryNoted, offset: int, partition: int = 0) -> RawRecord:
    """It as the topic holds it."""
    return RawRecord(TOPIC, partition, offset, note.ts, note.agent.encode(), encode(note), [])


class InMemory:
    """Notes in a list: what a store keeps, without a server. It recalls as `chimera.memory.recall.Recall` does."""

    def __init__(self, embedder: Embedder, keys: SubjectKeys, now_ms: int = NOW_MS) -> None:
        self._embedder, self._keys, self._now_ms = embedder, keys, now_ms
        self._kept: dict[str, tuple[MemoryNoted, Vector]] = {}
        self.away = False
        self.asked: list[tuple[str, Query]] = []

    def put(self, notes: Sequence[MemoryNoted]) -> None:
        texts = [unseal(self._keys, each.text) for each in notes]
        for each, vector in zip(notes, self._embedder.embed(texts), strict=True):
            held = self._kept.get(each.id)
            if held is None or each.ts >= held[0].ts:
                self._kept[each.id] = each, vector

    def kinds(self, tenant: str, agent: str) -> frozenset[Kind]:
        if self.away:
            raise MemoryAway("it is away")
        return frozenset(each.kind for each, _ in self._kept.values() if (each.tenant, each.agent) == (tenant, agent))

    def recall(self, tenant: str, query: Query) -> list[Remembered]:
        self.asked.append((tenant, query))
        if self.away:
            raise MemoryAway("it is away")
        [asked] = self._embedder.embed([query.text])
        found = []
        for each, vector in self._kept.values():
            fits = each.tenant == tenant and query.agent in ("", each.agent) and each.ts >= query.since_ts
            if fits and each.taint in allowed(query.worst) and each.kind in (query.kinds or (each.kind,)):
                alike = sum(float(a) * float(b) for a, b in zip(asked, vector, strict=True))
                found.append((_found(each, alike), unseal(self._keys, each.text)))
        return ranked(query, found, self._now_ms)


def _found(each: MemoryNoted, alike: float) -> Found:
    source = each.source or Source(title="", url="")
    made = each.provenance
    return Found(
        each.id, each.agent, each.kind, each.platform, each.text.model_dump(), source.title, source.url, source.published or "",
        each.numbers, each.taint, each.policy_edition, each.ts, made.record, (made.partition, made.offset), (0, 0), alike,
    )  # fmt: skip
