"""Personal fields: sealed before they reach the log, opened only by those who hold the subject's key.

The rule not to break: what is declared `Personal` never reaches Kafka in clear; destroying the subject's key is the erasure.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Annotated, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict


class Sealed(BaseModel):
    """AES-256-GCM envelope of one value under its subject's key.

    `key_commitment` = SHA-256 of the key, also bound as associated data, since GCM alone does not commit to its key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    nonce: str
    ciphertext: str
    key_commitment: str


PERSONAL = "chimera-personal"
Personal = Annotated[Sealed, PERSONAL]
"""Type of a record field that holds something personal (an outside person's handle or words, a name)."""


class SubjectKeys(Protocol):
    """Where the keys per subject live; outside the log, always."""

    def key_for(self, subject: str) -> bytes:
        """32-byte key of `subject`, made on first use."""

    def known_key(self, subject: str) -> bytes | None:
        """The key, or None when there is none (never made, or destroyed)."""


class KeysAtHand:
    """Keys of subjects, each looked up once until `afresh`: a batch holds many notes of one agent, and a key is a file."""

    def __init__(self, keys: SubjectKeys) -> None:
        self._keys = keys
        self._held: dict[str, bytes] = {}

    def key_for(self, subject: str) -> bytes:
        """As `SubjectKeys` has it."""
        if subject not in self._held:
            self._held[subject] = self._keys.key_for(subject)
        return self._held[subject]

    def known_key(self, subject: str) -> bytes | None:
        """As `SubjectKeys` has it."""
        if subject not in self._held:
            key = self._keys.known_key(subject)
            if key is None:
                return None
            self._held[subject] = key
        return self._held[subject]

    def afresh(self) -> None:
        """Look everything up again: whoever was forgotten meanwhile has no key any more."""
        self._held.clear()


class Forgotten(Exception):
    """The subject's key is gone: the value can never be read again. Readers show the declared fallback."""


def subject_of(tenant: str, platform: str, person: str) -> str:
    """The pseudonym under whose key a person's words are sealed: the same for all agents of a tenant."""
    told = f"{tenant}|{platform}|{person.casefold()}"
    return f"person/{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def seal(keys: SubjectKeys, subject: str, text: str) -> Sealed:
    """Seal `text` under the key of `subject`."""
    key, nonce = keys.key_for(subject), os.urandom(12)
    commitment = hashlib.sha256(key).hexdigest()
    body = AESGCM(key).encrypt(nonce, text.encode(), _associated(subject, commitment))
    return Sealed(
        subject=subject,
        nonce=base64.b64encode(nonce).decode(),
        ciphertext=base64.b64encode(body).decode(),
        key_commitment=commitment,
    )


def unseal(keys: SubjectKeys, value: Sealed) -> str:
    """The clear text.

    Raises:
        Forgotten: the key was destroyed, or is not the key this value was sealed with.
        ValueError: the ciphertext was altered.
    """
    key = keys.known_key(value.subject)
    if key is None or hashlib.sha256(key).hexdigest() != value.key_commitment:
        raise Forgotten(value.subject)
    try:
        clear = AESGCM(key).decrypt(
            base64.b64decode(value.nonce),
            base64.b64decode(value.ciphertext),
            _associated(value.subject, value.key_commitment),
        )
    except InvalidTag as error:
        raise ValueError(f"sealed value of subject {value.subject!r} was altered") from error
    return clear.decode()


def _associated(subject: str, commitment: str) -> bytes:
    return f"chimera/personal/1|{subject}|{commitment}".encode()
