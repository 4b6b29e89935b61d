"""The offline writer: angles, drafts and ratings from the actual brief, persona and articles, without any model.

The rule not to break: deterministic. The same request gives the same answer; attempt number and feedback are part of the request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from chimera.errors import ChimeraError
from chimera.events.hashes import distance, simhash, text_hash
from chimera.mcp.sandbox.writer.compose import Draft, Fact, compose, facts, speak, trimmed, wishes
from chimera.mcp.sandbox.writer.score import clarity, nearness, news, parts_of, score_of, spoken, support, wanted, weak_points
from chimera.policy import text as measure
from chimera.policy.criteria import check
from chimera.policy.writing import (
    Angle,
    AnglesRequest,
    AnglesResponse,
    Article,
    DraftRequest,
    DraftResponse,
    RateRequest,
    RateResponse,
    ReplyRequest,
    Support,
    reason,
)

NEAR_BITS = 3
"""SimHashes that differ in at most so many bits are the same text to readers."""
TOLD_WORDS = 8
"""A fact of which so many consecutive words stand in a text already used has been told."""


class CannotWrite(ChimeraError):
    """No text can be made from what was given; the message says what is missing."""


def angles(request: AnglesRequest) -> AnglesResponse:
    """The sentences most worth saying to this audience by this persona; one per article before any article has a second."""
    goal, topics = wanted(request.brief, request.soul)
    told = [each for article in request.articles for each in _tellable(article)]
    ranked = [(value, each.fact) for each in told if (value := _worth(each, goal, topics)) > 0]
    ranked.sort(key=lambda entry: -entry[0])  # of equals the first stays first
    first: dict[str, tuple[float, Fact]] = {}
    rest: list[tuple[float, Fact]] = []
    for each in ranked:
        if first.setdefault(each[1].article.id, each) is not each:
            rest.append(each)
    return AnglesResponse(angles=[_angle(value, fact) for value, fact in [*first.values(), *rest][: request.count]])


class _Tellable(NamedTuple):
    """A fact that is long enough for an angle, and all that its worth is made from but what brief and persona want."""

    fact: Fact
    stems: frozenset[str]
    around: frozenset[str]
    solid: float
    clear: float
    new: float


@lru_cache(maxsize=512)  # every agent of a campaign asks what the same articles tell
def _tellable(article: Article) -> tuple[_Tellable, ...]:
    long = [fact for fact in facts([article]) if len(measure.words(fact.sentence)) >= 6]
    return tuple(
        _Tellable(fact, *spoken(said, (article,)), support(said, (article,)), clarity(said), news(said))
        for fact in long
        for said in (fact.sentence,)
    )


def _worth(each: _Tellable, goal: frozenset[str], topics: frozenset[str]) -> float:
    """How much an angle is worth: it must bear on the brief, stand alone and tell something."""
    near = nearness(each.stems, each.around, goal, topics)
    return round(each.solid * (0.6 * near + 0.25 * each.clear + 0.15 * each.new), 4) if near else 0.0


def _angle(value: float, fact: Fact) -> Angle:
    quotes = [fact.sentence] + ([fact.following] if fact.following else [])
    identity = hashlib.sha256(f"{fact.article.id}|{fact.sentence}".encode()).hexdigest()[:12]
    return Angle(
        id=identity,
        title=fact.article.title,
        claim=speak(fact.sentence),
        support=[Support(article_id=fact.article.id, quote=q) for q in quotes],
        confidence=min(1.0, value),
    )


def draft(request: DraftRequest) -> DraftResponse:
    """One text for the angle. The first attempt tells the angle's fact; later ones choose the best text that obeys the feedback."""
    if not request.articles:
        raise CannotWrite(f"draft for {request.soul.name}: no article was given: hand over those that the angle rests on")
    want = wishes(request.feedback)
    told_before = _Told(request.used_texts, want.avoid)
    turn = int(hashlib.sha256(f"{request.soul.name}|{request.angle.id}|{request.format}".encode()).hexdigest()[:8], 16)
    turn += request.attempt - 1
    told = {s.quote for s in request.angle.support[:1]}
    offered = facts(request.articles)
    own = [f for f in offered if f.sentence in told]
    others = [f for f in offered if f.sentence not in told and len(measure.words(f.sentence)) >= 6]
    if request.format == "quote" and not (own and own[0].is_speech):
        own = [f for f in others if f.is_speech and any(f.article.id == s.article_id for s in request.angle.support)] + own
    chosen: Draft | None = None
    if not request.feedback and request.attempt == 1:
        chosen = next((d for f in [*own, *others] for d in compose(request, f, turn, want) if told_before.lets(d)), None)
    else:
        order = others + own if want.other_fact else own + others
        candidates = [d for f in order for d in compose(request, f, turn, want) if told_before.lets(d)]
        mentioning = [d for d in candidates if any(measure.holds_phrase(d.text, w) for w in want.mention)]
        if request.format == "quote":
            candidates = [d for d in candidates if d.is_speech] or candidates
            mentioning = [d for d in mentioning if d.is_speech] or mentioning
        # sorting keeps the order of equals, and the order above puts the wished-for facts first
        ranked = sorted(mentioning or candidates, key=lambda d: -score_of(_parts(d, request)))
        chosen = _spread(ranked, request)[0] if ranked and want.spread else next(iter(ranked), None)
    if chosen is None:
        avoiding = f" without {', '.join(want.avoid)}" if want.avoid else ""
        raise CannotWrite(
            f"draft for {request.soul.name}: no sentence of {len(request.articles)} articles fits "
            f"{request.max_chars} characters{avoiding}: hand over more articles or allow a longer text"
        )
    parts = _parts(chosen, request)
    return DraftResponse(
        text=chosen.text,
        quotes=list(chosen.quotes),
        link=chosen.link,
        hashtags=list(chosen.hashtags),
        confidence_score=score_of(parts),
        support_ratio=parts["support"],
        parts=parts,
    )


