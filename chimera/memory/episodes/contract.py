"""What is kept of an episode and how it is asked for, and the contract that every store passes the same tests on.

The rules not to break: rows and the checkpoint of what they were made from move together, so that nothing stands there twice; words
stay sealed as the log and `chimera.notes` have them, and are opened only for whoever asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from chimera.errors import ChimeraError
from chimera.events.records.base import Taint
from chimera.events.sealed import Forgotten, Sealed, SubjectKeys, unseal

FORMAT = 1
"""Of a row's body. What was written in another is made anew."""
Kind = Literal["events", "notes", "posts", "thread"]
"""`posts` are the notes of what went out: many of them, and a thread needs them, so facts do not push them out."""
Place = tuple[str, int]
"""Topic and partition."""


class Moved(ChimeraError):
    """Somebody else moved the checkpoint, or the store lost it: read on from what it says now."""


class Limits(NamedTuple):
    """How much is kept: rows of one list, and for how long (ms after the broker took the record)."""

    last: int = 50
    ttl_ms: int = 7 * 86_400_000

    @property
    def rows(self) -> int:
        """Rows that a list holds: of notes some are newer words of the same."""
        return 4 * self.last

    @property
    def shape(self) -> str:
        """What must be equal for contents to be gone on with."""
        return f"{FORMAT}/{self.last}/{self.ttl_ms}"


class Row(NamedTuple):
    """One row of one list. `name`: the thread's, "" elsewhere; `ts`: append time; `subject`: under whose key its words are sealed
    ("" where it has none); `body`: the rest, as JSON."""

    tenant: str
    agent: str
    kind: Kind
    name: str
    ts: int
    subject: str
    body: bytes


Moves = Mapping[Place, tuple[int, int]]
"""From where to where checkpoints move: place -> (offset as it must stand now, offset then)."""


class Store(Protocol):
    """Lists of rows, oldest first, each bounded by `Limits`. For one writer and any number of readers. Everything blocks and raises
    `MemoryAway`."""

    def checkpoints(self) -> dict[Place, int]:
        """The next offset of each place; nothing where the store is empty, was lost, or was filled with other limits."""

    def begin(self, offsets: Mapping[Place, int]) -> None:
        """Empty the store, then begin at these offsets."""

    def write(self, moves: Moves, rows: Sequence[Row]) -> None:
        """Add rows, in order, and move the checkpoints, all or nothing. Raises `Moved` where one does not stand as it should."""

    def swept(self) -> set[str]:
        """The subjects (as `subject_key` names them) whose rows were taken out."""

    def forget(self, subjects: Collection[str]) -> int:
        """Take out the rows of these subjects (as `subject_key` names them), and keep in mind that it was done; how many rows."""

    def last(self, tenant: str, agent: str, kind: Kind, name: str = "") -> list[bytes]:
        """The bodies of one list that are young enough, oldest first."""

    def threads(self, tenant: str, agent: str) -> list[str]:
        """The agent's threads of which words are kept, by name."""

    def contents(self) -> dict[tuple[str, str, Kind, str], list[bytes]]:
        """Everything that is young enough, for comparing: (tenant, agent, kind, name) -> bodies. Empty lists are left out."""

    def close(self) -> None:
        """Let connections go."""


class Event(NamedTuple):
    """A record of `chimera.log` that counted. `words`: what it says of itself in a word or two, never anybody's words."""

    at: tuple[int, int]
    record: str
    type: str
    ts: int
    ruling: str
    reason: str
    campaign: int | None
    ordinal: int | None
    words: str


class Noted(NamedTuple):
    """A note. `made_from`: the record's place in `chimera.log`; `happened`: when its source was (ms); `text`: in clear."""

    at: tuple[int, int]
    id: str
    kind: str
    platform: str
    taint: Taint
    happened: int
    made_from: tuple[int, int]
    numbers: dict[str, float]
    ts: int
    text: str


class Told(NamedTuple):
    """Words of a thread: of somebody else (`by` them) or of the agent (us). `at`: the record's place in `chimera.log`; `item`: its
    number among a poll's items."""

    by: Literal["them", "us"]
    at: tuple[int, int]
    item: int
    taint: Taint
    ts: int
    text: str


class Threads(Protocol):
    """What answers are made with."""

    def thread(self, tenant: str, agent: str, name: str, most: int) -> list[Told]:
        """The newest words of a thread, oldest first. Blocks; raises `MemoryAway`."""


class Episodes:
    """What is asked. One tenant and one agent at a time, always; words that nobody may open any more are left out."""

    def __init__(self, store: Store, keys: SubjectKeys) -> None:
        self._store, self._keys = store, keys

    def events(self, tenant: str, agent: str, most: int) -> list[Event]:
        """The newest events, newest first."""
        bodies = self._store.last(tenant, agent, "events")[::-1][:most]
        return [Event._make((tuple(at), *rest)) for at, *rest in map(orjson.loads, bodies)]

    def notes(self, tenant: str, agent: str, most: int) -> list[Noted]:
        """The newest notes, newest first; of those with one id the latest alone."""
        newest: dict[str, tuple[list[Any], Noted]] = {}
        for kind in ("notes", "posts"):
            for body in self._store.last(tenant, agent, kind):
                sealed, at, made_from, *rest = orjson.loads(body)
                note = Noted._make((tuple(at), *rest[:5], tuple(made_from), *rest[5:], ""))
                held = newest.get(note.id)
                if held is None or note.happened >= held[1].happened:
                    newest[note.id] = sealed, note
        found = sorted(newest.values(), key=lambda each: (each[1].ts, each[1].at), reverse=True)
        opened = ((note, self._opened(sealed)) for sealed, note in found)
        return [note._replace(text=text) for note, text in opened if text is not None][:most]

    def thread(self, tenant: str, agent: str, name: str, most: int) -> list[Told]:
        """See `Threads.thread`. What the agent wrote is there once it went out and was noted."""
        ours: dict[tuple[int, int], Any] = {}
        for body in self._store.last(tenant, agent, "posts"):
            sealed, _, made_from, *_ = orjson.loads(body)
            ours[tuple(made_from)] = sealed
        told: list[Told] = []
        for body in self._store.last(tenant, agent, "thread", name):
            by, sealed, at, item, taint, ts = orjson.loads(body)
            text = self._opened(sealed if by == "them" else ours.get(tuple(at)))
            if text is not None:
                told.append(Told(by, tuple(at), item, taint, ts, text))
        return told[-most:]

    def threads(self, tenant: str, agent: str) -> list[str]:
        """The names of the agent's threads."""
        return self._store.threads(tenant, agent)

    def close(self) -> None:
        """Let the store's connections go."""
        self._store.close()

    def _opened(self, sealed: list[str] | None) -> str | None:
        if sealed is None:
            return None
        subject, nonce, ciphertext, commitment = sealed
        try:
            return unseal(self._keys, Sealed(subject=subject, nonce=nonce, ciphertext=ciphertext, key_commitment=commitment))
        except Forgotten:
            return None


def packed(sealed: Sealed) -> list[str]:
    """Sealed words as a row holds them."""
    return [sealed.subject, sealed.nonce, sealed.ciphertext, sealed.key_commitment]


def now_ms() -> int:
    """The clock that stores go by unless they are given another: ms since the epoch."""
    return int(time.time() * 1000)


Clock = Callable[[], int]


def by_list(rows: Iterable[Row]) -> dict[tuple[str, str, Kind, str], list[Row]]:
    """Rows by the list that they belong to, in order."""
    found: dict[tuple[str, str, Kind, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.tenant, row.agent, row.kind, row.name), []).append(row)
    return found
