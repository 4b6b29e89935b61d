"""The content judge's rules: one table of named checks with what each does and where it comes from, and the judgement by them.

The rule not to break: a rule ships passing and failing texts (tests/golden/texts/<rule>.yaml), sees only text and Context, and does
one thing: it fails a text, sends it to people, or tags it. `chimera policy lint --examples` runs every rule on its texts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Literal, NamedTuple

from chimera.policy.checks import form, hostile, links, outside, said, topics
from chimera.policy.context import Context, Findings, Found, RuleHit
from chimera.policy.criteria import check
from chimera.policy.lexicons import UnknownLexicon
from chimera.policy.writing import CriterionResult

__all__ = ["OF_POSTS", "RULES", "Context", "Findings", "Found", "Rule", "RuleHit", "UnknownLexicon", "judge"]

Severity = Literal["fail", "people", "tag"]


@dataclass(frozen=True)
class Rule:
    """A row of the table.

    `fail`: a hit fails the text, the next attempt hears why. `people`: a hit sends the text to people. `tag`: a hit's subject
    becomes a risk tag, and the policy's sensitive tags go to people. `source`: what asks for the rule. `by_sources`: it compares
    the text with the articles that it was made from, and is left out of a score where none are given. `by_memory`: it looks at
    what was said before (`fingerprints` and `elsewhere` of the Context), which no other rule does.
    """

    name: str
    does: Severity
    find: Callable[[str, Context], Found]
    source: str
    by_sources: bool = False
    by_memory: bool = False


RULES: tuple[Rule, ...] = (
    Rule("length", "fail", form.length, "platform limits; policy max_chars"),
    Rule("hashtags", "fail", form.hashtags, "policy max_hashtags"),
    Rule("language", "fail", form.language, "policy languages"),
    Rule("disclosure", "fail", form.disclosure, "EU AI Act Art. 50, platform rules; policy disclosure"),
    Rule("persona_voice", "fail", form.persona_voice, "SOUL.md voice"),
    Rule("persona_taboo", "fail", said.persona_taboo, "SOUL.md taboos"),
    Rule("banned_phrases", "fail", said.banned_phrases, "policy banned_phrases"),
    Rule("near_duplicate", "fail", said.near_duplicate, "law: sameness; policy similar_bits", by_memory=True),
    Rule("tenant_duplicate", "fail", said.tenant_duplicate, "platform rules on coordinated posts; decision 0040", by_memory=True),
    Rule("numbers", "fail", said.numbers, "no claim without a source", by_sources=True),
    Rule("quotations", "fail", said.quotations, "no claim without a source", by_sources=True),
    Rule("links", "fail", links.links, "policy links"),
    Rule("link_tricks", "fail", links.link_tricks, "OWASP LLM01, SSRF and phishing"),
    Rule("hidden", "fail", hostile.hidden, "OWASP LLM01; Unicode TR 36 and 39"),
    Rule("markup", "fail", hostile.markup, "OWASP LLM01, LLM05"),
    Rule("encoded", "fail", hostile.encoded, "OWASP LLM01: the Morse-code theft of May 2026"),
    Rule("instructions", "fail", hostile.instructions, "OWASP LLM01, ASI01"),
    Rule("secrets", "fail", hostile.secrets, "OWASP LLM02"),
    Rule("wallets", "fail", hostile.wallets, "design 9: nothing tainted is financial"),
    Rule("promises", "fail", topics.promises, "FTC Act section 5, advertising and election law"),
    Rule("handles", "people", outside.handles, "OWASP ASI01; platform spam rules"),
    Rule("contact", "people", outside.contact, "OWASP ASI01, ASI09"),
    Rule("codes", "people", outside.codes, "taint by level"),
    Rule("open_source", "people", outside.open_source, "taint by level"),
    Rule("sensitive", "tag", topics.sensitive, "policy sensitive: health, finance, politics"),
)

OF_POSTS = frozenset(
    ("length", "hashtags", "language", "disclosure", "persona_voice", "near_duplicate", "tenant_duplicate", "numbers", "quotations")
)
"""Rules about what is read: they say nothing of what is to be shown."""


def judge(text: str, ctx: Context) -> Findings:
    """Every rule and every acceptance criterion on one text. An unmet criterion fails it under the criterion's name."""
    found: dict[Severity, list[RuleHit]] = {"fail": [], "people": [], "tag": []}
    known = _known(text, ctx)
    for rule in known.rules:
        hits = rule.find(text, ctx) if rule.by_memory else known.hits[rule.name]
        found[rule.does] += [RuleHit(rule.name, subject, advice) for subject, advice in hits]
    for criterion, result in zip(ctx.criteria, known.criteria, strict=True):
        if not result.met:
            found["fail"].append(RuleHit(result.name, ", ".join(getattr(criterion, "words", [])), result.why))
    tagged = found["tag"]
    return Findings(found["fail"], found["people"], sorted({hit.subject for hit in tagged}), tagged, list(known.criteria))


class _Known(NamedTuple):
    """What is found in a text, whatever was said before. `by`: all else that it was held against; `hits`: by name of rule; `rules`:
    those that found something, and those that must be asked whenever the text comes."""

    by: tuple[object, ...]
    rules: Sequence[Rule]
    hits: Mapping[str, Sequence[tuple[str, str]]]
    criteria: Sequence[CriterionResult]


_REMEMBERED = 4096
"""Texts of which is kept what was found, 1 to 2 KB each: a swarm judges a thousand drafts before the first of them comes back as a
proposal, and by then nothing that its rules look at has changed but what was said meanwhile."""
_known_texts: OrderedDict[tuple[str, str, str], _Known] = OrderedDict()
_SAID_BEFORE = ("fingerprints", "elsewhere")
_held_against = attrgetter(*(field.name for field in fields(Context) if field.name not in _SAID_BEFORE))


def _known(text: str, ctx: Context) -> _Known:
    key = (text, ctx.soul.name, ctx.platform)
    by = (RULES, _held_against(ctx))
    known = _known_texts.get(key)
    if known is None or known.by != by:
        found = ((rule.name, tuple(rule.find(text, ctx))) for rule in RULES if not rule.by_memory)
        hits = {name: each for name, each in found if each}
        asked = [rule for rule in RULES if rule.by_memory or rule.name in hits]
        known = _known_texts[key] = _Known(by, asked, hits, [check(criterion, text, ctx.sources) for criterion in ctx.criteria])
        while len(_known_texts) > _REMEMBERED:
            _known_texts.popitem(last=False)
    return known
