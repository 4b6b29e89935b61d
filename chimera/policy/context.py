"""What a text is judged against, and what judging it finds: the types that every check shares.

The rule not to break: a check sees the text and its Context and nothing else, so that anybody can run it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chimera.events.records import Disclosure, Taint
from chimera.policy.boardkit import Rules, Soul
from chimera.policy.brief import Criterion
from chimera.policy.writing import Article, CriterionResult, reason

Found = Iterator[tuple[str, str]]
"""What a check yields: (about what, the way out), once per thing found."""


@dataclass(frozen=True)
class Context:
    """What a text is judged against.

    `fingerprints`: (text hash, SimHash) of what the account has said; `elsewhere`: the same of what the tenant's other accounts
    say, as far as the judge knows. `disclosure_field`: the profile can express the disclosure level by a field of its own.
    `taint`: the least trusted source that the text was made from. `is_reply` and `addressee`: it answers this person.
    """

    rules: Rules
    soul: Soul
    platform: str
    sources: Sequence[Article]
    max_chars: int | None = None
    disclosure: Disclosure = "automated"
    disclosure_field: bool = True
    criteria: Sequence[Criterion] = ()
    fingerprints: Sequence[tuple[str, int]] = ()
    elsewhere: Sequence[tuple[str, int]] = ()
    taint: Taint = "allowlisted"
    is_reply: bool = False
    addressee: str = ""


@dataclass(frozen=True)
class RuleHit:
    """One thing that a rule found: about what, and the way out."""

    rule: str
    subject: str
    advice: str

    @property
    def reason(self) -> str:
        """As feedback carries it: `rule[subject]: advice`."""
        return reason(self.rule, self.subject, self.advice)


@dataclass(frozen=True)
class Findings:
    """What the rules say of a text: what fails it, what people must see, the tags it gets with what raised them, its criteria
    one by one."""

    failed: list[RuleHit] = field(default_factory=list)
    asked: list[RuleHit] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    tagged: list[RuleHit] = field(default_factory=list)
    criteria: list[CriterionResult] = field(default_factory=list)

    @property
    def failed_rules(self) -> list[str]:
        """Names of the rules that fail it, each once, in the table's order."""
        return list(dict.fromkeys(hit.rule for hit in self.failed))

    @property
    def reasons(self) -> list[str]:
        """Feedback for the next attempt."""
        return [hit.reason for hit in self.failed]
