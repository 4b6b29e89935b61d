"""The tree of RFC 6962 in C2SP tlog-tiles: hashes, tile names, roots and proofs. Pure.

The one rule: nothing here knows what a leaf means. Hashes are 32 bytes; a tree of n leaves is asked for by its levels: hash `i` of
level `l` is the root of the complete subtree over the leaves [i << l, (i + 1) << l).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from chimera.errors import ChimeraError

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""Hashes of a full tile, and entries of a full bundle (C2SP tlog-tiles)."""
HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Hashes = Callable[[int, int], bytes]
"""(level, index) -> the stored hash of a complete subtree. May raise what its store raises."""


class BadProof(ChimeraError, ValueError):
    """A proof that does not prove what it is for."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


# --- tiles -----------------------------------------------------------------------------------------------------------


class Tile(NamedTuple):
    """A tile of the tree: its level (in tiles, not in nodes), number and how many hashes it has; `level` -1 names entries."""

    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """Its file name below the log's directory, as C2SP tlog-tiles writes it."""
        name = _number(self.number)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        kind = "entries" if self.level < 0 else str(self.level)
        return f"tile/{kind}/{name}{partial}"


def _number(number: int) -> str:
    """Groups of three digits, all but the last with an x before: 1234067 is x001/x234/067."""
    text = f"{number % 1000:03d}"
    while number >= 1000:
        number //= 1000
        text = f"x{number % 1000:03d}/{text}"
    return text


def tiles_for(old: int, new: int) -> Iterator[Tile]:
    """The hash tiles that a tree that grew from `old` to `new` leaves has to write: each with its width of now."""
    level = 0
    while new >> (level * HEIGHT) > 0:
        before, now = old >> (level * HEIGHT), new >> (level * HEIGHT)
        if now > before:
            for number in range(before // WIDTH, now // WIDTH):
                yield Tile(level, number, WIDTH)
            if now % WIDTH:
                yield Tile(level, now // WIDTH, now % WIDTH)
        level += 1


def tile_of(level: int, index: int, size: int) -> tuple[Tile, int]:
    """The tile, as a tree of `size` leaves has it, that holds the hash (level a multiple of `HEIGHT`), and its place in it."""
    count = size >> level
    number = index // WIDTH
    return Tile(level // HEIGHT, number, min(WIDTH, count - number * WIDTH)), index % WIDTH


# --- growing ---------------------------------------------------------------------------------------------------------


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first. All that appending needs."""

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        self.size = size
        self._roots = list(roots)

    @classmethod
    def load(cls, size: int, hashes: Hashes) -> Frontier:
        """The edge of a tree of `size` leaves from its stored hashes."""
        return cls(size, [hashes(level, index) for level, index in _edges(0, size)])

    def append(self, leaf: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Add a leaf's hash; every subtree that it completes, as (level, index, hash), lowest first."""
        yield 0, self.size, leaf
        hash_, level, index = leaf, 0, self.size
        while index & 1:
            hash_ = node_hash(self._roots.pop(), hash_)
            level, index = level + 1, index >> 1
            yield level, index, hash_
        self._roots.append(hash_)
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        return _joined(self._roots)


def _joined(roots: Sequence[bytes]) -> bytes:
    if not roots:
        return EMPTY_ROOT
    *rest, found = roots
    for left in reversed(rest):
        found = node_hash(left, found)
    return found


def _edges(low: int, high: int) -> list[tuple[int, int]]:
    """The fewest complete subtrees that cover the leaves [low, high) of a subtree that begins at `low`, left to right."""
    found: list[tuple[int, int]] = []
    while low < high:
        level = (high - low).bit_length() - 1
        found.append((level, low >> level))
        low += 1 << level
    return found


def root_of(size: int, hashes: Hashes) -> bytes:
    """The root of a tree of `size` leaves."""
    return _joined([hashes(level, index) for level, index in _edges(0, size)])


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes, in memory."""
    edge = Frontier()
    for leaf in leaves:
        for _ in edge.append(leaf):
            pass
    return edge.root()


# --- proofs ----------------------------------------------------------------------------------------------------------


def _range_root(low: int, high: int, hashes: Hashes) -> bytes:
    return _joined([hashes(level, index) for level, index in _edges(low, high)])


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _climb(number: int, last: int, steps: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each hash on the way from a node to the root, and whether it stands to the left. `last`: the last node of that level.

    Raises `BadProof` for more or fewer steps than the tree is high.
    """
    for step in steps:
        if last == 0:
            raise BadProof("the proof is longer than the tree is high")
        left = bool(number & 1) or number == last
        yield step, left
        while left and not number & 1 and number:
            number, last = number >> 1, last >> 1
        number, last = number >> 1, last >> 1
    if last != 0:
        raise BadProof("the proof is too short")


def inclusion_proof(index: int, size: int, hashes: Hashes) -> list[bytes]:
    """The audit path of a leaf in the tree of `size` leaves (RFC 6962, 2.1.1). Raises `BadProof` for a leaf it does not have."""
    if not 0 <= index < size:
        raise BadProof(f"a tree of {size} leaves has no leaf {index}")
    low, high, path = 0, size, list[bytes]()
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_root(middle, high, hashes))
            high = middle
        else:
            path.append(_range_root(low, middle, hashes))
            low = middle
    return path[::-1]


def check_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Does `path` lead from the leaf's hash to the root? Raises `BadProof` saying what is wrong (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        raise BadProof(f"a tree of {size} leaves has no leaf {index}")
    found = leaf
    for step, on_the_left in _climb(index, size - 1, path):
        found = node_hash(step, found) if on_the_left else node_hash(found, step)
    if found != root:
        raise BadProof(f"the path of leaf {index} leads to another root: the leaf is not in the tree that was signed")


def consistency_proof(old: int, new: int, hashes: Hashes) -> list[bytes]:
    """What shows that the tree of `new` leaves begins with that of `old` (RFC 6962, 2.1.2); empty where there is nothing to show.

    Raises `BadProof` when `old` is larger.
    """
    if not 0 <= old <= new:
        raise BadProof(f"a tree of {new} leaves cannot extend one of {old}")
    if old in (0, new):
        return []
    low, high, whole, path = 0, new, True, list[bytes]()
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(_range_root(middle, high, hashes))
            high = middle
        else:
            path.append(_range_root(low, middle, hashes))
            low, whole = middle, False
    if not whole:
        path.append(_range_root(low, high, hashes))
    return path[::-1]


def check_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    """Does the path show that the new tree begins with the old one? Raises `BadProof` (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new:
        raise BadProof(f"a tree of {new} leaves cannot extend one of {old}")
    if old in (0, new):
        if path:
            raise BadProof("a proof where there is nothing to prove")
        expected = EMPTY_ROOT if old == 0 else new_root
        if old_root != expected:
            raise BadProof(f"two roots for one tree of {old} leaves: somebody is shown another history")
        return
    steps = list(path)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise BadProof("the proof is empty")
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    first = second = steps[0]
    for step, on_the_left in _climb(number, last, steps[1:]):
        if on_the_left:
            first, second = node_hash(step, first), node_hash(step, second)
        else:
            second = node_hash(second, step)
    if first != old_root:
        raise BadProof(f"the tree of {new} leaves does not begin with the one of {old} leaves that was signed")
    if second != new_root:
        raise BadProof("the proof leads to another root than the one that was signed")
