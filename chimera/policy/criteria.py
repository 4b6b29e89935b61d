"""Acceptance criteria: one small pure check per kind, looked up in a table.

The rule not to break: a criterion says met or not met and why, from the text and its sources alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chimera.policy import text as measure
from chimera.policy.brief import (
    Criterion,
    HasNumber,
    LinksSource,
    MaxHashtags,
    MaxWords,
    MentionsAny,
    MentionsNone,
    MinWords,
    QuotesSource,
)
from chimera.policy.writing import Article, CriterionResult

Sources = Sequence[Article]
Found = tuple[bool, str]


def same_address(a: str, b: str) -> bool:
    """Whether two links lead to the same page, whatever their scheme, `www.` or closing slash."""

    def bare(link: str) -> str:
        return link.split("://")[-1].removeprefix("www.").rstrip("/").casefold()

    return bare(a) == bare(b)


def _mentions_any(c: MentionsAny, text: str, sources: Sources) -> Found:
    hit = next((w for w in c.words if measure.holds_phrase(text, w)), None)
    return hit is not None, f"mentions '{hit}'" if hit else f"mention one of: {', '.join(c.words)}"


def _mentions_none(c: MentionsNone, text: str, sources: Sources) -> Found:
    hit = next((w for w in c.words if measure.holds_phrase(text, w)), None)
    return hit is None, f"leave out '{hit}'" if hit else "mentions none of them"


def _links_source(c: LinksSource, text: str, sources: Sources) -> Found:
    met = any(same_address(link, article.url) for link in measure.links(text) for article in sources)
    return met, "links its source" if met else "add the link of the article it was made from"


def _quotes_source(c: QuotesSource, text: str, sources: Sources) -> Found:
    said = measure.body(text)
    best = max((measure.verbatim_words(said, article.whole) for article in sources), default=0)
    return best >= c.min_words, f"{best} consecutive words stand in a source, {c.min_words} are asked"


def _has_number(c: HasNumber, text: str, sources: Sources) -> Found:
    ours = measure.numbers(measure.body(text))
    known: frozenset[str] = frozenset().union(*(measure.source_numbers(article.whole) for article in sources))
    invented = [n for n in ours if n not in known]
    if not ours:
        return False, "give one number of the source"
    return (
        not invented,
        f"{invented[0]} stands in no source: give the source's number" if invented else "its numbers stand in the source",
    )


def _max_hashtags(c: MaxHashtags, text: str, sources: Sources) -> Found:
    n = len(measure.hashtags(text))
    return n <= c.n, f"{n} hashtags, at most {c.n}"


def _min_words(c: MinWords, text: str, sources: Sources) -> Found:
    n = len(measure.words(measure.body(text)))
    return n >= c.n, f"{n} words, at least {c.n}"


def _max_words(c: MaxWords, text: str, sources: Sources) -> Found:
    n = len(measure.words(measure.body(text)))
    return n <= c.n, f"{n} words, at most {c.n}"


CHECKS: dict[str, Callable[[Any, str, Sources], Found]] = {
    "mentions_any": _mentions_any,
    "mentions_none": _mentions_none,
    "links_source": _links_source,
    "quotes_source": _quotes_source,
    "has_number": _has_number,
    "max_hashtags": _max_hashtags,
    "min_words": _min_words,
    "max_words": _max_words,
}


def check(criterion: Criterion, text: str, sources: Sources) -> CriterionResult:
    """One criterion on one text; `sources` are the articles that it was made from."""
    met, why = CHECKS[criterion.kind](criterion, text, sources)
    return CriterionResult(name=criterion.kind, met=met, why=why)
