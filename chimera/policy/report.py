"""How well each rule tells good texts from bad ones: its shipped texts run through it, precision and recall per rule.

The rule not to break: a rule is reported on exactly the texts that its test runs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from chimera.errors import ChimeraError
from chimera.events.hashes import simhash, text_hash
from chimera.events.records import Disclosure, Taint
from chimera.policy.boardkit import Rules, Soul, Voice
from chimera.policy.rules import RULES, Context, Rule
from chimera.policy.writing import Article

TEXTS = Path("tests/golden/texts")


class NoTexts(ChimeraError):
    """The texts that a rule is measured on are not there."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Given(_Closed):
    """What a rule's texts are judged against; only what the rule looks at needs saying."""

    rules: dict[str, Any] = {}
    taboos: list[str] = []
    openers: list[str] = []
    platform: str = "x"
    max_chars: int | None = None
    disclosure: Disclosure = "automated"
    disclosure_field: bool = True
    sources: list[Article] = []
    said_before: list[str] = []
    said_elsewhere: list[str] = []
    emoji: bool = True
    handles: dict[str, str] = {}
    taint: Taint = "allowlisted"
    is_reply: bool = False
    addressee: str = ""


class Corpus(_Closed):
    """Texts that a rule must let pass and texts that it must find."""

    rule: str
    given: Given = Given()
    passing: list[str]
    failing: list[str]


@dataclass(frozen=True)
class Measured:
    """Counts of one rule on its texts. `wrong` holds the texts that it misjudged."""

    rule: str
    found: int
    missed: int
    false_alarms: int
    passed: int
    wrong: tuple[str, ...]

    @property
    def precision(self) -> float:
        """Share of its hits that are right; 1 for a rule that never hits."""
        hits = self.found + self.false_alarms
        return self.found / hits if hits else 1.0

    @property
    def recall(self) -> float:
        """Share of the texts to be found that it finds."""
        return self.found / (self.found + self.missed) if self.found + self.missed else 1.0


def context_of(given: Given) -> Context:
    """The Context that a corpus describes."""
    policy = {"boardkit": 1, "name": "corpus", "approvers": {"publish": ["kim"]}, **given.rules}
    return Context(
        rules=Rules.model_validate(policy),
        soul=Soul(
            name="corpus",
            voice=Voice(tone=["plain"], openers=given.openers, emoji=given.emoji),
            topics=["anything"],
            taboos=given.taboos,
            handles=given.handles,
        ),
        platform=given.platform,
        sources=given.sources,
        max_chars=given.max_chars,
        disclosure=given.disclosure,
        disclosure_field=given.disclosure_field,
        fingerprints=[(text_hash(t), simhash(t)) for t in given.said_before],
        elsewhere=[(text_hash(t), simhash(t)) for t in given.said_elsewhere],
        taint=given.taint,
        is_reply=given.is_reply,
        addressee=given.addressee,
    )


def load_corpus(path: Path) -> Corpus:
    """The corpus in the file at `path`; raises pydantic's ValidationError for a malformed one."""
    return Corpus.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def measure(rule: Rule, corpus: Corpus) -> Measured:
    """One rule on its own texts."""
    ctx = context_of(corpus.given)
    missed = [t for t in corpus.failing if not any(True for _ in rule.find(t, ctx))]
    alarms = [t for t in corpus.passing if any(True for _ in rule.find(t, ctx))]
    return Measured(
        rule=rule.name,
        found=len(corpus.failing) - len(missed),
        missed=len(missed),
        false_alarms=len(alarms),
        passed=len(corpus.passing) - len(alarms),
        wrong=(*missed, *alarms),
    )


def report(directory: Path = TEXTS) -> list[Measured]:
    """Every rule of the table on `<directory>/<rule>.yaml`. Raises NoTexts where a rule ships none."""
    missing = [rule.name for rule in RULES if not (directory / f"{rule.name}.yaml").is_file()]
    if missing:
        raise NoTexts(f"{directory}: no texts for {', '.join(missing)}: run it in the project's root or name the folder by --texts")
    return [measure(rule, load_corpus(directory / f"{rule.name}.yaml")) for rule in RULES]
