"""What no honest text of the fleet holds: hidden characters, markup, encodings, orders to machines, secrets, places to send money.

The rule not to break: these fail a text wherever its words came from. What an attacker plants in a source is at worst a draft that
is thrown away.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from chimera.policy import text as measure
from chimera.policy.context import Context, Found
from chimera.policy.lexicons import read_patterns

# --- characters ------------------------------------------------------------------------------------------------------

_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800\u17b4\u17b5\ufffc")
_MIXABLE = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC")
_STYLED = ("MATHEMATICAL", "FULLWIDTH", "CIRCLED", "SQUARED", "PARENTHESIZED", "NEGATIVE", "REGIONAL")
_STACKED = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u20d0-\u20f0]{3}")
_ODD = re.compile(r"[^\n\t -~]")
"""All that is not a plain character of a keyboard."""
_WORD = re.compile(r"[^\W\d_]{2,}")


def hidden(text: str, ctx: Context) -> Found:
    """Characters that readers do not see or take for others: invisible ones, bidi controls, look-alikes, styled alphabets."""
    for odd in _ODD.finditer(text):
        c = odd.group()
        if _unseen(text, odd.start(), c):
            yield f"U+{ord(c):04X}", "is invisible or turns the writing around: type the text plainly"
            break
    if _STACKED.search(unicodedata.normalize("NFC", text)):
        yield "stacked marks", "hide what is written: type the text plainly"
    for word in _WORD.findall(measure.body(text)):
        if word.isascii():
            continue
        scripts = {s for c in word if (s := _letters_of(c))}
        if len(scripts & set(_MIXABLE)) > 1:
            yield word[:40], "mixes letters of different scripts: type it in one"
        elif len(scripts & set(_STYLED)) and len(word) >= 3:
            yield word[:40], "is written in letters that only look like letters: type it plainly"


def _unseen(text: str, i: int, c: str) -> bool:
    if c.isascii():
        return (c < " " and c not in "\n\t") or c == "\x7f"
    if c in _BLANK_LETTERS:
        return True
    if unicodedata.category(c) not in ("Cf", "Cc", "Co", "Cs", "Cn", "Zl", "Zp"):
        return False
    before = text[i - 1] if i else ""
    if c == "\u200d":  # joins pictures, and nothing else that the fleet writes
        after = text[i + 1] if i + 1 < len(text) else ""
        return not ((measure.has_emoji(before) or before == "\ufe0f" or "\U0001f3fb" <= before <= "\U0001f3ff") and after)
    if "\U000e0020" <= c <= "\U000e007f":  # a flag of a country's part: a black flag, then tags
        return "\U0001f3f4" not in text[max(0, i - 8) : i]
    return True


def _letters_of(c: str) -> str:
    return "LATIN" if c.isascii() else unicodedata.name(c, "").split(" ", 1)[0] if c.isalpha() else ""


# --- markup and encodings --------------------------------------------------------------------------------------------

_MARKUP = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), what)
    for pattern, what in (
        (r"</?[a-z][a-z0-9-]*(?:\s[^<>]*)?/?>|<!--|-->|<\?xml", "HTML"),
        (r"!\[[^\]]*\]\s?\(|\[[^\]]+\]\(\s*\S+\s*\)|^\s*\[[^\]]+\]:\s*\S+", "a Markdown link or image"),
        (r"```|~~~", "a code fence"),
        (r"<\|[a-z_]+\|>|\[/?INST\]|<</?SYS>>|</?s>|\[/?(?:SYSTEM|TOOL|FUNCTION)[^\]]*\]", "a model's template mark"),
        (r"\{\{.+?\}\}|\{%.+?%\}|\$\{[^}]+\}|<%.+?%>", "a template"),
        (r"\{\s*[\"“'][\w$.-]+[\"”']\s*:", "a JSON object"),
        (r"\bon(?:error|load|click)\s*=", "a script"),
    )
)
_ENCODED = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"(?:\b[01]{7,8}\b[\s,]*){3,}", "binary"),
        (r"(?:\\u[0-9a-fA-F]{4}){2,}|(?:\\x[0-9a-fA-F]{2}){3,}", "escapes"),
        (r"(?:%[0-9a-fA-F]{2}){4,}", "percent encoding"),
        (r"(?:&#x?[0-9a-fA-F]{2,6};\s?){2,}", "character references"),
        (r"(?:(?<![\w.-])[.·•-]{1,6}(?:\s+/?\s*|$)){6,}", "Morse code"),
        (r"(?<![\w/])[0-9a-fA-F]{32,}(?!\w)", "hexadecimal"),
        (r"(?:\b[0-9a-fA-F]{2}\b[\s:]){8,}", "hexadecimal"),
        (r"(?:\b\d{2,3}\b[\s,]+){12,}", "numbers for letters"),
        (r"(?:\b[^\W\d_]\b[ .·_-]{1,3}){8,}", "letters spaced out"),
    )
)
_BASE64 = re.compile(r"(?<![\w/+=])[A-Za-z0-9+/_-]{20,}={0,2}(?![\w/+=])")


def markup(text: str, ctx: Context) -> Found:
    """Markup, templates or data where plain words belong: platforms show it raw, other readers may obey it."""
    for pattern, what in _MARKUP:
        found = pattern.search(text)
        if found is not None:
            yield found.group()[:60], f"is {what}: write plain words"


def encoded(text: str, ctx: Context) -> Found:
    """Words in an encoding that people do not read: filters miss it and machines decode it."""
    said = measure.body(text)
    for pattern, what in _ENCODED:
        found = pattern.search(said)
        if found is not None:
            yield found.group()[:60], f"looks like {what}: write plain words"
    for found in _BASE64.finditer(said):
        run = found.group()
        kinds = (any(c.isdigit() for c in run), any(c.isupper() for c in run[1:]), any(c.islower() for c in run))
        if run.endswith("=") or (sum(kinds) == 3 and _changes(run) * 3 >= len(run)):
            yield run[:60], "looks like base64: write plain words"


def _changes(run: str) -> int:
    """How often the kind of character changes: often in random letters, seldom in words that were joined."""

    def kind(c: str) -> int:
        return 0 if c.isdigit() else 1 if c.isupper() else 2 if c.islower() else 3

    return sum(kind(a) != kind(b) for a, b in pairwise(run))


# --- orders to machines ----------------------------------------------------------------------------------------------


def instructions(text: str, ctx: Context) -> Found:
    """Speech to a machine instead of to readers: orders to models, roles of a prompt, names of our own controls."""
    flat = _folded(text)
    # Read backwards too: direction marks that a reader of feeds takes out leave it so.
    for said in (flat, flat[::-1], *([flat.translate(_DIGITS_FOR_LETTERS)] if _MIXED.search(flat) else [])):
        found = next((m for pattern in _orders() if (m := pattern.search(said))), None)
        if found is not None:
            yield found.group().strip()[:60], "speaks to a machine, not to readers: tell something else"
            return


_MIXED = re.compile(r"[a-z][01345@$7][a-z]|\b[01345@$7][a-z]{2}")
_DIGITS_FOR_LETTERS = str.maketrans("01345@$7", "oieasast")


def _folded(text: str) -> str:
    """Case, width and invisible characters folded; line breaks kept, since a prompt's roles begin lines."""
    shown = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return "\n".join(" ".join(line.split()) for line in shown.casefold().replace("’", "'").splitlines())


