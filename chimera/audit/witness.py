"""A witness: an auditor's own memory of how far each tree was, which cosigns only what goes on from there. `chimera audit witness`.

The rule not to break: what was seen is on disk before it is cosigned, and nothing is cosigned that does not begin with it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chimera.audit import tlog
from chimera.audit.note import BadNote, Checkpoint, Verifier, open_checkpoint, unbase64
from chimera.audit.tlog import BadProof
from chimera.audit.tree import CHECKPOINT, StoredTree, TreeDamaged
from chimera.commands.keys import create_private, read_key
from chimera.errors import ChimeraError

KEY, STATE, COSIGNED = "witness.key", "witness.json", "cosigned"
_COSIGNATURE = b"\x04"
_ORIGIN = re.compile(r"[A-Za-z0-9._-]{1,100}(/[A-Za-z0-9._-]{1,100}){2}")
"""A file of that name is written: who signs it is the one who is watched, and may not choose where."""
_NAME = re.compile(r"[^\s+]{1,100}")


class StateTrouble(ChimeraError):
    """The witness's own files cannot be relied on."""


class Seen(NamedTuple):
    """How one tree stood when it was cosigned last."""

    size: int
    root: str


class Verdict(NamedTuple):
    """What a look at one tree came to. `trouble` is empty where it was cosigned or had not grown."""

    origin: str
    before: int
    size: int
    trouble: str


def witness_key(state: Path) -> Ed25519PrivateKey:
    """The witness's key, made where there is none. Raises `KeyTrouble` for one that others may read."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = state / KEY
    if not path.exists():
        create_private(path, Ed25519PrivateKey.generate().private_bytes_raw())
    return Ed25519PrivateKey.from_private_bytes(read_key(path).private_bytes())


def vkey(name: str, public: bytes) -> str:
    """The line by which others know a witness (C2SP vkey, type cosignature/v1)."""
    return f"{name}+{_id(name, public).hex()}+{base64.b64encode(_COSIGNATURE + public).decode()}"


class Shown(Protocol):
    """Where trees are shown: files, or a server."""

    def logs(self) -> list[str]:
        """Their names."""

    def note(self, name: str) -> bytes:
        """A tree's checkpoint."""

    def tree(self, name: str, size: int) -> StoredTree:
        """A tree of that many leaves."""


class Files(NamedTuple):
    """Trees as files below a directory (`.chimera/audit`, or `trees` of an export)."""

    directory: Path

    def logs(self) -> list[str]:
        return [str(path.parent.relative_to(self.directory)) for path in sorted(self.directory.glob(f"*/*/{CHECKPOINT}"))]

    def note(self, name: str) -> bytes:
        return (self.directory / name / CHECKPOINT).read_bytes()

    def tree(self, name: str, size: int) -> StoredTree:
        return StoredTree(self.directory / name, size)


def look(trees: Path | Shown, state: Path, name: str, publics: Sequence[bytes], now_s: int) -> list[Verdict]:
    """Look at every tree that is shown; cosign those that go on from what was seen.

    `publics`: the notary's keys, `name`: the witness's, `now_s`: its own clock, seconds since 1970, which the cosignature tells.
    Trees that were seen once and are gone are told too. Raises `StateTrouble`, `KeyTrouble`, and `Unreachable` where a server
    does not answer: nothing is cosigned then.
    """
    shown = Files(trees) if isinstance(trees, Path) else trees
    if not _NAME.fullmatch(name):
        raise StateTrouble(f"{name!r} is no name of a witness: no spaces and no +")
    key, seen = witness_key(state), _load(state)
    verdicts = [_one(shown, tree, seen, publics) for tree in shown.logs()]
    origins = {verdict.origin for verdict, _ in verdicts}
    gone = [
        Verdict(o, s.size, 0, f"{o} had {s.size} records and is not shown any more") for o, s in seen.items() if o not in origins
    ]
    good = [(verdict, note) for verdict, note in verdicts if not verdict.trouble]
    _save(state, seen | {verdict.origin: Seen(verdict.size, root_of(note)) for verdict, note in good})
    for verdict, note in good:
        _write(state / COSIGNED / verdict.origin, cosign(note, name, key, now_s))
    return [verdict for verdict, _ in verdicts] + gone


