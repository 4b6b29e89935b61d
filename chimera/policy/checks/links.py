"""Where a text leads: which addresses it may carry, and addresses that hide where they lead."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from chimera.policy import text as measure
from chimera.policy.context import Context, Found
from chimera.policy.lexicons import read_list

_IP_HOST = re.compile(r"^(?:\d{1,3}(?:\.\d{1,3}){3}|0x[0-9a-f]+|\d{8,10}|\[[0-9a-f:.]+\])$", re.IGNORECASE)
_OTHER_SCHEME = re.compile(
    r"\b(?:javascript|data|vbscript|file|ftp|hxxps?|ipfs|magnet|intent):(?:/\/?|[a-z]+/|[^\s])", re.IGNORECASE
)
_DEFANGED = re.compile(
    r"\b[\w-]+\s?(?:\[\.\]|\(\.\)|\[dot\]|\(dot\))\s?[a-z]{2,}\b|"
    r"\b[\w-]{3,} dot (?:com|org|net|io|example)\b",
    re.IGNORECASE,
)


def links(text: str, ctx: Context) -> Found:
    """Too many links, a link that is not https, or one to a host that is neither a source's nor allowed."""
    allowed = {d.casefold().removeprefix("www.") for d in ctx.rules.links.allowed_domains}
    if ctx.rules.links.from_sources:
        allowed |= {measure.host(article.url) for article in ctx.sources if article.url}
    found = measure.links(text)
    if len(found) > ctx.rules.links.max:
        yield str(len(found)), f"at most {ctx.rules.links.max} links: keep the source's"
    for link in found:
        if link.startswith("http://"):
            yield link, "is not https: use the source's https address"
        elif not any(measure.host(link) == d or measure.host(link).endswith(f".{d}") for d in allowed):
            yield measure.host(link), "is neither a source's host nor allowed by policy: remove the link"


def link_tricks(text: str, ctx: Context) -> Found:
    """An address that hides where it leads, whoever gave it: shortened, with a user part, by number, in another script."""
    for link in measure.links(text):
        why = _trick(link)
        if why:
            yield link[:80], f"{why}: use the plain https address of the source"
    for pattern, why in ((_OTHER_SCHEME, "is no web address"), (_DEFANGED, "spells an address out")):
        found = pattern.search(text)
        if found is not None:
            yield found.group()[:80], f"{why}: leave it out"


def _trick(link: str) -> str:
    try:
        parts = urlsplit(link if "://" in link else f"https://{link}")
        port = parts.port
    except ValueError:
        return "cannot be read as an address"
    host = (parts.hostname or "").rstrip(".")
    if "@" in parts.netloc:
        return "has a user part before its host"
    if _IP_HOST.match(host) or ":" in host:
        return "names its host by number"
    if "xn--" in host or not host.isascii() or "%" in parts.netloc:
        return "spells its host in another script"
    if port not in (None, 443):
        return "asks for another port"
    if host.removeprefix("www.") in _shorteners():
        return "is a shortened address"
    return ""


@lru_cache(maxsize=1)
def _shorteners() -> frozenset[str]:
    return frozenset(read_list(Path(__file__).parent / "shorteners.txt"))
