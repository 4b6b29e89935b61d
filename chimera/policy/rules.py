"""The content judge's rules: one small pure function each, in one table. A rule fails a text or tags it, never both.

The rule not to break: a rule ships passing and failing texts (tests/golden/texts/<rule>.yaml) and sees only text and Context.
`python -m chimera.policy.rules --report` prints precision and recall of every rule on its texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from chimera.errors import ChimeraError
from chimera.events.hashes import distance, simhash, text_hash
from chimera.events.records import Disclosure
from chimera.policy import text as measure
from chimera.policy.boardkit import Rules, Soul
from chimera.policy.brief import Criterion
from chimera.policy.criteria import check, source_text
from chimera.policy.writing import Article, CriterionResult, reason

LEXICONS = Path(__file__).parent / "lexicons"

_LANGUAGES = {
    "en": "the of and to in a is that for it with on as are this was be by from at have or one had not but what all were when you",
    "de": "der die das und ist nicht ein eine mit auf für von zu den dem im auch sich werden wird aber oder wie wir sie es am bei",
    "fr": "le la les des et est une un dans pour que qui pas sur avec au ce il elle nous vous par plus sont du en ne se aux cette",
    "es": "el la los las de y es una un en para que no por con su se del al como más pero lo sus este son está muy hay cada",
    "it": "il lo la gli le di e è una un in per che non con su si del della al come più ma sono questo anche dei nel ogni alla",
}
_LANGUAGE_WORDS = {code: frozenset(words.split()) for code, words in _LANGUAGES.items()}


@dataclass(frozen=True)
class Context:
    """What a text is judged against. `fingerprints`: (text hash, SimHash) of what the account has said; `disclosure_field`: the
    profile can express the disclosure level by a field of its own."""

    rules: Rules
    soul: Soul
    platform: str
    sources: Sequence[Article]
    max_chars: int | None = None
    disclosure: Disclosure = "automated"
    disclosure_field: bool = True
    criteria: Sequence[Criterion] = ()
    fingerprints: Sequence[tuple[str, int]] = ()


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
    """What the rules say of a text: what fails it, the tags it gets with what raised them, its criteria one by one."""

    failed: list[RuleHit] = field(default_factory=list)
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


class UnknownLexicon(ChimeraError):
    """A policy names a lexicon that is not shipped."""


Found = Iterator[tuple[str, str]]


def length(text: str, ctx: Context) -> Found:
    """Longer than format or policy allow, counted as the platform counts."""
    limits = [n for n in (ctx.max_chars, ctx.rules.max_chars_on(ctx.platform)) if n is not None]
    counted = measure.weighted_length(text, ctx.platform)
    if limits and counted > min(limits):
        yield str(counted), f"at most {min(limits)} characters on {ctx.platform}: shorten it"
    if not text.strip():
        yield "0", "the text is empty: write something"


def banned_phrases(text: str, ctx: Context) -> Found:
    """A phrase that the policy bans, however it is cased or hyphenated."""
    for phrase in ctx.rules.banned_phrases:
        if measure.holds_phrase(text, phrase):
            yield phrase, "is banned by policy: leave it out"


def persona_taboo(text: str, ctx: Context) -> Found:
    """A word or phrase that this persona never says."""
    for phrase in ctx.soul.taboos:
        if measure.holds_phrase(text, phrase):
            yield phrase, f"{ctx.soul.name} never says this: leave it out"


def near_duplicate(text: str, ctx: Context) -> Found:
    """The account has said the same, or nearly the same, before."""
    own_hash, own_bits = text_hash(text), simhash(text)
    for known_hash, known_bits in ctx.fingerprints:
        if own_hash == known_hash or distance(own_bits, known_bits) <= ctx.rules.similar_bits:
            yield known_hash, "the account has said nearly the same: tell something else"
            return


def links(text: str, ctx: Context) -> Found:
    """Too many links, a link that is not https, or one to a host that is neither a source's nor allowed."""
    allowed = {d.casefold().removeprefix("www.") for d in ctx.rules.links.allowed_domains}
    if ctx.rules.links.from_sources:
        allowed |= {measure.host(article.url) for article in ctx.sources}
    found = measure.links(text)
    if len(found) > ctx.rules.links.max:
        yield str(len(found)), f"at most {ctx.rules.links.max} links: keep the source's"
    for link in found:
        if link.startswith("http://"):
            yield link, "is not https: use the source's https address"
        elif not any(measure.host(link) == d or measure.host(link).endswith(f".{d}") for d in allowed):
            yield measure.host(link), "is neither a source's host nor allowed by policy: remove the link"


