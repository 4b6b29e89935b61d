"""What a text speaks of: sensitive topics, which tag it, and promises that nobody may make, which fail it.

The rule not to break: a topic is found in the words of the text. What the worker said of its own text counts on top, never instead.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from chimera.policy import text as measure
from chimera.policy.context import Context, Found
from chimera.policy.lexicons import innocent, lexicon, read_patterns


def sensitive(text: str, ctx: Context) -> Found:
    """Words of a sensitive or watched lexicon: the subject is the tag that they raise."""
    for raised, then in ((ctx.rules.sensitive, "people decide"), (ctx.rules.watched, "the tag's thresholds hold")):
        for name, tag in raised.items():
            hits = _hits(text, name)
            if hits:
                yield tag, f"{', '.join(hits[:3])}: {then}"


@lru_cache(maxsize=4096)
def _hits(text: str, name: str) -> tuple[str, ...]:
    pattern = _any_of(lexicon(name))
    said = measure.plain_parts(text)
    if not pattern.search(said):
        return ()
    cleared = _any_of(innocent(name)).sub(" ", said) if innocent(name) else said
    return tuple(dict.fromkeys(found.group().strip() for found in pattern.finditer(cleared)))


@lru_cache(maxsize=64)
def _any_of(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for a whole list, longest first: a hundred searches a text would cost more than the model's score. Phrases are
    told apart by their first letter, so that a word is not held against all of them."""
    forms = sorted({(measure.plain(p), "" if p.endswith("*") else r"(?![^\W_])") for p in phrases}, key=lambda f: (-len(f[0]), f))
    by_letter: dict[str, list[str]] = {}
    for phrase, end in forms:
        by_letter.setdefault(phrase[:1], []).append(re.escape(phrase[1:]) + end)
    return re.compile(r"(?<![^\W_])(?:" + "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in by_letter.items()) + ")")


def promises(text: str, ctx: Context) -> Found:
    """A promise that nobody may make for the fleet: a cure, money, or an appeal to vote."""
    flat = " ".join(text.replace("’", "'").casefold().split())
    found = next((m for pattern in _promises() if (m := pattern.search(flat))), None)
    if found is not None:
        yield found.group()[:60], "promises what nobody can, or asks for a vote: leave it out"


@lru_cache(maxsize=1)
def _promises() -> tuple[re.Pattern[str], ...]:
    return read_patterns(Path(__file__).parent / "promises.txt")
