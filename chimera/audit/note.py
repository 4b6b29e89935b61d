"""Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint): a tree's size and root under somebody's name.

The one rule: what is signed is the text, byte for byte; an unknown signature line is passed over, a known one must verify.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chimera.errors import ChimeraError

_ED25519 = b"\x01"
_DASH = "\u2014 "


class BadNote(ChimeraError, ValueError):
    """A note that cannot be read, or that nobody who is trusted signed."""


class Verifier(NamedTuple):
    """Who may sign: a name and a public key (32 bytes). `line` is the text that people hand around (C2SP vkey)."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """The key id: 4 bytes."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def line(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def read(cls, line: str) -> Verifier:
        """From its line. Raises `BadNote`."""
        name, _, rest = line.strip().partition("+")
        id_, _, key = rest.partition("+")
        try:
            raw = unbase64(key)
        except binascii.Error as error:
            raise BadNote(f"verifier key {line.strip()[:60]!r}: its key is no base64") from error
        if raw[:1] != _ED25519 or len(raw) != 33 or not _named(name):
            raise BadNote(f"verifier key {line.strip()[:60]!r}: write it as name+id+key, with an Ed25519 key")
        found = cls(name, raw[1:])
        if found.id.hex() != id_:
            raise BadNote(f"verifier key of {name}: its id is {found.id.hex()}, not {id_[:8]}: it was mistyped or changed")
        return found


class Checkpoint(NamedTuple):
    """A tree at a moment: whose it is, how many leaves, its root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def unbase64(text: str) -> bytes:
    """Exactly one text stands for the bytes: stray bits in the last sign are refused. Raises `binascii.Error`."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise binascii.Error("stray bits after the last byte")
    return raw


def sign(text: str, signers: Sequence[tuple[str, Ed25519PrivateKey]]) -> bytes:
    """A note under every one of these names and keys. `text` ends with a line break and has no empty line."""
    if not text.endswith("\n") or "\n\n" in text or not signers:
        raise ValueError("a note's text ends with a line break, has no empty line and at least one signer")
    lines = []
    for name, key in signers:
        who = Verifier(name, key.public_key().public_bytes_raw())
        lines.append(f"{_DASH}{name} {base64.b64encode(who.id + key.sign(text.encode())).decode()}\n")
    return (text + "\n" + "".join(lines)).encode()


def open_note(note: bytes, verifiers: Sequence[Verifier]) -> tuple[str, list[Verifier]]:
    """The text, and those of `verifiers` who signed it. Raises `BadNote` where none did, or one of them did not sign this."""
    try:
        text, _, signatures = note.decode().rpartition("\n\n")
    except UnicodeDecodeError as error:
        raise BadNote("a note that is no UTF-8") from error
    if not text or not signatures.endswith("\n"):
        raise BadNote("a note without an empty line before its signatures")
    text += "\n"
    signed: list[Verifier] = []
    for line in signatures.splitlines():
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not _named(name):
            raise BadNote(f"a signature line that is none: {line[:60]!r}")
        try:
            raw = unbase64(encoded)
        except binascii.Error as error:
            raise BadNote(f"the signature of {name} is no base64") from error
        for verifier in verifiers:
            if (verifier.name, verifier.id) == (name, raw[:4]) and verifier not in signed:
                try:
                    Ed25519PublicKey.from_public_bytes(verifier.public).verify(raw[4:], text.encode())
                except InvalidSignature as error:
                    raise BadNote(f"{name} did not sign this text: it was changed after signing, or the signature was") from error
                signed.append(verifier)
    if not signed:
        raise BadNote(f"none of {', '.join(v.name for v in verifiers) or 'no one'} signed this note")
    return text, signed


def read_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in a note's text. Raises `BadNote`."""
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0] or not lines[1].isascii() or not lines[1].isdigit() or str(int(lines[1])) != lines[1]:
        raise BadNote("a checkpoint has an origin, a size and a root, a line each")
    try:
        root = unbase64(lines[2])
    except binascii.Error as error:
        raise BadNote("a checkpoint whose root is no base64") from error
    if len(root) != 32:
        raise BadNote(f"a checkpoint whose root has {len(root)} bytes")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_checkpoint(note: bytes, verifiers: Sequence[Verifier]) -> Checkpoint:
    """A signed checkpoint. Raises `BadNote`."""
    return read_checkpoint(open_note(note, verifiers)[0])


def _named(name: str) -> bool:
    return bool(name) and "+" not in name and not any(sign.isspace() for sign in name)
