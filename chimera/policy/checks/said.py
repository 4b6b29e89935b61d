"""What a text says: phrases that it may not hold, likeness to what was said before, numbers and quotations that nobody gave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from chimera.events.hashes import distance, simhash, text_hash
from chimera.policy import text as measure
from chimera.policy.boardkit import Soul
from chimera.policy.context import Context, Found

_QUOTED = re.compile(r"“([^”]{8,})”|\"([^\"]{8,})\"|«([^»]{8,})»|„([^“”]{8,})[“”]")
_QUOTED_WORDS = 4
"""Fewer words in quotation marks are a name or an ironic word, not a quotation."""


@lru_cache(maxsize=2048)  # rules, memory of other accounts and score ask for the same
def claim(text: str, soul: Soul) -> str:
    """What a text claims: no links, no hashtags, and none of the persona's own openers and sign-offs."""
    said = measure.body(text)
    for phrase in (*soul.voice.openers, *soul.voice.sign_offs):
        said = said.replace(phrase, " ")
    return " ".join(said.split())


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
    known = _alike(text, ctx.fingerprints, ctx.rules.similar_bits)
    if known:
        yield known, "the account has said nearly the same: tell something else"


def tenant_duplicate(text: str, ctx: Context) -> Found:
    """Another account of the tenant says the same claim, or nearly the same, whatever greeting stands around it."""
    if not ctx.rules.distinct_across_tenant:
        return
    known = _alike(text, ctx.elsewhere, ctx.rules.similar_bits)
    known = known or _alike(claim(text, ctx.soul), ctx.elsewhere, ctx.rules.similar_claim_bits)
    if known:
        yield known, "another account of the fleet says nearly the same: tell something else"


def _alike(text: str, known: Sequence[tuple[str, int]], bits: int) -> str:
    if not known:
        return ""
    own_hash, own_bits = text_hash(text), simhash(text)
    return next((h for h, b in known if h and (own_hash == h or distance(own_bits, b) <= bits)), "") if own_hash else ""


def numbers(text: str, ctx: Context) -> Found:
    """A number that stands in no source; the persona's own phrases are not claims."""
    known: frozenset[str] = frozenset().union(*(measure.source_numbers(article.whole) for article in ctx.sources))
    for n in dict.fromkeys(measure.numbers(claim(text, ctx.soul))):
        if n not in known:
            yield n, "stands in no source: use the source's number or none"


def quotations(text: str, ctx: Context) -> Found:
    """Words in quotation marks that nobody said: a quotation stands in a source word for word."""
    known = [measure.plain_source(article.whole) for article in ctx.sources]
    for found in _QUOTED.finditer(measure.body(text)):
        said = next(group for group in found.groups() if group)
        words = measure.plain(said)
        if len(words.split()) >= _QUOTED_WORDS and not any(words in source for source in known):
            yield said[:60], "stands in no source word for word: quote exactly or use no quotation marks"
