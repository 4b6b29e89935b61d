"""Content credentials (C2PA): a signed statement inside a picture or film of what made it, for whom, under which policy.

The rule not to break: a statement is made of the final bytes, which never change afterwards; the key stays in its file (0600).
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import uuid
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chimera.media.store import MediaError

log = logging.getLogger(__name__)

VALID_DAYS = 3650
ALGORITHMIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC digital source types: made by a model; put together from what models made."""
LABEL = "org.chimera.provenance"


class Statement(NamedTuple):
    """What is said of a file: whose it is, which policy decided on it, and the record (its id) that tells how it was made."""

    title: str
    agent: str
    tenant: str
    policy: str
    """Digest of the policy edition."""
    record: str
    made_by: str
    """The profile or tool that made the bytes."""
    composite: bool = False


def make_key(path: Path, organisation: str) -> bool:
    """A key and its certificates under an authority of its own, where the file is not there yet; whether it was made.

    Who is to be trusted beyond this installation puts a key with a chain from an authority of the C2PA trust list in its place.
    """
    if path.exists():
        return False
    authority, own = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    above = _certificate(organisation, "media authority", authority, "media authority", authority, authority=True)
    ours = _certificate(organisation, "media", own, "media authority", authority, authority=False)
    key = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(key + b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (ours, above)))
        os.link(draft, path)  # whole, and the first one's where two make it at once
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def at(path: Path) -> Credentials | None:
    """Who signs with this key; None where there is none, or nothing to sign with. Raises MediaError for a bad key."""
    if not path.exists():
        return None
    if importlib.util.find_spec("c2pa") is None:
        log.warning("pictures and films go out without content credentials: the extra 'credentials' (c2pa-python) is not installed")
        return None
    return Credentials(path)


class Credentials:
    """A key with its certificates. Raises MediaError for one that others may read or that is none."""

    def __init__(self, path: Path) -> None:
        try:
            mode, body = path.stat().st_mode & 0o077, path.read_bytes()
            key = serialization.load_pem_private_key(body, None)
            chain = x509.load_pem_x509_certificates(body)
        except (OSError, ValueError) as error:
            raise MediaError(f"content credentials cannot be signed with {path}: {error}") from error
        if mode or not isinstance(key, Ed25519PrivateKey):
            raise MediaError(f"{path} must hold an Ed25519 key that nobody else can read: chmod 600 it, or make a new one")
        self._key = key
        self.chain = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain).decode()
        """Its certificates (PEM); the last one is what a reader has to trust."""

    def sign(self, source: Path, to: Path, media_type: str, statement: Statement) -> None:
        """Write the file with the statement inside. Blocks; raises MediaError for what carries none, or is damaged."""
        import c2pa  # here: a native library that only who signs needs

        signer = c2pa.Signer.from_callback(self._key.sign, c2pa.C2paSigningAlg.ED25519, self.chain)
        try:
            with c2pa.Builder(_manifest(statement)) as builder, source.open("rb") as body, to.open("w+b") as out:
                builder.sign(signer, media_type, body, out)
        except c2pa.C2paError as error:
            raise MediaError(f"{statement.title} takes no content credentials: {error}") from error


def read(body: bytes, media_type: str, anchors: str | None = None) -> dict[str, Any] | None:
    """What a file states of itself, as C2PA's reader tells it (`validation_state`: Trusted, Valid, Invalid); None: nothing.

    `anchors`: PEM of the authorities that are trusted. Raises MediaError for a statement that cannot be read.
    """
    import c2pa  # here: see `signed`

    trust = {"trust": {"trust_anchors": anchors}, "verify": {"verify_trust": True}} if anchors is not None else {}
    try:
        with c2pa.Context(c2pa.Settings.from_dict(trust)) as context:
            reader = c2pa.Reader(media_type, io.BytesIO(body), context=context)
            told: dict[str, Any] = json.loads(reader.json())
            return told
    except c2pa.C2paError as error:
        if "ManifestNotFound" in str(error) or "ManifestNotFound" in type(error).__name__:
            return None
        raise MediaError(f"its content credentials cannot be read: {error}") from error


def _manifest(statement: Statement) -> dict[str, Any]:
    made = {
        "action": "c2pa.created",
        "digitalSourceType": COMPOSITE if statement.composite else ALGORITHMIC,
        "softwareAgent": {"name": statement.made_by},
    }
    own = {"agent": statement.agent, "tenant": statement.tenant, "policy": statement.policy, "record": statement.record}
    return {
        "claim_generator_info": [{"name": "Chimera", "version": metadata.version("chimera-swarm")}],
        "title": statement.title,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [made]}},
            {"label": LABEL, "data": own},
        ],
    }


def _certificate(
    organisation: str, subject: str, key: Ed25519PrivateKey, issuer: str, signer: Ed25519PrivateKey, *, authority: bool
) -> x509.Certificate:
    """As the C2PA specification (14.5) asks: version 3, key usage, and for the one that signs an extended key usage."""

    def named(name: str) -> x509.Name:
        parts = ((NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, name))
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])

    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not authority:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return made.sign(signer, None)
