"""Measures of a text that rules and scores share: words, sentences, numbers, links, tags, length as the platform counts it.

The rule not to break: a measure sees through spelling tricks (case, width, zero-width characters, hyphens) the same way everywhere.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from urllib.parse import urlsplit

URL_WEIGHT = 23
"""What any link counts on X (docs.x.com, counting characters)."""

_URL = re.compile(r"https?://[^\s<>\"”]+[^\s<>\"”.,;:!?)\]’']")
_TOP = "com|org|net|io|example|news|shop|xyz|info|biz|co|ly|app|dev|gg|ru|site|online|gl|gy|me(?=/)"
_BARE_HOST = re.compile(rf"(?<![\w@/.])(?:[a-z0-9-]+\.)+(?:{_TOP})(?!\w)(?:/[^\s]*)?", re.IGNORECASE)
_DOT_TOP = re.compile(rf"\.(?:{_TOP})(?!\w)", re.IGNORECASE)
"""What every bare host ends with: a dot is found at once, and most texts hold none such."""
_TAG = re.compile(r"(?<![\w&])#(\w*[^\W\d_]\w*)")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_END = re.compile(r"(?<=[.!?])[\"”’']?\s+(?=[\"“‘']?[A-Z0-9\d])")
_SYMBOL = "[\U0001f300-\U0001faff\u2600-\u27bf]"
_ONE_SYMBOL = re.compile(_SYMBOL)
_MODIFIERS = "[\ufe0f\U0001f3fb-\U0001f3ff]*"
_PICTURE = re.compile(rf"[\U0001f1e6-\U0001f1ff]{{2}}|{_SYMBOL}{_MODIFIERS}(?:\u200d{_SYMBOL}{_MODIFIERS})*")
_HEAVY = re.compile("[^\u0000-\u10ff\u2000-\u200d\u2010-\u201f\u2032-\u2037]")
"""What counts 2 on X (twitter-text, configuration 3); everything else counts 1."""
_BREAK = re.compile(r"[.;:!?]+[\"”’)]*\s+")
_INVISIBLE = re.compile("[\u200b-\u200d\u2060\ufeff\u00ad]")
_PLAIN_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_ABBREVIATIONS = ("mr.", "mrs.", "dr.", "st.", "e.g.", "i.e.", "no.", "vs.", "prof.")

_STOP = """a about after again all also an and any are as at be because been before being both but by can could did do does for from
get had has have he her here hers him his how i if in into is it its just like made make many me more most much my no not now
of off on one only or other our out over own per said same say says she should so some such than that the their them then
there these they this those through to too under until up us very was we were what when where which while who why will with
would you your every each since"""
STOP_WORDS = frozenset(_STOP.split())
_SUFFIXES = ("ings", "ing", "edly", "ied", "ies", "ers", "ed", "er", "es", "ly", "s", "e")


@lru_cache(maxsize=256)
def plain(text: str) -> str:
    """NFKC, case-folded, without invisible characters, every run of punctuation or space as one space: for comparing phrases."""
    return _plain(text)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold().replace("’", "'")
    return " ".join(_PLAIN_WORD.findall(folded))


def holds_phrase(text: str, phrase: str) -> bool:
    """Whether `phrase` stands in `text` as whole words, however it is cased, hyphenated or spaced, within one sentence.

    `word*` matches the beginnings of words.
    """
    wanted, pattern = _phrase(phrase)
    said = plain_parts(text)
    # A text is searched for many phrases and holds few of them.
    return wanted in said and pattern is not None and pattern.search(said) is not None


@lru_cache(maxsize=4096)
def _phrase(phrase: str) -> tuple[str, re.Pattern[str] | None]:
    wanted = plain(phrase)
    ending = "" if phrase.endswith("*") else r"(?![^\W_])"
    return wanted, re.compile(rf"(?<![^\W_]){re.escape(wanted)}{ending}") if wanted else None


@lru_cache(maxsize=256)
def plain_parts(text: str) -> str:
    """The text's sentences (and other parts that a colon or an exclamation mark ends), each in plain form on a line of its own."""
    return "\n".join([_plain(part) for part in _BREAK.split(text)])


@lru_cache(maxsize=1024)
def runs(text: str, n: int) -> frozenset[str]:
    """Every run of `n` consecutive words, in plain form."""
    found = plain(text).split()
    return frozenset(" ".join(found[i : i + n]) for i in range(len(found) - n + 1))


def links(text: str) -> list[str]:
    """Addresses in the text, with or without scheme, in order."""
    return list(_links(text))