@lru_cache(maxsize=1)
def _orders() -> tuple[re.Pattern[str], ...]:
    return read_patterns(Path(__file__).parent / "orders.txt", re.MULTILINE)


# --- secrets and money -----------------------------------------------------------------------------------------------

_SECRETS = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        (r"\b(?:sk|pk|rk)[-_](?:live|test|proj|ant)?[-_]?[A-Za-z0-9_-]{16,}", 0),
        (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", 0),
        (r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}", 0),
        (r"\bxox[abprs]-[A-Za-z0-9-]{10,}", 0),
        (r"\bAIza[0-9A-Za-z_-]{30,}", 0),
        (r"-----BEGIN [A-Z ]+-----", 0),
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.?[A-Za-z0-9_-]*", 0),
        (r"\bbearer\s+[A-Za-z0-9._~+/-]{12,}", re.IGNORECASE),
        (r"\b\w+://[^\s/:@]+:[^\s/@]+@", 0),
        (
            r"\b(?:password|passwd|passphrase|pwd)\b[^.\n:=]{0,25}[:=]\s*(?=\S*\d)\S{6,}|"
            r"\b(?:password|passwd|passphrase|pwd|api[ _-]?key|secret[ _-]?key|access[ _-]?token|client[ _-]?secret|"
            r"auth[ _-]?token)\s*(?:is|=|:)\s*[\"'`]?(?=\S*[\d_!@#$%^&*-])\S{6,}",
            re.IGNORECASE,
        ),
        (r"\bseed phrase\s*(?:is|=|:)\s*(?:[a-z]{3,8}\s+){5,}", re.IGNORECASE),
    )
)


