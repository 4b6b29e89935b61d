"""The tree of RFC 6962: its vectors, and a naive recursion as the second opinion."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from chimera.audit import tlog
from chimera.audit.note import BadNote, Checkpoint, Verifier, open_checkpoint, open_note, read_checkpoint, sign
from chimera.audit.tlog import BadProof, Frontier, Tile

VECTORS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
"""Leaves of the certificate-transparency reference tests."""
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
sizes = st.integers(1, 700)


def leaves(count: int) -> list[bytes]:
    return [tlog.leaf_hash(str(n).encode()) for n in range(count)]


def naive(hashes: list[bytes]) -> bytes:
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    return hashlib.sha256(b"\x01" + naive(hashes[:half]) + naive(hashes[half:])).digest()


class Stored:
    """All complete subtrees of a tree, in memory."""

    def __init__(self, count: int) -> None:
        self.edge, self.hashes = Frontier(), dict[tuple[int, int], bytes]()
        for leaf in leaves(count):
            for level, index, hash_ in self.edge.append(leaf):
                self.hashes[level, index] = hash_

    def __call__(self, level: int, index: int) -> bytes:
        return self.hashes[level, index]


@pytest.mark.parametrize("count", sorted(ROOTS))
def test_the_reference_vectors_have_their_roots(count: int) -> None:
    assert tlog.tree_root(tlog.leaf_hash(bytes.fromhex(leaf)) for leaf in VECTORS[:count]).hex() == ROOTS[count]


@given(sizes)
def test_the_root_is_what_the_naive_recursion_says(count: int) -> None:
    stored = Stored(count)
    assert stored.edge.root() == naive(leaves(count)) == tlog.root_of(count, stored)


@given(sizes, st.data())
def test_a_tree_goes_on_from_its_stored_hashes(count: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, count))
    edge = Frontier.load(at, Stored(at))
    for leaf in leaves(count)[at:]:
        list(edge.append(leaf))
    assert edge.root() == naive(leaves(count))


@given(sizes, st.data())
def test_every_leaf_is_proven_and_no_other_one_with_its_path(count: int, data: st.DataObject) -> None:
    index, stored = data.draw(st.integers(0, count - 1)), Stored(count)
    path = tlog.inclusion_proof(index, count, stored)
    leaf, root = leaves(count)[index], stored.edge.root()
    tlog.check_inclusion(index, count, leaf, path, root)
    damages = [(index, count, tlog.leaf_hash(b"other"), path), (index, count, leaf, [*path, root]), (count, count, leaf, path)]
    damages += [(index, count, leaf, path[:-1])] if path else []
    damages += [((index + 1) % count, count, leaf, path)] if count > 1 else []
    damages += [(index, count, leaf, [*path[:n], bytes(32), *path[n + 1 :]]) for n in range(len(path))]
    for place, size, hash_, steps in damages:
        with pytest.raises(BadProof):
            tlog.check_inclusion(place, size, hash_, steps, root)


@given(sizes, st.data())
def test_a_tree_is_shown_to_begin_with_an_older_one_and_with_no_other(count: int, data: st.DataObject) -> None:
    old, stored = data.draw(st.integers(0, count)), Stored(count)
    old_root, root = naive(leaves(old)), stored.edge.root()
    path = tlog.consistency_proof(old, count, stored)
    tlog.check_consistency(old, count, old_root, root, path)
    with pytest.raises(BadProof):
        tlog.check_consistency(old, count, tlog.leaf_hash(b"another history"), root, path)
    if path:
        with pytest.raises(BadProof):
            tlog.check_consistency(old, count, old_root, bytes(32), path)
        with pytest.raises(BadProof):
            tlog.check_consistency(old, count, old_root, root, path[:-1])
        with pytest.raises(BadProof):
            tlog.check_consistency(old, count, old_root, root, [*path, root])


def test_nothing_is_proven_of_what_a_tree_does_not_have() -> None:
    stored = Stored(3)
    for asked in (lambda: tlog.inclusion_proof(3, 3, stored), lambda: tlog.consistency_proof(4, 3, stored)):
        with pytest.raises(BadProof):
            asked()


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0, 256), "tile/0/000"),
        (Tile(1, 1234067, 256), "tile/1/x001/x234/067"),
        (Tile(0, 1000, 7), "tile/0/x001/000.p/7"),
        (Tile(-1, 5, 256), "tile/entries/005"),
    ],
)
def test_tiles_have_the_names_of_tlog_tiles(tile: Tile, path: str) -> None:
    assert tile.path == path


@given(st.integers(0, 200_000), st.integers(0, 200_000))
def test_a_growing_tree_writes_each_tile_that_changed_and_no_other(one: int, other: int) -> None:
    old, new = sorted((one, other))
    written = set(tlog.tiles_for(old, new))
    for level in range(3):
        before, now = old >> (8 * level), new >> (8 * level)
        wanted = {(n, min(256, now - n * 256)) for n in range(before // 256, -(-now // 256))} if now > before else set()
        assert {(tile.number, tile.width) for tile in written if tile.level == level} == wanted


# --- notes -----------------------------------------------------------------------------------------------------------

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))


def verifier(name: str, key: Ed25519PrivateKey) -> Verifier:
    return Verifier(name, key.public_key().public_bytes_raw())


def test_a_checkpoint_is_read_as_it_was_signed() -> None:
    made = Checkpoint("acme/chimera.log/3", 42, b"r" * 32)
    note = sign(made.text, [("acme/chimera.log/3", KEY), ("witness", OTHER)])
    for who in (verifier("acme/chimera.log/3", KEY), verifier("witness", OTHER)):
        assert Verifier.read(who.line) == who
        assert open_checkpoint(note, [who]) == made
    assert [who.name for who in open_note(note, [verifier("witness", OTHER), verifier("acme/chimera.log/3", KEY)])[1]] == [
        "acme/chimera.log/3",
        "witness",
    ]


@given(st.data())
def test_one_changed_byte_of_a_note_is_noticed(data: st.DataObject) -> None:
    made = Checkpoint("acme/chimera.log/3", 1 << data.draw(st.integers(0, 40)), bytes(range(32)))
    note = bytearray(sign(made.text, [("acme", KEY)]))
    at = data.draw(st.integers(0, len(note) - 1))
    note[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BadNote):
        open_checkpoint(bytes(note), [verifier("acme", KEY)])


def test_a_note_that_nobody_who_is_trusted_signed_is_refused() -> None:
    note = sign("text\n", [("acme", KEY)])
    for nobody in ([], [verifier("acme", OTHER)], [verifier("other", KEY)]):
        with pytest.raises(BadNote, match="signed"):
            open_note(note, nobody)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("acme", "no base64|Ed25519"),
        (verifier("acme", KEY).line.replace("acme", "acne"), "mistyped"),
        (verifier("acme", KEY).line[:-8], "base64|Ed25519"),
    ],
)
def test_a_mistyped_verifier_key_is_named(line: str, why: str) -> None:
    with pytest.raises(BadNote, match=why):
        Verifier.read(line)


@pytest.mark.parametrize(
    "text", ["acme\n01\nAAAA\n", "acme\n1\n!\n", "acme\n1\nAAAA\n", "\n1\nAAAA\n", "acme\n-1\nAAAA\n", "acme\n"]
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BadNote):
        read_checkpoint(text)
