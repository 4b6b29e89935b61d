"""Puts a text together from a persona's phrases and verbatim facts of the sources, within the length that the platform counts.

The rule not to break: a fact is a source's sentence, whole or with clauses cut from its end; no word is put into a source's mouth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from chimera.policy import text as measure
from chimera.policy.writing import Article, DraftRequest, Support, read_reason

SHORT_FORMATS = ("short", "note", "tip")
_STRAIGHT = re.compile(r"\"([^\"]*)\"")
_CLAUSE = re.compile(r",\s+(?=(?:who|which|because|and|so|if|but|for|within|two|where|when)\b)|;\s+|\s+–\s+")


@dataclass(frozen=True)
class Fact:
    """One sentence of one article, and the one after it."""

    article: Article
    sentence: str
    following: str | None

    @property
    def is_speech(self) -> bool:
        """Somebody's own words."""
        return self.sentence.startswith(('"', "“"))


@dataclass(frozen=True)
class Wishes:
    """What feedback asks of the next attempt."""

    avoid: tuple[str, ...] = ()
    mention: tuple[str, ...] = ()
    shorter: int = 0
    tags: int = 2
    other_fact: bool = False
    spread: bool = False
    best: bool = False


@dataclass(frozen=True)
class Draft:
    """A composed text with what went into it."""

    text: str
    quotes: tuple[Support, ...]
    link: str
    hashtags: tuple[str, ...]
    is_speech: bool


def facts(articles: Sequence[Article]) -> list[Fact]:
    """Every complete sentence of the articles' texts, in order; what was cut off mid-sentence is no fact."""
    return [fact for article in articles for fact in _facts(article)]


@lru_cache(maxsize=512)
def _facts(article: Article) -> tuple[Fact, ...]:
    found = [s for s in measure.sentences(article.text or article.summary) if s.rstrip("\"”’')")[-1:] in (".", "!", "?")]
    return tuple(Fact(article, s, found[i + 1] if i + 1 < len(found) else None) for i, s in enumerate(found))


def wishes(feedback: Sequence[str]) -> Wishes:
    """Feedback (`rule[subject]: advice`, or free words) as what to do about it; what is not known asks for other wording."""
    w = Wishes(best=bool(feedback))
    for line in feedback:
        rule, subject, advice = read_reason(line)
        if rule in ("banned_phrases", "persona_taboo", "mentions_none", "sensitive", "forbidden") and subject:
            w = replace(w, avoid=(*w.avoid, subject))
        elif rule in ("length", "max_words") or (rule == "comment" and "short" in advice.casefold()):
            w = replace(w, shorter=w.shorter + 1)
        elif rule in ("max_hashtags", "hashtags"):
            w = replace(w, tags=max(0, w.tags - 1))
        elif rule == "mentions_any":
            w = replace(w, mention=tuple(x.strip() for x in (subject or advice.split(":")[-1]).split(",") if x.strip()))
        elif rule == "tenant_duplicate":
            w = replace(w, other_fact=True, spread=True)
        elif rule in ("near_duplicate", "too_similar", "fit", "support", "news", "clarity", "confidence", "low"):
            w = replace(w, other_fact=True)
    return w


def speak(sentence: str) -> str:
    """The sentence with typographic quotation marks; words and order stay."""
    return _STRAIGHT.sub(r"“\1”", sentence) if '"' in sentence else sentence


def trimmed(sentence: str) -> Iterator[str]:
    """The sentence, then shorter and shorter ones, cut at clauses from the end; never inside somebody's words."""
    yield sentence
    keep_from = sentence.rfind("”") + 1 if "”" in sentence else sentence.rfind('"') + 1
    for cut in reversed([m.start() for m in _CLAUSE.finditer(sentence)]):
        short = sentence[:cut].rstrip(" ,;")
        if cut > keep_from and len(measure.words(short)) >= 7:
            yield short + "."


def compose(request: DraftRequest, fact: Fact, turn: int, want: Wishes) -> Iterator[Draft]:
    """Texts from one fact that fit, the fullest first. `turn` chooses among the persona's phrases."""
    voice = request.soul.voice
    opener = voice.openers[turn % len(voice.openers)] if voice.openers else ""
    sign_off = voice.sign_offs[turn % len(voice.sign_offs)] if voice.sign_offs else ""
    tags = tuple(voice.hashtags[: min(want.tags, 1 if request.format in SHORT_FORMATS else 2)])
    limit = request.max_chars - 40 * want.shorter
    second = fact.following if fact.following and request.format == "post" and not want.shorter else None
    for short in trimmed(fact.sentence):
        whole = short == fact.sentence
        said = f"“{short}”" if request.format == "quote" and not fact.is_speech else speak(short)
        middles = [[said, speak(second)]] if second and whole and request.format == "post" else []
        for middle in [*middles, [said]]:
            for ending in (sign_off, "") if request.format not in SHORT_FORMATS else ("",):
                for beginning in (opener, "") if ending or request.format in SHORT_FORMATS else (opener,):
                    sentence = " ".join(p for p in (beginning, *middle, ending) if p)
                    text = f"{sentence}\n\n{' '.join([fact.article.url, *('#' + t for t in tags)])}"
                    if measure.weighted_length(text, request.platform) <= limit:
                        used = [short.removesuffix(".") if not whole else short] + ([second] if len(middle) > 1 and second else [])
                        quotes = tuple(Support(article_id=fact.article.id, quote=q) for q in used)
                        yield Draft(text, quotes, fact.article.url, tags, fact.is_speech)
