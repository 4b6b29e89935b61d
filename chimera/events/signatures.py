"""Does a signature hold? Ed25519, as OpenSSL says it; libsodium is asked first, because it says yes in two thirds of the time.

The rule not to break: what holds is what OpenSSL accepts, whichever library answered. libsodium's yes is taken only where it
implies OpenSSL's, and its no is never taken: it refuses a few that OpenSSL accepts (decision 0128).
"""

from __future__ import annotations

from functools import cache, lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

LENGTH, KEY_LENGTH = 64, 32
"""Bytes of a signature and of a public key."""
Case = tuple[str, str, str]
"""Public key, message, signature, each as hex digits."""

REFUSED: tuple[Case, ...] = (
    (  # R and A of mixed order: holds only where both sides are multiplied by eight
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ),
    (  # the same, and R of full order
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
    ),
    (  # S is the group's order too large
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ),
    (  # S far beyond the group's order
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
    ),
    (  # R is not canonical, and was reduced before it was hashed
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
    ),
    (  # R is not canonical
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
    ),
    (  # A is not canonical, and was reduced before it was hashed
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
)
"""Signatures that some libraries accept and OpenSSL does not: cases 4 to 10 of "Taming the many EdDSAs" (Chalkias, Garillot,
Nikolaenko, 2020). No honest signer makes one; who holds a key can."""


def holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """Is `signature` one over `message` under the public key? False too for what is no key and no signature."""
    # The length first: libsodium is handed both in one piece, and where the signature ends is for us to say.
    if len(signature) == LENGTH and len(public) == KEY_LENGTH and sodium_is_as_strict() and _sodium(public, signature, message):
        return True
    return openssl_holds(public, signature, message)


def openssl_holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """What counts: OpenSSL's answer. Ask `holds`, which is faster."""
    try:
        _key(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@cache
def sodium_is_as_strict() -> bool:
    """Does the libsodium that is installed here refuse whatever OpenSSL refuses? Where it does not, it is not asked.

    All its releases up to 1.0.22 do; its next one may multiply by eight, as its development branch does.
    """
    cases = [[bytes.fromhex(part) for part in case] for case in REFUSED]
    return not any(_sodium(public, signature, message) for public, message, signature in cases)


def _sodium(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


@lru_cache(maxsize=256)
def _key(public: bytes) -> Ed25519PublicKey:
    """Raises `ValueError` for what is no key."""
    return Ed25519PublicKey.from_public_bytes(public)
