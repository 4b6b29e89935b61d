"""What a text is worth, in numbers: support, fit, voice, clarity and news, each 0..1, and the score made from them.

The rule not to break: every part is computed from the text, the brief, the persona and the sources; the same input, the same score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from chimera.policy import text as measure
from chimera.policy.boardkit import Soul
from chimera.policy.brief import Brief
from chimera.policy.checks.said import claim as claim_of
from chimera.policy.writing import Article, reason

WEIGHTS = {"support": 0.30, "fit": 0.30, "voice": 0.15, "clarity": 0.15, "news": 0.10}
_DANGLING = ("it", "they", "this", "that", "these", "those", "he", "she", "its", "their", "there", "such")
_POINTS_BACK = ("most", "half", "some", "others", "both", "many", "few")
_NUMBER_WORDS = frozenset(
    ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty", "thirty", "hundred")
)
_VERBS_OF_SPEECH = ("says", "said", "reckons", "found", "counted", "calls")


CITED_WORDS = 4
"""So many consecutive words of an article make a text one that cites it."""


@dataclass(frozen=True)
class _Known:
    """What one article holds, computed once: many candidates are scored against the same few articles."""

    stems: frozenset[str]
    numbers: frozenset[str]
    runs: frozenset[str]


@lru_cache(maxsize=512)
def _known(article: Article) -> _Known:
    stems, numbers = frozenset(measure.content_stems(article.whole)), frozenset(measure.numbers(article.whole))
    return _Known(stems, numbers, measure.runs(article.whole, CITED_WORDS))


@lru_cache(maxsize=512)
def _stems(text: str) -> frozenset[str]:
    return frozenset(measure.content_stems(text))


@lru_cache(maxsize=512)
def wanted(brief: Brief, soul: Soul) -> tuple[frozenset[str], frozenset[str]]:
    """The words of what the brief wants, and of what the persona speaks of."""
    return _stems(" ".join([brief.goal, brief.audience, *brief.key_messages])), _stems(" ".join(soul.topics))


def support(claim: str, articles: tuple[Article, ...]) -> float:
    """Share of the claim's words and numbers that stand in the sources; a number weighs as much as three words."""
    known = [_known(a) for a in articles]
    known_stems = frozenset().union(*(k.stems for k in known))
    known_numbers = frozenset().union(*(k.numbers for k in known))
    stems, figures = measure.content_stems(claim), measure.numbers(claim)
    total = len(stems) + 3 * len(figures)
    if total == 0:
        return 0.0
    return (sum(s in known_stems for s in stems) + 3 * sum(n in known_numbers for n in figures)) / total


def fit(claim: str, brief: Brief, soul: Soul, articles: tuple[Article, ...]) -> float:
    """How much the claim speaks of what the brief wants, and of what this persona speaks of; titles of its sources count half."""
    return nearness(*spoken(claim, articles), *wanted(brief, soul))


