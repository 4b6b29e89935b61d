"""What differs between two texts, word by word, and between two looks at one card.

The rule not to break: nothing that differs is left out of the answer; what a person is told here is what they decide on.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

_WORDS = re.compile(r"\s+|[^\s]+")
_MOVES = ("status", "approvals", "waiting_since_ts")
"""Fields of a card that may change while somebody looks at it: the bytes and what is known of them stay the same."""


class Piece(NamedTuple):
    """A run of signs that both texts have, or just the old one, or just the new one."""

    what: Literal["same", "old", "new"]
    text: str


def word_diff(old: str, new: str) -> list[Piece]:
    """The two texts as pieces: same + old is the old text to the sign, same + new the new one."""
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    pieces: list[Piece] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(Piece("same", "".join(before[a:b])))
            continue
        if b > a:
            pieces.append(Piece("old", "".join(before[a:b])))
        if d > c:
            pieces.append(Piece("new", "".join(after[c:d])))
    return pieces


def in_words(pieces: list[Piece]) -> str:
    """The pieces on one line, without colours: `Soup warms [-you-] {+all+}.`"""
    marks = {"same": "{}", "old": "[-{}-]", "new": "{{+{}+}}"}
    return "".join(marks[piece.what].format(piece.text) for piece in pieces)


def changes(shown: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of a card is not as it was shown, a sentence's part each; votes and waiting that moved on are no change."""
    found = []
    for name in dict.fromkeys((*shown, *now)):
        was, is_ = shown.get(name), now.get(name)
        if was == is_ or name in _MOVES:
            continue
        if name == "text":
            found.append(f"text: {in_words(word_diff(str(was), str(is_)))}")
        elif name.endswith("_hash"):
            found.append(f"{name}: {str(was)[:12]} -> {str(is_)[:12]}")
        elif isinstance(was, list | dict) or isinstance(is_, list | dict):
            found.append(name)
        else:
            found.append(f"{name}: {_said(was)} -> {_said(is_)}")
    return found


def _said(value: object) -> str:
    return "none" if value in (None, "") else str(value)
