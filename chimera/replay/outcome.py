"""What a rehearsal found: numbers that add up part by part, and a few examples of each kind of change. Pure.

The rule not to break: two outcomes of two parts of the log add up to the outcome of both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple

from chimera.replay.rehearse import NOT_REHEARSED

Route = Literal["auto", "people", "retry"]
EXAMPLES = 5


class Example(NamedTuple):
    """One vote whose route changes. `posted`: where what it decided on went out."""

    card: str
    at: int
    record: str
    text: str
    before: str
    before_why: str
    after: str
    after_why: str
    reasons: tuple[str, ...]


@dataclass
class Outcome:
    """What a rehearsal found; two of them add up."""

    records: int = 0
    votes: int = 0
    unread: int = 0
    """Votes under a recorded policy whose text is not on the log, which cannot be compared: left out."""
    routes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(before, after) -> votes on effects."""
    drafts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same for artifacts that propose nothing: research, angles."""
    causes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(before, after, why after) -> changed votes; why is a rule's name or the law's reason."""
    cards: dict[str, list[int]] = field(default_factory=dict)
    """Day (UTC) -> cards before and after."""
    posts: Counter[str] = field(default_factory=Counter)
    """Effects that went out, by what would have become of them."""
    spend: dict[str, Decimal] = field(default_factory=dict)
    """US dollars of effects that went out, by what would have become of them."""
    rework: Decimal = Decimal(0)
    """What the artifacts cost that would have been written again."""
    examples: dict[str, list[Example]] = field(default_factory=dict)
    """Kind of change (`auto -> retry`) -> the first of it."""
    differs: Counter[str] = field(default_factory=Counter)
    """Fields in which recorded policies differ from the candidate, by votes under them."""

    def add(self, other: Outcome) -> None:
        """Take in what another part of the log gave."""
        self.records += other.records
        self.votes += other.votes
        self.unread += other.unread
        self.rework += other.rework
        for mine, theirs in (
            (self.routes, other.routes),
            (self.drafts, other.drafts),
            (self.causes, other.causes),
            (self.posts, other.posts),
            (self.differs, other.differs),
        ):
            mine.update(theirs)  # type: ignore[arg-type]
        for day, (before, after) in other.cards.items():
            there = self.cards.setdefault(day, [0, 0])
            there[0], there[1] = there[0] + before, there[1] + after
        for what, usd in other.spend.items():
            self.spend[what] = self.spend.get(what, Decimal(0)) + usd
        for kind, some in other.examples.items():
            self.examples[kind] = sorted([*self.examples.get(kind, []), *some], key=lambda e: e.at)[:EXAMPLES]

    @property
    def changed(self) -> int:
        """Votes on effects whose route changes."""
        return sum(n for (before, after), n in self.routes.items() if before != after)


def notes(found: Outcome) -> list[str]:
    """What a reader must know of a rehearsal: fields that differ and that it says nothing of."""
    return [f"{name}: not rehearsed ({NOT_REHEARSED[name]})" for name in found.differs if name in NOT_REHEARSED]
