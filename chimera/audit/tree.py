"""One partition's tree as files: C2SP tlog-tiles under a directory, and the checkpoint that signs them.

The one rule: tiles and entries are on disk before the checkpoint that counts them, and what a checkpoint counts is never written
again with other bytes. What lies beyond the checkpoint is a cut-off commit: it is made again, the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from chimera import failpoints
from chimera.audit import tlog
from chimera.audit.note import Checkpoint
from chimera.audit.tlog import HASH_SIZE, HEIGHT, WIDTH, Frontier, Tile, node_hash
from chimera.errors import ChimeraError

CHECKPOINT = "checkpoint"


class TreeDamaged(ChimeraError):
    """Files of a tree that are not what they were when they were signed; names the file."""


class StoredTree:
    """A tree of `size` leaves as its files tell it. Reading raises `TreeDamaged` naming the file that is missing or wrong."""

    def __init__(self, directory: Path, size: int) -> None:
        self.directory, self.size = directory, size
        self._tile = lru_cache(maxsize=512)(self._read)

    def hash(self, level: int, index: int) -> bytes:
        """The root of a complete subtree: stored where its level is a multiple of 8, else joined from the stored ones below."""
        above = level % HEIGHT
        if above:
            left, right = self.hash(level - 1, 2 * index), self.hash(level - 1, 2 * index + 1)
            return node_hash(left, right)
        tile, place = tlog.tile_of(level, index, self.size)
        return self._tile(tile)[place * HASH_SIZE : (place + 1) * HASH_SIZE]

    def root(self) -> bytes:
        """The root of the whole tree."""
        return tlog.root_of(self.size, self.hash)

    def entry(self, index: int) -> bytes:
        """The bytes of a leaf."""
        number = index // WIDTH
        return self.bundle(number)[index % WIDTH]

    def bundle(self, number: int) -> list[bytes]:
        """The entries of one bundle, 256 but for the last."""
        tile = Tile(-1, number, min(WIDTH, self.size - number * WIDTH))
        return read_bundle(self._tile(tile), self.directory / tile.path, tile.width)

    def tail(self, level: int) -> bytes:
        """The hashes of the unfinished tile of a level (in tiles), none where the last one is full."""
        count = self.size >> (level * HEIGHT)
        return self._tile(Tile(level, count // WIDTH, count % WIDTH)) if count % WIDTH else b""

    def _read(self, tile: Tile) -> bytes:
        path = self._found(tile)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise TreeDamaged(f"{path} cannot be read ({error.strerror}): restore it from a copy") from error
        if tile.level < 0:
            return raw
        if len(raw) < tile.width * HASH_SIZE:
            raise TreeDamaged(f"{path} has {len(raw)} bytes instead of {tile.width * HASH_SIZE}: restore it from a copy")
        return raw[: tile.width * HASH_SIZE]

    def _found(self, tile: Tile) -> Path:
        """The tile's file, or a wider one of the same tile: the tree may have grown since the checkpoint was read."""
        path = self.directory / tile.path
        if tile.width == WIDTH or path.exists():
            return path
        widths = [int(each.name) for each in path.parent.glob("[0-9]*")]
        wider = min((width for width in widths if width > tile.width), default=WIDTH)
        return self.directory / tile._replace(width=wider).path


def read_bundle(raw: bytes, path: Path, count: int) -> list[bytes]:
    """The first `count` entries of a bundle's bytes (each with its length before it, 2 bytes, big endian). Raises `TreeDamaged`."""
    found, at = list[bytes](), 0
    while at < len(raw) and len(found) < count:
        end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
        if end > len(raw):
            break
        found.append(raw[at + 2 : end])
        at = end
    if len(found) < count:
        raise TreeDamaged(f"{path} has {len(found)} entries instead of {count}: restore it from a copy")
    return found


