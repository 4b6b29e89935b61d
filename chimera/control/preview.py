"""What a card would look like on its platform: words with links and tags marked, and the media that the call shows.

The rule not to break: what is drawn here is taken from the call's rendered arguments, and from nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from chimera.commands.telling import visible
from chimera.control.accounts import Login
from chimera.control.media import Links, in_call, kept_as
from chimera.media.store import Asset, MediaStore, named

Mark = Literal["", "link", "tag", "person"]
LOOKS = ("x", "instagram")
"""Platforms whose posts are drawn as theirs; of others what is said and shown is told plainly."""
_MARKED = re.compile(r"(?P<link>https?://[^\s<>\"]*[^\s<>\".,;:!?')\]}])|(?P<tag>(?<!\w)#\w+)|(?P<person>(?<!\w)@\w+)")


class Piece(NamedTuple):
    """A run of words, and as what a platform would show it."""

    words: str
    mark: Mark


class Shown(NamedTuple):
    """A file that the call shows or is made from. `address`: where this browser gets it, "" where it is not here. `named`: the
    call names this very hash in its arguments."""

    sha256: str
    kind: str
    address: str
    named: bool


class Preview(NamedTuple):
    """A card's post as its platform would show it."""

    look: str
    pieces: list[Piece]
    media: list[Shown]
    strange: list[str]
    """Addresses of media in the call whose hash the effect does not name: never so, and told loudly if it were."""


async def preview(card: Mapping[str, Any], login: Login, links: Links, store: MediaStore) -> Preview:
    """The preview of a card as `review.show` gives it, with addresses for this login."""
    in_arguments = {name.partition(".")[0]: name for name in in_call(card["arguments"])}
    media = []
    for sha256 in dict.fromkeys(card["asset_hashes"]):
        name = await kept_as(store, sha256)
        kind = _kind(name or in_arguments.get(sha256, ""))
        media.append(Shown(sha256, kind, links.address(login, name) if name is not None else "", sha256 in in_arguments))
    strange = [name for sha256, name in in_arguments.items() if sha256 not in card["asset_hashes"]]
    look = card["platform"] if card["platform"] in LOOKS and card["effect_class"] == "publish" else "plain"
    return Preview(look, pieces(card["text"]), media, strange)


def pieces(text: str) -> list[Piece]:
    """The words with what platforms mark apart, signs that hide made visible."""
    out, at, text = [], 0, visible(text)
    for found in _MARKED.finditer(text):
        if found.start() > at:
            out.append(Piece(text[at : found.start()], ""))
        out.append(Piece(found.group(), found.lastgroup))  # type: ignore[arg-type]  # the groups' names are the marks
        at = found.end()
    if at < len(text):
        out.append(Piece(text[at:], ""))
    return out


def _kind(name: str) -> str:
    parts = named(name)
    return Asset(*parts, 0).kind if parts is not None else "file"