def _spread(ranked: list[Draft], request: DraftRequest) -> list[Draft]:
    """The best text of each fact, turned by the account's own number: accounts that start from the same sources part here."""
    best = list({d.quotes[0].quote: d for d in reversed(ranked)}.values())[::-1]
    turn = (request.variant + request.attempt) % len(best)
    return best[turn:] + best[:turn]


def reply(request: ReplyRequest) -> DraftResponse:
    """One sentence of the sources that bears on what was said; the best one that obeys the feedback and was not told before."""
    asked = frozenset(measure.content_stems(request.said))
    want = wishes(request.feedback)
    told_before = _Told(request.used_texts, want.avoid)
    offered = [f for f in facts(request.articles) if len(measure.words(f.sentence)) >= 6]
    turn = int(hashlib.sha256(f"{request.soul.name}|{request.said}".encode()).hexdigest()[:8], 16) + request.attempt - 1
    sign_offs = request.soul.voice.sign_offs
    ending = sign_offs[turn % len(sign_offs)] if sign_offs else ""
    best: tuple[float, Draft, dict[str, float]] | None = None
    for fact in offered:
        near = asked & frozenset(measure.content_stems(fact.sentence))
        if not near:
            continue
        for short in trimmed(fact.sentence):
            text = " ".join(part for part in (speak(short), ending) if part)
            made = Draft(text, (Support(article_id=fact.article.id, quote=short.removesuffix(".")),), "", (), fact.is_speech)
            if measure.weighted_length(text, request.platform) > request.max_chars - 40 * want.shorter:
                continue
            if not told_before.lets(made):
                continue
            parts = parts_of(text, request.brief, request.soul, [fact.article]) | {"answers": round(1 - 0.5 ** len(near), 4)}
            value = score_of(parts) * (0.5 + 0.5 * parts["answers"])
            if best is None or value > best[0]:
                best = (value, made, parts)
    if best is None:
        raise CannotWrite(f"reply of {request.soul.name}: no sentence of {len(request.articles)} articles bears on what was said")
    value, made, parts = best
    return DraftResponse(
        text=made.text, quotes=list(made.quotes), confidence_score=round(value, 4), support_ratio=parts["support"], parts=parts
    )


def _parts(made: Draft, request: DraftRequest) -> dict[str, float]:
    return parts_of(made.text, request.brief, request.soul, request.articles)


class _Told:
    """What a new text may not say again: what feedback forbids, and what was said before."""

    def __init__(self, used_texts: Sequence[str], avoid: tuple[str, ...]) -> None:
        self._avoid = avoid
        self._facts = frozenset().union(*(measure.runs(told, TOLD_WORDS) for told in used_texts))
        self._marks = [(text_hash(told), simhash(told)) for told in used_texts]

    def lets(self, made: Draft) -> bool:
        """May this text be said?"""
        if any(measure.holds_phrase(made.text, phrase) for phrase in self._avoid):
            return False
        if any(not self._facts.isdisjoint(measure.runs(quote.quote, TOLD_WORDS)) for quote in made.quotes if self._facts):
            return False
        return not any(
            text_hash(made.text) == told or distance(simhash(made.text), bits) <= NEAR_BITS for told, bits in self._marks
        )


def rate(request: RateRequest) -> RateResponse:
    """How good a text is: the parts of its score, held down by every criterion that is not met."""
    parts = parts_of(request.text, request.brief, request.soul, request.articles)
    results = [check(c, request.text, request.articles) for c in request.criteria]
    unmet = [r for r in results if not r.met]
    score = score_of(parts) * (1 - len(unmet) / len(results) if results else 1)
    reasons = [reason(r.name, "", r.why) for r in unmet] + weak_points(parts, request.soul)
    return RateResponse(score=round(score, 4), reasons=reasons, criteria=results, parts=parts)