class TreeWriter:
    """Extends one tree. `size` is what the last commit counted; `load` what a checkpoint that was verified by the caller says."""

    def __init__(self, directory: Path, origin: str) -> None:
        self.directory, self.origin = directory, origin
        self.size = 0
        self._edge = Frontier()
        self._levels: list[bytearray] = []
        """Per level of tiles the hashes of its unfinished tile, as of `_edge`."""
        self._entries: list[bytes] = []
        """The entries of the unfinished bundle, as of `_edge`."""
        self._done: list[tuple[Tile, bytes]] = []
        """Full tiles and bundles since the last commit."""

    @property
    def next_index(self) -> int:
        """The index of the leaf that comes next."""
        return self._edge.size

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a verified checkpoint. Raises `TreeDamaged` when the files do not have its root."""
        stored = StoredTree(self.directory, checkpoint.size)
        if stored.root() != checkpoint.root:
            raise TreeDamaged(f"the tiles below {self.directory} have another root than the checkpoint signs: restore them")
        self.size = checkpoint.size
        self._edge = Frontier.load(checkpoint.size, stored.hash)
        self._levels, level = [], 0
        while checkpoint.size >> (level * HEIGHT):
            self._levels.append(bytearray(stored.tail(level)))
            level += 1
        self._entries = stored.bundle(checkpoint.size // WIDTH) if checkpoint.size % WIDTH else []
        self._done = []

    def extend(self, entry: bytes) -> None:
        """Add a leaf; in memory until `commit`."""
        index = self._edge.size
        for level, _, hash_ in self._edge.append(tlog.leaf_hash(entry)):
            if level % HEIGHT == 0:
                self._keep(level // HEIGHT, hash_)
        self._entries.append(entry)
        if len(self._entries) == WIDTH:
            self._done.append((Tile(-1, index // WIDTH, WIDTH), bundle_of(self._entries)))
            self._entries = []

    def _keep(self, level: int, hash_: bytes) -> None:
        while len(self._levels) <= level:
            self._levels.append(bytearray())
        row = self._levels[level]
        row += hash_
        if len(row) == WIDTH * HASH_SIZE:
            count = self._edge_count(level)
            self._done.append((Tile(level, count // WIDTH - 1, WIDTH), bytes(row)))
            row.clear()

    def _edge_count(self, level: int) -> int:
        """How many hashes the level has, counting the leaf that is being added."""
        return (self._edge.size + 1) >> (level * HEIGHT)

    def checkpoint(self) -> Checkpoint:
        """What a commit would sign now."""
        return Checkpoint(self.origin, self._edge.size, self._edge.root())

    def commit(self, note: bytes) -> None:
        """Write what came since the last commit, then `note`, the signed `checkpoint()`. Repeating is harmless.

        Raises `OSError` (a full disk); what was added stays in memory for the next try.
        """
        size = self._edge.size
        for tile, raw in [*self._done, *self._partials(size)]:
            _write(self.directory / tile.path, raw)
        failpoints.here("notary.written")
        _write(self.directory / CHECKPOINT, note)
        old, self.size, self._done = self.size, size, []
        self._sweep(old, size)

    def _partials(self, size: int) -> Iterator[tuple[Tile, bytes]]:
        for level, row in enumerate(self._levels):
            count = size >> (level * HEIGHT)
            if count % WIDTH:
                yield Tile(level, count // WIDTH, count % WIDTH), bytes(row)
        if self._entries:
            yield Tile(-1, size // WIDTH, size % WIDTH), bundle_of(self._entries)

    def _sweep(self, old: int, new: int) -> None:
        """Unfinished tiles of the commit before are of no use any more."""
        if old == new:
            return
        level = 0
        while old >> (level * HEIGHT):
            count = old >> (level * HEIGHT)
            if count % WIDTH and count != new >> (level * HEIGHT):
                _forget(self.directory / Tile(level, count // WIDTH, count % WIDTH).path)
            level += 1
        if old % WIDTH:
            _forget(self.directory / Tile(-1, old // WIDTH, old % WIDTH).path)


def bundle_of(entries: Sequence[bytes]) -> bytes:
    """The bytes of a bundle; `read_bundle` is the way back."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def _write(path: Path, raw: bytes) -> None:
    """Whole or not at all, and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    with draft.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError:  # another width lies there
        return
