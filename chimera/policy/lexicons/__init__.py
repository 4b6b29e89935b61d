"""Word lists by name: one phrase a line; `word*` matches beginnings; `- phrase` is an innocent use, taken out before looking.

The rule not to break: a list is data that people may read and extend; nothing here decides.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from chimera.errors import ChimeraError

FOLDER = Path(__file__).parent


class UnknownLexicon(ChimeraError):
    """A policy names a lexicon that is not shipped."""


def read_list(path: Path) -> tuple[str, ...]:
    """The lines of a word list, without comments and empty ones."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def read_patterns(path: Path, flags: int = 0) -> tuple[re.Pattern[str], ...]:
    """The regular expressions of a list, one a line, as few patterns that together find what any of them finds.

    All that begin at a word's edge (`\\b`) are one: tried at the edges of a text, not each of them at each of its characters.
    """
    ways = [way for line in read_list(path) for way in _ways(line)]
    at_edges = [way.removeprefix(r"\b") for way in ways if way.startswith(r"\b")]
    others = [way for way in ways if not way.startswith(r"\b")]
    together = [rf"\b(?:{'|'.join(at_edges)})"] if at_edges else []
    return tuple(re.compile(pattern, flags) for pattern in (*together, *others))


def _ways(pattern: str) -> list[str]:
    """The alternatives of an expression: what stands between its outermost bars."""
    ways, depth = [""], 0
    for part in _PARTS.findall(pattern):
        depth += (part == "(") - (part == ")")
        if part == "|" and depth == 0:
            ways.append("")
        else:
            ways[-1] += part
    return ways


_PARTS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]])*\]|.", re.DOTALL)
"""An escaped character, a set of characters, or any other character."""


@lru_cache(maxsize=32)
def _lines(name: str) -> tuple[str, ...]:
    known = sorted(path.stem for path in FOLDER.glob("*.txt"))
    if name not in known:
        raise UnknownLexicon(f"no lexicon '{name}' in {FOLDER}: the policy's `sensitive` may name {', '.join(known)}")
    return read_list(FOLDER / f"{name}.txt")


@lru_cache(maxsize=32)
def lexicon(name: str) -> tuple[str, ...]:
    """The phrases of `<name>.txt`. Raises UnknownLexicon naming those that exist."""
    return tuple(line for line in _lines(name) if not line.startswith("- "))


@lru_cache(maxsize=32)
def innocent(name: str) -> tuple[str, ...]:
    """The innocent uses of `<name>.txt`: where one stands, its words say nothing about the topic."""
    return tuple(line[2:].strip() for line in _lines(name) if line.startswith("- "))
