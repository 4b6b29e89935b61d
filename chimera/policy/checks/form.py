"""What a text looks like: its length, tags, label, language, and the persona's manner."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from chimera.policy import text as measure
from chimera.policy.context import Context, Found

_LANGUAGES = {
    "en": "the of and to in a is that for it with on as are this was be by from at have or one had not but what all were when you",
    "de": "der die das und ist nicht ein eine mit auf für von zu den dem im auch sich werden wird aber oder wie wir sie es am bei",
    "fr": "le la les des et est une un dans pour que qui pas sur avec au ce il elle nous vous par plus sont du en ne se aux cette",
    "es": "el la los las de y es una un en para que no por con su se del al como más pero lo sus este son está muy hay cada",
    "it": "il lo la gli le di e è una un in per che non con su si del della al come più ma sono questo anche dei nel ogni alla",
    "pt": "o a os as de e é um uma em para que não por com seu se do da ao como mais mas são este muito já também no na você",
    "nl": "de het een en is niet van op voor met dat die in te zijn er aan ook als maar om bij naar nog wel dit uit worden",
    "sv": "och att det som en är på för av med den till inte om ett men vi har de så kan från när vid eller under också",
    "pl": "i w na z do się nie to jest że po od za jak ale czy dla są tak przez przy tylko ten jego już może być oraz",
}
_LANGUAGE_WORDS = {code: frozenset(words.split()) for code, words in _LANGUAGES.items()}
_SCRIPTS = {
    "CYRILLIC": ("ru", "uk", "bg", "sr"), "GREEK": ("el",), "HEBREW": ("he",), "ARABIC": ("ar", "fa", "ur"), "HANGUL": ("ko",),
    "DEVANAGARI": ("hi", "mr", "ne"), "THAI": ("th",), "HIRAGANA": ("ja",), "KATAKANA": ("ja",), "CJK": ("zh", "ja"),
}  # fmt: skip
_ENOUGH_LETTERS = 6
"""Fewer letters of another script are a name or a word, not a text."""
_BEYOND = re.compile("[\u0370-\U0010ffff]")
_CAPS = re.compile(r"(?:\b[A-Z]{4,}\b[\s,!]*){2,}")


def length(text: str, ctx: Context) -> Found:
    """Longer than format or policy allow, counted as the platform counts."""
    limits = [n for n in (ctx.max_chars, ctx.rules.max_chars_on(ctx.platform)) if n is not None]
    counted = measure.weighted_length(text, ctx.platform)
    if limits and counted > min(limits):
        yield str(counted), f"at most {min(limits)} characters on {ctx.platform}: shorten it"
    if not text.strip():
        yield "0", "the text is empty: write something"


def hashtags(text: str, ctx: Context) -> Found:
    """More hashtags than the policy allows."""
    n = len(measure.hashtags(text))
    if n > ctx.rules.max_hashtags:
        yield str(n), f"at most {ctx.rules.max_hashtags} hashtags: drop some"


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
    """Written in a language or a script that the policy does not allow; too few telling words say nothing."""
    said = measure.body(text)
    allowed_codes = ctx.rules.languages
    scripts = Counter(script for c in _BEYOND.findall(said) if (script := _script(c)))
    foreign = {s: n for s, n in scripts.items() if not set(_SCRIPTS[s]) & set(allowed_codes)}
    if sum(foreign.values()) >= _ENOUGH_LETTERS and sum(foreign.values()) * 3 > sum(c.isalpha() for c in said):
        most = max(foreign, key=lambda s: foreign[s])
        yield _SCRIPTS[most][0], f"write in {', '.join(allowed_codes)}"
        return
    ours = {w.casefold() for w in measure.words(said)}
    counts = {code: len(ours & known) for code, known in _LANGUAGE_WORDS.items()}
    best = max(counts, key=lambda code: counts[code])
    allowed = max((counts.get(code, 0) for code in allowed_codes), default=0)
    enough = counts[best] >= 3 or (counts[best] >= 2 and not allowed and len(ours) >= 5)
    if best not in allowed_codes and enough and counts[best] > allowed:
        yield best, f"write in {', '.join(allowed_codes)}"
    elif not allowed and len(ours) >= 5 and sum(not w.isascii() for w in ours) >= 2:
        yield "other", f"write in {', '.join(allowed_codes)}"  # no word of an allowed language, and letters of another


def _script(c: str) -> str:
    name = unicodedata.name(c, "").split(" ", 1)[0]
    return name if name in _SCRIPTS and c.isalpha() else ""


def persona_voice(text: str, ctx: Context) -> Found:
    """Not this persona's manner: pictures it never uses, shouting, or sentences twice as long as it speaks."""
    said = measure.body(text)
    if not ctx.soul.voice.emoji and measure.has_emoji(text):
        yield "emoji", f"{ctx.soul.name} uses no emoji: leave them out"
    if "!!" in text or _CAPS.search(said):
        yield "shouting", f"{ctx.soul.name} does not shout: one exclamation mark, no words in capitals"
    longest = max((len(measure.words(s)) for s in measure.sentences(said)), default=0)
    if longest > 2 * ctx.soul.voice.sentence_words:
        yield str(longest), f"{ctx.soul.name} speaks in sentences of about {ctx.soul.voice.sentence_words} words: cut it in two"
