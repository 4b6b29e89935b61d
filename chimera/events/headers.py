"""A record's headers as texts: the quick way for those that this code wrote, the long way for everybody else's.

The rule not to break: both ways read the same texts, and neither ever raises.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter

from chimera.events.raw import Headers, RawRecord

REQUIRED = (
    "ce_id",
    "ce_source",
    "ce_specversion",
    "ce_type",
    "ce_time",
    "ce_subject",
    "ce_tenant",
    "ce_schemaversion",
    "ce_actor",
)
OPTIONAL = ("ce_causationid", "ce_correlationid", "ce_keyid", "ce_signature")
NEEDED = frozenset(REQUIRED)
KNOWN = frozenset((*REQUIRED, *OPTIONAL, "traceparent"))
READ = (
    "ce_subject", "ce_specversion", "ce_schemaversion", "ce_id", "ce_type", "ce_tenant", "ce_actor", "ce_time", *OPTIONAL,
)  # fmt: skip
"""Headers that are read, in the order in which `decode` takes them."""
Claim = tuple[str, str]
"""(key id, signature) that a record names for itself, before anything is verified."""


def plain_headers(headers: Headers) -> tuple[str, ...] | None:
    """The texts of `READ` ("" where there is none) of a record as this code writes them; None where anything at all is unusual."""
    if not headers:
        return None
    names, contents = zip(*headers)  # noqa: B905  # pairs, all of them: to say so takes a fifth of the time
    taken = _taken(names)
    if taken is None:
        return None
    try:
        texts = b"\0".join(contents).decode().split("\0")
    except (UnicodeDecodeError, TypeError):  # TypeError: a header may be null
        return None
    if len(texts) != len(names):  # a NUL within a header makes one text too many
        return None
    texts.append("")
    return taken(texts)


@lru_cache(maxsize=256)
def _taken(names: tuple[str, ...]) -> Callable[[list[str]], tuple[str, ...]] | None:
    """What takes the texts of `READ` out of the texts of headers so named, in that order, with one "" behind them.

    None where a name is there twice, is not ours, or is missing. A fleet's records have a handful of such orders.
    """
    if len(set(names)) != len(names) or not KNOWN >= set(names) >= NEEDED:
        return None
    return itemgetter(*(names.index(name) if name in names else len(names) for name in READ))


def any_headers(headers: Headers) -> tuple[dict[str, str], str | None]:
    """The headers that are ours, and the first thing wrong with them."""
    found: dict[str, str] = {}
    defect: str | None = None
    for name, content in headers:
        if name not in KNOWN:
            continue  # another system's header is its own matter
        text = text_of(content)
        if text is None:
            defect = defect or f"header {name!r} is not UTF-8 text"
        elif name in found:
            defect = defect or f"duplicate header {name!r}"
        else:
            found[name] = text
    return found, defect


def signature(raw: RawRecord) -> Claim | None:
    """(key id, signature) that the record claims, or None. Duplicates make a record unreadable anyway."""
    found = {name: content for name, content in raw.headers if name in ("ce_keyid", "ce_signature")}
    if len(found) != 2:
        return None
    keyid, sig = text_of(found["ce_keyid"]), text_of(found["ce_signature"])
    return (keyid, sig) if keyid and sig else None


def text_of(content: bytes | None) -> str | None:
    """UTF-8 without U+0000, which no read model can keep; None for anything else."""
    try:
        return None if content is None or b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None