@lru_cache(maxsize=256)
def _links(text: str) -> tuple[str, ...]:
    found = [(m.start(), m.group()) for m in _URL.finditer(text)]
    rest = _URL.sub(lambda m: " " * len(m.group()), text)
    if _DOT_TOP.search(rest):
        found += [(m.start(), m.group()) for m in _BARE_HOST.finditer(rest)]
    return tuple(link for _, link in sorted(found))


def host(link: str) -> str:
    """Host of an address, lower case, without `www.`."""
    parts = urlsplit(link if "://" in link else f"http://{link}")
    return (parts.hostname or "").removeprefix("www.")


def hashtags(text: str) -> list[str]:
    """Hashtags without their sign, in order; fragments of addresses are none."""
    return list(_hashtags(text))


@lru_cache(maxsize=256)
def _hashtags(text: str) -> tuple[str, ...]:
    return tuple(_TAG.findall(_URL.sub(" ", text)))


@lru_cache(maxsize=256)  # half of the rules ask for it
def body(text: str) -> str:
    """The text without links and hashtags: what it says."""
    return " ".join(_TAG.sub(" ", _URL.sub(" ", text)).split())


def words(text: str) -> list[str]:
    """Words as written; numbers count as words."""
    return list(_words(text))


@lru_cache(maxsize=1024)
def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text))


@lru_cache(maxsize=8192)  # texts of one theme share most of their words
def stem(word: str) -> str:
    """A crude stem: enough to match `walks` with `walking`; it is compared only with other results of itself."""
    low = word.casefold().replace("’", "'").removesuffix("'s")
    for suffix in _SUFFIXES:
        if low.endswith(suffix) and len(low) - len(suffix) >= 3:
            low = low[: -len(suffix)]
            break
    if len(low) > 3 and low[-1] == low[-2] and low[-1] not in "aeiou":
        low = low[:-1]
    return low[:-1] + "i" if low.endswith("y") and len(low) > 3 else low


@lru_cache(maxsize=1024)
def content_stems(text: str) -> tuple[str, ...]:
    """Stems of the words that carry meaning, numbers left out, in order."""
    return tuple(stem(w) for w in words(text) if not w[0].isdigit() and len(w) > 1 and w.casefold() not in STOP_WORDS)


def numbers(text: str) -> list[str]:
    """Numbers in figures, thousands separators removed."""
    return [re.sub(r",(?=\d{3}(?:\D|$))", "", n) for n in _NUMBER.findall(text)]


@lru_cache(maxsize=128)  # many texts are made from the same few articles
def source_numbers(source: str) -> frozenset[str]:
    """`numbers` of an article."""
    return frozenset(numbers(source))


@lru_cache(maxsize=1024)
def sentences(text: str) -> tuple[str, ...]:
    """Sentences in order, each trimmed; a paragraph's end ends a sentence as well."""
    result: list[str] = []
    for paragraph in re.split(r"\n\s*\n|\n(?=[A-Z“\"])", text):
        flat, start = " ".join(paragraph.split()), 0
        for found in _END.finditer(flat):
            if flat[: found.start()].casefold().endswith(_ABBREVIATIONS):
                continue
            result.append(flat[start : found.end()].strip())
            start = found.end()
        if flat[start:].strip():
            result.append(flat[start:].strip())
    return tuple(result)


def has_emoji(text: str) -> bool:
    """Whether a pictograph stands in the text."""
    return _ONE_SYMBOL.search(text) is not None


@lru_cache(maxsize=256)
def weighted_length(text: str, platform: str) -> int:
    """Length as the platform counts it. X: links 23; an emoji, joined or not, 2. Others: code points."""
    normal = unicodedata.normalize("NFC", text)
    if platform != "x":
        return len(normal)
    found = links(normal)
    for link in found:
        normal = normal.replace(link, "", 1)
    rest, pictures = _PICTURE.subn("", normal)
    return URL_WEIGHT * len(found) + 2 * pictures + len(rest) + len(_HEAVY.findall(rest))


@lru_cache(maxsize=1024)
def verbatim_words(text: str, source: str) -> int:
    """Length in words of the longest run of consecutive words of `text` that stands in `source`."""
    ours, theirs = plain(text).split(), f" {plain_source(source)} "
    best = 0
    for start in range(len(ours)):
        while start + best < len(ours) and f" {' '.join(ours[start : start + best + 1])} " in theirs:
            best += 1
    return best


@lru_cache(maxsize=128)
def plain_source(source: str) -> str:
    """`plain` of an article."""
    return plain(source)
