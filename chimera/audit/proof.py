"""A proof for one record (C2SP tlog-proof): its leaf, the path to the root, and the checkpoint that signs the root.

The one rule: it needs nobody but itself and a key that one trusts: no server, no log, no other file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from chimera.audit import tlog
from chimera.audit.leaf import leaf_of
from chimera.audit.note import BadNote, Checkpoint, Verifier, open_checkpoint, unbase64
from chimera.audit.tlog import BadProof
from chimera.audit.tree import StoredTree
from chimera.events.raw import RawRecord

HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True)
class Proof:
    """`leaf` is the record's entry in the tree (in the file: `extra`), `path` the hashes up to the root, `note` the checkpoint."""

    index: int
    leaf: bytes
    path: list[bytes]
    note: bytes

    def text(self) -> bytes:
        """The `.tlog-proof` file."""
        lines = [HEADER, f"extra {_b64(self.leaf)}", f"index {self.index}", *map(_b64, self.path), "", ""]
        return "\n".join(lines).encode() + self.note

    @classmethod
    def read(cls, raw: bytes) -> Proof:
        """From the file. Raises `BadProof`."""
        head, _, note = raw.partition(b"\n\n")
        try:
            lines = head.decode().split("\n")
            if lines[0] != HEADER or len(lines) < 3 or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
                raise BadProof(f"a proof begins with {HEADER}, extra and index, a line each")
            index = lines[2].removeprefix("index ")
            if not index.isascii() or not index.isdigit() or str(int(index)) != index:
                raise BadProof(f"a proof's index is a number, not {index[:20]!r}")
            path = [unbase64(line) for line in lines[3:]]
            leaf = unbase64(lines[1].removeprefix("extra "))
        except (UnicodeDecodeError, binascii.Error) as error:
            raise BadProof(f"a proof with a line that is no base64: {error}") from error
        if any(len(hash_) != tlog.HASH_SIZE for hash_ in path):
            raise BadProof("a proof with a hash that has not 32 bytes")
        return cls(int(index), leaf, path, note)


def prove(tree: StoredTree, index: int, note: bytes) -> Proof:
    """The proof of a leaf under the checkpoint `note`, which counts `tree.size` leaves. Raises `BadProof`, `TreeDamaged`."""
    return Proof(index, tree.entry(index), tlog.inclusion_proof(index, tree.size, tree.hash), note)


def check(proof: Proof, verifiers: Sequence[Verifier], record: RawRecord | None = None) -> tuple[Checkpoint, dict[str, Any]]:
    """Does it prove that its leaf is in a tree that one of `verifiers` signed, and that the leaf is `record`'s where that is given?

    Returns checkpoint and leaf. Raises `BadProof`, `BadNote`.
    """
    checkpoint = open_checkpoint(proof.note, verifiers)
    tlog.check_inclusion(proof.index, checkpoint.size, tlog.leaf_hash(proof.leaf), proof.path, checkpoint.root)
    try:
        leaf = orjson.loads(proof.leaf)
    except orjson.JSONDecodeError as error:
        raise BadProof("the leaf is not JSON: this proof is of another kind of log") from error
    if not isinstance(leaf, dict) or leaf.get("offset") != proof.index:
        raise BadProof(
            f"the leaf at {proof.index} says that it is of offset {leaf.get('offset') if isinstance(leaf, dict) else '?'}"
        )
    if record is not None and leaf_of(record) != proof.leaf:
        raise BadProof(f"the record at offset {record.offset} is not the one that was signed: its bytes are others")
    return checkpoint, leaf


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


__all__ = ["BadNote", "BadProof", "Proof", "check", "prove"]