def spoken(claim: str, articles: tuple[Article, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """The words of a claim, and those that only stand in the titles of the articles that it cites."""
    ours, said = frozenset(measure.content_stems(claim)), measure.runs(claim, CITED_WORDS)
    cited = [a for a in articles if said & _known(a).runs]
    return ours, frozenset().union(*(_stems(a.title) for a in cited)) - ours


def nearness(ours: frozenset[str], around: frozenset[str], goal: frozenset[str], topics: frozenset[str]) -> float:
    """`fit` of words that are said, and of words around them, to those that are wanted."""
    on_goal = len(ours & goal) + len(around & goal) / 2
    on_topic = len(ours & topics) + len(around & topics) / 2
    return float(0.6 * (1 - 0.55**on_goal) + 0.4 * (1 - 0.4**on_topic))


def voice(text: str, soul: Soul) -> float:
    """Share of the persona's habits that the text keeps."""
    said = measure.body(text)
    longest = max((len(measure.words(s)) for s in measure.sentences(said)), default=0)
    known_tags = {t.casefold() for t in soul.voice.hashtags}
    own = any(p in text for p in (*soul.voice.openers, *soul.voice.sign_offs))
    kept = [
        min(1.0, soul.voice.sentence_words / longest) if longest else 0.0,
        1.0 if soul.voice.emoji or not measure.has_emoji(text) else 0.0,
        1.0 if all(t.casefold() in known_tags for t in measure.hashtags(text)) else 0.0,
        0.0 if any(measure.holds_phrase(said, t) for t in soul.taboos) else 1.0,
        0.0 if "!!" in text or any(w.isupper() and len(w) > 4 for w in measure.words(said)) else 1.0,
        1.0 if own or not (soul.voice.openers or soul.voice.sign_offs) else 0.4,
    ]
    return sum(kept) / len(kept)


@lru_cache(maxsize=1024)
def clarity(claim: str) -> float:
    """Whether the claim stands alone and reads easily: complete sentences, no pronoun that points at nothing, moderate length."""
    found = measure.sentences(claim)
    if not found:
        return 0.0
    first, second = ([w.casefold() for w in measure.words(found[0])] + ["", ""])[:2]
    points_back = first in _POINTS_BACK and (second.endswith("ed") or second == "of")
    stands_alone = 0.3 if first in _DANGLING or points_back else 1.0
    complete = sum(s.rstrip("\"”’' ")[-1:] in ".!?" for s in found) / len(found)
    lengths = [len(measure.words(s)) for s in found]
    ease = min(1.0, 22 / max(lengths)) if max(lengths) else 0.0
    return 0.5 * stands_alone + 0.2 * complete + 0.3 * ease


@lru_cache(maxsize=1024)
def news(claim: str) -> float:
    """Whether it tells something definite: a number, a name, somebody's words."""
    figures = bool(measure.numbers(claim)) or any(w.casefold() in _NUMBER_WORDS for w in measure.words(claim))
    inner = [w for s in measure.sentences(claim) for w in measure.words(s)[1:]]
    names = any(w[0].isupper() and len(w) > 1 for w in inner)
    speech = any(c in claim for c in '“"') or any(w in _VERBS_OF_SPEECH for w in inner)
    return (0.3, 0.75, 0.9, 1.0)[figures + names + speech]


def parts_of(text: str, brief: Brief, soul: Soul, articles: Sequence[Article]) -> dict[str, float]:
    """Every part of the score, by name."""
    return dict(_parts_of(text, brief, soul, tuple(articles)))


@lru_cache(maxsize=2048)  # what was written is rated a moment later
def _parts_of(text: str, brief: Brief, soul: Soul, articles: tuple[Article, ...]) -> dict[str, float]:
    said = claim_of(text, soul)
    parts = {
        "support": support(said, articles),
        "fit": fit(said, brief, soul, articles),
        "voice": voice(text, soul),
        "clarity": clarity(said),
        "news": news(said),
    }
    return {name: round(value, 4) for name, value in parts.items()}


def score_of(parts: dict[str, float]) -> float:
    """The weighted mean, held down by missing support: what no source says can never score high."""
    mean = sum(WEIGHTS[name] * parts[name] for name in WEIGHTS)
    return round(mean * math.sqrt(parts["support"]), 4)


def weak_points(parts: dict[str, float], soul: Soul) -> list[str]:
    """Reasons, weakest first, for every part that costs more than a little; each says what would raise it."""
    advice = {
        "support": "says more than its sources: keep to their words and numbers",
        "fit": f"is far from the goal or from what {soul.name} speaks of: choose a nearer fact",
        "voice": "does not sound like the persona: keep its sentence length, openers and tags",
        "clarity": "does not stand alone or reads heavily: name what it is about, use shorter sentences",
        "news": "tells nothing definite: give a number, a name or somebody's words",
    }
    low = sorted((parts[name], name) for name in advice if parts[name] < 0.75)
    return [reason(name, f"{value:.2f}", advice[name]) for value, name in low]