def secrets(text: str, ctx: Context) -> Found:
    """Something that looks like a key, a token or a password. What was found is not repeated."""
    for pattern in _SECRETS:
        found = pattern.search(text)
        if found is not None:
            yield f"{found.group()[:4]}…", "looks like a secret: remove it, and change it if it is real"
            return


_PLACES = tuple(
    (re.compile(pattern, flags), what)
    for pattern, what, flags in (
        (r"\b0x[0-9a-fA-F]{40}\b", "an Ethereum address", 0),
        (r"\b(?:bc|ltc|tb|bnb|cosmos|osmo|terra)1[02-9ac-hj-np-z]{20,}\b", "a wallet's address", re.IGNORECASE),
        (r"\blnbc[0-9a-z]{20,}", "a Lightning invoice", re.IGNORECASE),
        (r"\baddr1[0-9a-z]{30,}", "a Cardano address", 0),
        (r"(?<![\w.@/-])[\w-]+\.(?:eth|sol|bnb|crypto)\b(?!\.\w)", "a wallet's name", re.IGNORECASE),
        (
            r"\b(?:paypal\.me|cash\.app|venmo\.com|revolut\.me|ko-fi\.com|buymeacoffee\.com|monzo\.me)/\S+",
            "a payment page",
            re.IGNORECASE,
        ),
        (
            r"\b(?:cash ?app|venmo|zelle|paypal|bizum|revolut)\b[^.\n]{0,20}[\s:](?:[$@]\w{3,}|[\w.+-]+@[\w-]+\.\w+)",
            "a payment account",
            re.IGNORECASE,
        ),
        (r"(?<![\w$])\$(?=[a-z]*[a-z][A-Za-z]*\d)[A-Za-z][A-Za-z0-9]{3,19}\b", "a payment account", 0),
    )
)  # fmt: skip
_BASE58 = re.compile(r"(?<![\w/])[1-9A-HJ-NP-Za-km-z]{26,48}(?!\w)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\d+])[2-6]\d(?:[ -]?\d){11,17}(?!\d)")


def wallets(text: str, ctx: Context) -> Found:
    """A place to send money to: a wallet, a bank account, a card, a payment page. Payees come from the tenant's list, never from a
    text."""
    for pattern, what in _PLACES:
        found = pattern.search(text)
        if found is not None:
            yield found.group()[:24], f"is {what}: leave it out"
    said = measure.body(text)
    for run in _BASE58.findall(said):
        digits, uppers = sum(c.isdigit() for c in run), sum(c.isupper() for c in run)
        if digits >= 3 and uppers >= 3 and any(c.islower() for c in run):
            yield run[:24], "looks like a wallet's address: leave it out"
    if any(_is_iban(found.group()) for found in _IBAN.finditer(said)):
        yield "IBAN", "is a bank account: leave it out"
    if any(_is_card(found.group()) for found in _CARD.finditer(said)):
        yield "card number", "is a payment card: leave it out"


def _is_iban(written: str) -> bool:
    """ISO 13616: moved to the end and read as a number, it leaves 1 modulo 97."""
    plain = written.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _is_card(written: str) -> bool:
    """ISO/IEC 7812: the Luhn sum is a multiple of ten."""
    digits = [int(c) for c in written if c.isdigit()]
    doubled = [d if i % 2 == 0 else 2 * d - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1
