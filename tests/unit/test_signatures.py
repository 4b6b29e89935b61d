"""Signatures: two libraries, one answer, and that is OpenSSL's, for the hardest cases that are known too."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera.events import signatures
from chimera.events.envelope import SigningKey
from chimera.events.signatures import REFUSED, Case, holds, openssl_holds, sodium_is_as_strict

DEEP = bool(os.environ.get("CHIMERA_DEEP"))
PROFILE = settings(max_examples=5_000 if DEEP else 100, deadline=None, derandomize=not DEEP)
ORDER = 2**252 + 27742317777372353535851937790883648493
ACCEPTED: tuple[Case, ...] = (
    (  # A and R of small order
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000",
    ),
    (  # A of small order
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    (  # R of small order
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
    ),
    (  # A and R of mixed order, and the equation holds as it is
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ),
    (  # A is not canonical
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
)
"""The other five of the twelve cases of "Taming the many EdDSAs": OpenSSL accepts them."""
SMALL = [bytes.fromhex(public) for public, *_ in (REFUSED[3], REFUSED[6], ACCEPTED[0], ACCEPTED[4])] + [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),  # y = -1
    (2**255 - 18).to_bytes(32, "little"),  # y = 1, written larger than the field
    b"\xff" * 32,
]
"""Points (and one that is none) to put where an honest signer has its own."""
KEY = SigningKey.from_bytes(b"k" * 32)
PUBLIC = KEY._private.public_key().public_bytes_raw()


@pytest.fixture
def afresh() -> Iterator[None]:
    """What libsodium was found to be is forgotten before and after."""
    sodium_is_as_strict.cache_clear()
    yield
    sodium_is_as_strict.cache_clear()


@pytest.mark.parametrize(("cases", "expected"), [(REFUSED, False), (ACCEPTED, True)])
def test_the_twelve_hard_cases_are_answered_as_openssl_answers_them(cases: tuple[Case, ...], expected: bool) -> None:
    for case in cases:
        public, message, signature = (bytes.fromhex(part) for part in case)
        assert openssl_holds(public, signature, message) is expected
        assert holds(public, signature, message) is expected


def test_what_libsodium_refuses_is_asked_of_openssl() -> None:
    for case in (ACCEPTED[0], ACCEPTED[1], ACCEPTED[2], ACCEPTED[4]):
        public, message, signature = (bytes.fromhex(part) for part in case)
        assert not signatures._sodium(public, signature, message)
        assert holds(public, signature, message)


def test_the_libsodium_that_is_installed_is_asked() -> None:
    """Else every reader is a tenth slower: look for a release whose signatures are looked at as these are."""
    assert sodium_is_as_strict()


def test_a_libsodium_that_accepts_more_than_openssl_is_never_asked(monkeypatch: pytest.MonkeyPatch, afresh: None) -> None:
    honest = KEY._private.sign(b"said")
    monkeypatch.setattr(signatures, "_sodium", lambda public, signature, message: True)
    assert not sodium_is_as_strict()
    assert holds(PUBLIC, honest, b"said")
    assert not holds(PUBLIC, honest, b"never said")


def test_where_a_signature_ends_is_its_length() -> None:
    """Both libraries take signature and message apart by themselves: a longer one must not borrow from what it signs."""
    honest = KEY._private.sign(b"xsaid")
    assert holds(PUBLIC, honest, b"xsaid")
    assert not holds(PUBLIC, honest + b"x", b"said")
    assert not holds(PUBLIC, honest[:-1], honest[-1:] + b"xsaid")
    assert not holds(PUBLIC + b"x", honest, b"xsaid")
    assert not holds(b"", b"", b"")


@PROFILE
@given(st.binary(max_size=40), st.data())
def test_whatever_is_done_to_a_signature_both_ways_agree(message: bytes, data: st.DataObject) -> None:
    key = SigningKey.from_bytes(data.draw(st.binary(min_size=32, max_size=32)))
    public, signature = key._private.public_key().public_bytes_raw(), key._private.sign(message)
    assert holds(public, signature, message)
    how = data.draw(st.sampled_from(("bit", "order", "R", "A", "both", "message")))
    if how == "bit":
        at = data.draw(st.integers(0, 511))
        signature = bytes(byte ^ (1 << at % 8 if place == at // 8 else 0) for place, byte in enumerate(signature))
    elif how == "order":
        larger = int.from_bytes(signature[32:], "little") + data.draw(st.integers(1, 15)) * ORDER
        signature = signature[:32] + (larger % 2**256).to_bytes(32, "little")
    elif how == "message":
        message += b"."
    if how in ("R", "both"):
        signature = data.draw(st.sampled_from(SMALL)) + data.draw(st.sampled_from((signature[32:], bytes(32))))
    if how in ("A", "both"):
        public = data.draw(st.sampled_from(SMALL))
    expected = openssl_holds(public, signature, message)
    assert holds(public, signature, message) is expected
    assert expected or not signatures._sodium(public, signature, message), "libsodium accepts what OpenSSL refuses"