def hashtags(text: str, ctx: Context) -> Found:
    """More hashtags than the policy allows."""
    n = len(measure.hashtags(text))
    if n > ctx.rules.max_hashtags:
        yield str(n), f"at most {ctx.rules.max_hashtags} hashtags: drop some"


def numbers(text: str, ctx: Context) -> Found:
    """A number that stands in no source; the persona's own phrases are not claims."""
    claim = measure.body(text)
    for phrase in (*ctx.soul.voice.openers, *ctx.soul.voice.sign_offs):
        claim = claim.replace(phrase, " ")
    known = {n for article in ctx.sources for n in measure.numbers(source_text(article))}
    for n in dict.fromkeys(measure.numbers(claim)):
        if n not in known:
            yield n, "stands in no source: use the source's number or none"


def disclosure(text: str, ctx: Context) -> Found:
    """The label that is owed can be said neither by a field of the platform nor by the policy's tag in the text."""
    rule = ctx.rules.disclosure.get(ctx.platform)
    level = ctx.disclosure if ctx.disclosure != "none" else (rule.level if rule else "none")
    if level == "none":
        return
    tag = rule.text_tag if rule else ""
    if tag and not measure.holds_phrase(text, tag):
        yield tag, f"policy asks for '{tag}' in texts on {ctx.platform}: add it"
    elif not tag and not ctx.disclosure_field:
        yield level, f"{ctx.platform} has no field for it and the policy names no text tag: set disclosure.{ctx.platform}.text_tag"


def language(text: str, ctx: Context) -> Found:
    """Written in a language that the policy does not allow; too few telling words say nothing."""
    ours = [w.casefold() for w in measure.words(measure.body(text))]
    counts = {code: sum(w in known for w in ours) for code, known in _LANGUAGE_WORDS.items()}
    best = max(counts, key=lambda code: counts[code])
    allowed = max((counts.get(code, 0) for code in ctx.rules.languages), default=0)
    if best not in ctx.rules.languages and counts[best] >= 3 and counts[best] > allowed:
        yield best, f"write in {', '.join(ctx.rules.languages)}"


def sensitive(text: str, ctx: Context) -> Found:
    """Words of a sensitive lexicon: the subject is the tag that they raise."""
    for name, tag in ctx.rules.sensitive.items():
        hits = _indexed(name).held_by(text)
        if hits:
            yield tag, f"{', '.join(hits[:3])}: people decide"


@dataclass(frozen=True)
class Rule:
    """A row of the table. `fail`: a hit fails the text; `tag`: a hit's subject becomes a risk tag."""

    name: str
    does: Literal["fail", "tag"]
    find: Callable[[str, Context], Found]


RULES: tuple[Rule, ...] = (
    Rule("length", "fail", length),
    Rule("banned_phrases", "fail", banned_phrases),
    Rule("persona_taboo", "fail", persona_taboo),
    Rule("near_duplicate", "fail", near_duplicate),
    Rule("links", "fail", links),
    Rule("hashtags", "fail", hashtags),
    Rule("numbers", "fail", numbers),
    Rule("disclosure", "fail", disclosure),
    Rule("language", "fail", language),
    Rule("sensitive", "tag", sensitive),
)


@lru_cache(maxsize=32)
def lexicon(name: str) -> tuple[str, ...]:
    """Words of `lexicons/<name>.txt`. Raises UnknownLexicon naming those that exist."""
    known = sorted(path.stem for path in LEXICONS.glob("*.txt"))
    if name not in known:
        raise UnknownLexicon(f"no lexicon '{name}' in {LEXICONS}: the policy's `sensitive` may name {', '.join(known)}")
    lines = (LEXICONS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


@lru_cache(maxsize=32)
def _indexed(name: str) -> measure.Phrases:
    return measure.Phrases(lexicon(name))


def judge(text: str, ctx: Context) -> Findings:
    """Every rule and every acceptance criterion on one text. An unmet criterion fails it under the criterion's name."""
    failed: list[RuleHit] = []
    tagged: list[RuleHit] = []
    for rule in RULES:
        hits = [RuleHit(rule.name, subject, advice) for subject, advice in rule.find(text, ctx)]
        (failed if rule.does == "fail" else tagged).extend(hits)
    results = [check(criterion, text, ctx.sources) for criterion in ctx.criteria]
    for criterion, result in zip(ctx.criteria, results, strict=True):
        if not result.met:
            failed.append(RuleHit(result.name, ", ".join(getattr(criterion, "words", [])), result.why))
    return Findings(failed=failed, tags=sorted({hit.subject for hit in tagged}), tagged=tagged, criteria=results)


if __name__ == "__main__":
    from chimera.policy.report import main

    raise SystemExit(main())