def _one(shown: Shown, tree: str, seen: Mapping[str, Seen], publics: Sequence[bytes]) -> tuple[Verdict, bytes]:
    note = shown.note(tree)
    origin = note.decode(errors="replace").partition("\n")[0]
    before = seen.get(origin, Seen(0, tlog.EMPTY_ROOT.hex()))
    try:
        now = open_checkpoint(note, [Verifier(origin, public) for public in publics])
        if not _ORIGIN.fullmatch(origin) or ".." in origin:
            raise BadNote(f"{origin[:100]!r} is no origin of a tree: installation/topic/partition")
        _extends(shown.tree(tree, now.size), before, now)
    except (BadNote, BadProof, TreeDamaged) as error:
        return Verdict(origin, before.size, 0, str(error)), note
    return Verdict(origin, before.size, now.size, ""), note


def _extends(tree: StoredTree, before: Seen, now: Checkpoint) -> None:
    """Ask the tree for a proof that it goes on from what was seen, and check it. Raises `BadProof`, `TreeDamaged`."""
    if now.size < before.size:
        raise BadProof(f"it has {now.size} records now and had {before.size}: its end was cut off, or another history is shown")
    if tree.root() != now.root:
        raise TreeDamaged(f"the tiles below {tree.directory} have another root than the checkpoint signs")
    path = tlog.consistency_proof(before.size, now.size, tree.hash)
    tlog.check_consistency(before.size, now.size, bytes.fromhex(before.root), now.root, path)


def cosign(note: bytes, name: str, key: Ed25519PrivateKey, now_s: int) -> bytes:
    """The note with the witness's line (C2SP tlog-cosignature, Ed25519): "I saw this, consistent with all I saw, at that time"."""
    text = note.rpartition(b"\n\n")[0] + b"\n"
    signature = now_s.to_bytes(8, "big") + key.sign(_message(text, now_s))
    line = base64.b64encode(_id(name, key.public_key().public_bytes_raw()) + signature).decode()
    return note + f"\u2014 {name} {line}\n".encode()


def cosigned_at(note: bytes, line: str) -> int:
    """When the witness of that vkey cosigned the note, seconds since 1970. Raises `BadNote` where it did not."""
    name, id_, public = _read_vkey(line)
    text, _, signatures = note.rpartition(b"\n\n")
    for each in signatures.decode(errors="replace").splitlines():
        parts = each.split(" ")
        if len(parts) != 3 or parts[1] != name:
            continue
        try:
            raw = unbase64(parts[2])
            at = int.from_bytes(raw[4:12], "big")
            if raw[:4] == id_:
                Ed25519PublicKey.from_public_bytes(public).verify(raw[12:], _message(text + b"\n", at))
                return at
        except (ValueError, InvalidSignature) as error:
            raise BadNote(f"the cosignature of {name} does not hold: the note was changed after it") from error
    raise BadNote(f"{name} did not cosign this note")


def root_of(note: bytes) -> str:
    """The root in a checkpoint that was opened before, hex."""
    return unbase64(note.decode().split("\n")[2]).hex()


def _message(text: bytes, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n".encode() + text


def _id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _COSIGNATURE + public).digest()[:4]


def _read_vkey(line: str) -> tuple[str, bytes, bytes]:
    name, _, rest = line.strip().partition("+")
    id_, _, encoded = rest.partition("+")
    try:
        raw = unbase64(encoded)
    except ValueError as error:
        raise BadNote(f"witness key {line[:60]!r} is no base64") from error
    if raw[:1] != _COSIGNATURE or len(raw) != 33 or _id(name, raw[1:]).hex() != id_:
        raise BadNote(f"witness key {line[:60]!r}: write it as name+id+key, as `audit witness` tells it")
    return name, bytes.fromhex(id_), raw[1:]


def _load(state: Path) -> dict[str, Seen]:
    path = state / STATE
    try:
        raw = orjson.loads(path.read_bytes())
        return {origin: Seen(int(size), str(bytes.fromhex(root).hex())) for origin, (size, root) in raw.items()}
    except FileNotFoundError:
        if (state / COSIGNED).exists():
            raise StateTrouble(
                f"{path} is gone, but this witness cosigned before: restore it; a witness without memory is none"
            ) from None
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise StateTrouble(f"{path} cannot be read: restore it from a copy; a witness without memory is none") from error


def _save(state: Path, seen: Mapping[str, Seen]) -> None:
    _write(state / STATE, orjson.dumps({origin: list(each) for origin, each in sorted(seen.items())}, option=orjson.OPT_INDENT_2))


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
