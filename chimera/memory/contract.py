"""What recalling means, whatever the notes lie in: the question, the answer, and how candidates are ranked.

The rule not to break: a recollection carries its taint and its source's place, and whoever uses it hands both on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from chimera.errors import ChimeraError
from chimera.events.notes import Kind
from chimera.events.records.base import Taint

WEIGHTS = {"vector": 0.80, "keyword": 0.10, "recency": 0.10}
"""What likeness of meaning, shared words and age count for. All are 0..1."""
HALF_LIFE_MS = 30 * 86_400_000
"""After so long a note's recency is half."""
LEAST = 0.12
"""Below this cosine, and without a word in common, a candidate has nothing to do with the question."""
_TAINTS: tuple[Taint, ...] = ("owner", "allowlisted", "open")
_WORD = re.compile(r"\w+")
_EMPTY = re.compile(
    r"a|about|after|all|also|an|and|any|are|as|at|be|because|been|before|but|by|can|could|did|do|does|for|from|had|"
    r"has|have|he|her|his|how|i|if|in|into|is|it|its|just|me|more|most|my|no|not|of|on|one|only|or|our|out|over|she|"
    r"should|so|some|than|that|the|their|them|then|there|these|they|this|to|too|up|us|very|was|we|were|what|when|"
    r"where|which|who|why|will|with|would|you|your"
)
"""Words that say nothing by themselves."""


class MemoryAway(ChimeraError):
    """Nothing can be recalled now; the message says why. Whoever asked goes on without."""


class Query(NamedTuple):
    """What is asked for. Empty `agent` and `kinds` mean all; `worst`: nothing less trustworthy; `since_ts`: nothing older (ms)."""

    text: str
    agent: str = ""
    kinds: tuple[Kind, ...] = ()
    worst: Taint = "open"
    since_ts: int = 0
    most: int = 8


class Found(NamedTuple):
    """A note as a store keeps it: its words are sealed. `alike`: cosine to the question, where that was asked."""

    id: str
    agent: str
    kind: Kind
    platform: str
    sealed: dict[str, Any]
    title: str
    url: str
    published: str
    numbers: dict[str, float]
    taint: Taint
    policy_edition: int
    ts: int
    record: str
    record_at: tuple[int, int]
    """Partition and offset of the record of `chimera.log` that it was made from."""
    note_at: tuple[int, int]
    """Its own in `chimera.notes`."""
    alike: float = 0.0


class Remembered(NamedTuple):
    """One recollection: the note, its words in clear, and how well it fits, with what that was computed from."""

    note: Found
    text: str
    score: float
    parts: dict[str, float]


class Memory(Protocol):
    """What recalls. One tenant is asked for at a time, always."""

    def recall(self, tenant: str, query: Query) -> list[Remembered]:
        """The best matches, best first. Blocks; raises `MemoryAway`."""

    def kinds(self, tenant: str, agent: str) -> frozenset[Kind]:
        """What kinds of notes there are of an agent. Blocks; raises `MemoryAway`."""


def allowed(worst: Taint) -> tuple[Taint, ...]:
    """The levels of taint that are at least as trustworthy."""
    return _TAINTS[: _TAINTS.index(worst) + 1]


def words_of(text: str) -> frozenset[str]:
    """The words that say something, without common endings."""
    return frozenset(filter(None, map(_stem, _WORD.findall(text.casefold()))))


@lru_cache(maxsize=16_384)  # most words of a fleet come again and again
def _stem(word: str) -> str:
    """A word without its ending; "" where it says nothing."""
    if _EMPTY.fullmatch(word):
        return ""
    for ending in ("ingly", "edly", "ing", "ies", "ed", "es", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def ranked(query: Query, candidates: Iterable[tuple[Found, str]], now_ms: int) -> list[Remembered]:
    """The candidates, each once, best first, as many as were asked for. Equal scores: the newer one, then by id."""
    asked = words_of(query.text)
    best: dict[str, Remembered] = {}
    for note, text in candidates:
        held = best.get(note.id)
        if held is not None and held.note.alike >= note.alike:
            continue
        parts = {
            "vector": max(0.0, min(1.0, note.alike)),
            "keyword": len(asked & words_of(f"{note.title} {text}")) / len(asked) if asked else 0.0,
            "recency": 0.5 ** (max(0, now_ms - note.ts) / HALF_LIFE_MS),
        }
        score = sum(WEIGHTS[name] * value for name, value in parts.items())
        best[note.id] = Remembered(note, text, round(score, 6), {name: round(value, 6) for name, value in parts.items()})
    fitting = [found for found in best.values() if found.parts["keyword"] > 0 or found.parts["vector"] >= LEAST]
    return sorted(fitting, key=lambda found: (-found.score, -found.note.ts, found.note.id))[: query.most]


def within(found: Sequence[Remembered], characters: int) -> list[Remembered]:
    """As many of the best as fit into so many characters."""
    kept: list[Remembered] = []
    for each in found:
        characters -= len(each.text) + len(each.note.title)
        if characters < 0:
            break
        kept.append(each)
    return kept


def worst_of(found: Collection[Remembered]) -> Taint:
    """The taint of what is made from these."""
    return max((each.note.taint for each in found), key=_TAINTS.index, default="owner")
