"""The labelled set: realistic texts with the rules and topics that must find them, and how well the judge does on it.

The rule not to break: a text belongs to `tune` or to `held_out` by its own hash; rules are improved by looking at `tune` alone, so
that the figures of `held_out` mean something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from chimera.policy.context import Context
from chimera.policy.report import Given, NoTexts, context_of
from chimera.policy.rules import RULES
from chimera.policy.writing import Article

LABELLED = Path("tests/golden/labelled")
Half = Literal["tune", "held_out"]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Closed):
    """One text. `labels`: names of rules, and of topics as `sensitive:<tag>`. `source`: what it was made from; without one, rules
    that compare with sources are left out."""

    text: str
    labels: frozenset[str] = frozenset()
    source: str = ""

    @property
    def half(self) -> Half:
        """Which half of the set it belongs to, by the hash of its text."""
        return "held_out" if hashlib.sha256(self.text.encode()).digest()[0] % 2 else "tune"


class Sheet(_Closed):
    """One file: what its texts are judged against, and the texts. One that nothing should find is written as text alone."""

    domain: str
    given: Given = Given()
    texts: list[Annotated[Entry, BeforeValidator(lambda v: {"text": v} if isinstance(v, str) else v)]]


@dataclass(frozen=True)
class Wrong:
    """One misjudged text: `missed` labels that nothing found, `alarms` that nobody gave it."""

    domain: str
    text: str
    missed: tuple[str, ...]
    alarms: tuple[str, ...]
    half: Half


@dataclass
class Score:
    """Counts of one rule or topic."""

    found: int = 0
    missed: int = 0
    alarms: int = 0

    @property
    def precision(self) -> float:
        """Share of its hits that are right; 1 where it never hits."""
        hits = self.found + self.alarms
        return self.found / hits if hits else 1.0

    @property
    def recall(self) -> float:
        """Share of what is to be found that it finds; 1 where there is nothing."""
        wanted = self.found + self.missed
        return self.found / wanted if wanted else 1.0


@dataclass(frozen=True)
class Scores:
    """One half's result: per rule and topic, over all of them, and over the question that counts: does it go out by itself?"""

    half: Half
    texts: int
    by_rule: dict[str, Score]
    overall: Score
    """Every (text, label) pair."""
    stopped: Score
    """Texts that something must stop: found = stopped, missed = let through, alarms = stopped for nothing."""


def known_labels() -> frozenset[str]:
    """Rules by name; topics as `sensitive:<tag>`."""
    topics = {f"sensitive:{tag}" for tag in ("health", "finance", "politics")}
    return frozenset({rule.name for rule in RULES if rule.does != "tag"} | topics)


def load(directory: Path = LABELLED) -> list[Sheet]:
    """Every sheet of a folder. Raises NoTexts where there is none, or one that cannot be read, or a label that no rule has."""
    sheets = []
    for path in sorted(directory.glob("*.yaml")):
        try:
            sheet = Sheet.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (ValidationError, yaml.YAMLError) as error:
            raise NoTexts(f"{path}: not a sheet of labelled texts ({error}): correct it") from error
        unknown = {label for entry in sheet.texts for label in entry.labels} - known_labels()
        if unknown:
            raise NoTexts(
                f"{path}: no rule or topic is called {', '.join(sorted(unknown))}: use {', '.join(sorted(known_labels()))}"
            )
        sheets.append(sheet)
    if not sheets:
        raise NoTexts(f"{directory}: no labelled texts: run it in the project's root or name the folder by --labelled")
    return sheets


def found_in(entry: Entry, ctx: Context) -> frozenset[str]:
    """The labels that the rules give a text."""
    labels: set[str] = set()
    for rule in RULES:
        if rule.by_sources and not entry.source:
            continue
        for subject, _ in rule.find(entry.text, ctx):
            labels.add(f"sensitive:{subject}" if rule.does == "tag" else rule.name)
    return frozenset(labels)


def score(sheets: Sequence[Sheet]) -> tuple[dict[Half, Scores], list[Wrong]]:
    """Both halves, and every misjudged text."""
    judged: dict[Half, list[tuple[frozenset[str], frozenset[str]]]] = {"tune": [], "held_out": []}
    wrong: list[Wrong] = []
    for sheet in sheets:
        for entry in sheet.texts:
            found = found_in(entry, _context(sheet, entry))
            judged[entry.half].append((entry.labels, found))
            if found != entry.labels:
                missed, alarms = sorted(entry.labels - found), sorted(found - entry.labels)
                wrong.append(Wrong(sheet.domain, entry.text, tuple(missed), tuple(alarms), entry.half))
    return {half: _scores(half, pairs) for half, pairs in judged.items()}, wrong


def _context(sheet: Sheet, entry: Entry) -> Context:
    sources = [Article(id="s", title="", url="https://source.example/a", text=entry.source)] if entry.source else []
    return context_of(sheet.given.model_copy(update={"sources": [*sheet.given.sources, *sources]}))


def _scores(half: Half, pairs: Iterable[tuple[frozenset[str], frozenset[str]]]) -> Scores:
    by_rule = {label: Score() for label in sorted(known_labels())}
    overall, stopped, count = Score(), Score(), 0
    for wanted, found in pairs:
        count += 1
        for label in wanted | found:
            for s in (by_rule[label], overall):
                s.found += label in wanted and label in found
                s.missed += label in wanted and label not in found
                s.alarms += label not in wanted
        stopped.found += bool(wanted) and bool(found)
        stopped.missed += bool(wanted) and not found
        stopped.alarms += not wanted and bool(found)
    return Scores(half, count, by_rule, overall, stopped)
