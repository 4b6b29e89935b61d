"""A partition's tree as files: it grows, goes on after any cut, and says which file is damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimera.audit import proof, standalone, tlog
from chimera.audit.files import Tiles, Written
from chimera.audit.leaf import leaf_of
from chimera.audit.note import BadNote, Verifier, open_checkpoint, sign
from chimera.audit.tlog import BadProof
from chimera.audit.tree import CHECKPOINT, StoredTree, TreeDamaged, TreeWriter
from chimera.events.raw import RawRecord

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
ORIGIN = "acme/chimera.log/0"
TRUSTED = [Verifier(ORIGIN, KEY.public_key().public_bytes_raw())]


def record(offset: int) -> RawRecord:
    return RawRecord(
        "chimera.log", 0, offset, 1_000 + offset, b"agent/1", b"{}", [("ce_id", str(offset).encode()), ("ce_type", b"TaskPlanned")]
    )


def entry(offset: int) -> bytes:
    return leaf_of(record(offset))


def grow(writer: TreeWriter, upto: int) -> None:
    while writer.next_index < upto:
        writer.extend(entry(writer.next_index))


def commit(writer: TreeWriter) -> None:
    writer.commit(sign(writer.checkpoint().text, [(ORIGIN, KEY)]))


def reopened(directory: Path) -> TreeWriter:
    writer = TreeWriter(directory, ORIGIN)
    writer.load(open_checkpoint((directory / CHECKPOINT).read_bytes(), TRUSTED))
    return writer


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.data())
def test_however_it_was_cut_into_commits_and_restarts_the_files_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], data: st.DataObject
) -> None:
    pieces, whole = tmp_path_factory.mktemp("pieces"), tmp_path_factory.mktemp("whole")
    writer, size = TreeWriter(pieces, ORIGIN), 0
    for step in steps:
        size += step
        grow(writer, size)
        commit(writer)
        if data.draw(st.booleans()):
            grow(writer, size + data.draw(st.integers(0, 300)))  # a cut-off commit: nothing of it is signed
            writer = reopened(pieces)
    at_once = TreeWriter(whole, ORIGIN)
    grow(at_once, size)
    commit(at_once)
    assert files(pieces) == files(whole)
    stored = StoredTree(pieces, size)
    assert stored.root() == tlog.tree_root(tlog.leaf_hash(entry(n)) for n in range(size))
    assert [stored.entry(n) for n in (0, size // 2, size - 1)] == [entry(n) for n in (0, size // 2, size - 1)]


def test_a_commit_that_was_cut_before_its_checkpoint_is_made_again_the_same(tmp_path: Path) -> None:
    writer = TreeWriter(tmp_path, ORIGIN)
    grow(writer, 300)
    commit(writer)
    note = (tmp_path / CHECKPOINT).read_bytes()
    grow(writer, 700)
    commit(writer)
    (tmp_path / CHECKPOINT).write_bytes(note)  # as if the machine had stopped between the tiles and the checkpoint
    again = reopened(tmp_path)
    grow(again, 700)
    commit(again)
    assert StoredTree(tmp_path, 700).root() == tlog.tree_root(tlog.leaf_hash(entry(n)) for n in range(700))


def test_each_record_is_proven_offline_and_a_changed_one_is_not(tmp_path: Path) -> None:
    writer = TreeWriter(tmp_path, ORIGIN)
    grow(writer, 613)
    commit(writer)
    note = (tmp_path / CHECKPOINT).read_bytes()
    for index in (0, 255, 256, 511, 612):
        made = proof.Proof.read(proof.prove(StoredTree(tmp_path, 613), index, note).text())
        checkpoint, leaf = proof.check(made, TRUSTED, record(index))
        assert (checkpoint.size, leaf["id"], leaf["type"]) == (613, str(index), "TaskPlanned")
        with pytest.raises(BadProof, match="not the one that was signed"):
            proof.check(made, TRUSTED, record(index)._replace(value=b"{ }"))
        with pytest.raises(BadProof):
            proof.check(replace(made, leaf=entry(7)), TRUSTED)
        with pytest.raises(BadNote):
            proof.check(made, [TRUSTED[0]._replace(public=b"p" * 32)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_changed_byte_of_a_proof_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.getbasetemp() / "one-tree"
    if not (directory / CHECKPOINT).exists():
        writer = TreeWriter(directory, ORIGIN)
        grow(writer, 300)
        commit(writer)
    whole = proof.prove(StoredTree(directory, 300), 77, (directory / CHECKPOINT).read_bytes())
    text = bytearray(whole.text())
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((BadProof, BadNote)):
        proof.check(proof.Proof.read(bytes(text)), TRUSTED)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    writer = TreeWriter(tmp_path, ORIGIN)
    grow(writer, 600)
    commit(writer)
    tile = tmp_path / "tile" / "0" / "001"
    raw = tile.read_bytes()
    tile.write_bytes(raw[:40] + b"!" + raw[41:])
    with pytest.raises(BadProof):
        proof.check(proof.prove(StoredTree(tmp_path, 600), 300, (tmp_path / CHECKPOINT).read_bytes()), TRUSTED)
    tile.write_bytes(raw[:-1])
    with pytest.raises(TreeDamaged, match=r"tile/0/001 has 8191 bytes"):
        StoredTree(tmp_path, 600).hash(0, 256)
    tile.unlink()
    with pytest.raises(TreeDamaged, match=r"tile/0/001 cannot be read"):
        StoredTree(tmp_path, 600).hash(0, 256)
    (tmp_path / "tile" / "1" / "000.p" / "2").write_bytes(bytes(64))
    with pytest.raises(TreeDamaged, match="another root"):
        reopened(tmp_path)


def test_an_older_checkpoint_is_still_proven_from_after_the_tree_grew(tmp_path: Path) -> None:
    writer = TreeWriter(tmp_path, ORIGIN)
    grow(writer, 5)
    commit(writer)
    old = (tmp_path / CHECKPOINT).read_bytes()
    grow(writer, 9)
    commit(writer)
    proof.check(proof.prove(StoredTree(tmp_path, 5), 3, old), TRUSTED, record(3))
    grow(writer, 300)
    commit(writer)
    proof.check(proof.prove(StoredTree(tmp_path, 5), 3, old), TRUSTED, record(3))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700, 65_536, 65_537])
def test_the_tiles_of_an_export_are_those_of_the_notary_and_verify_at_every_size(tmp_path: Path, size: int) -> None:
    leaves = [tlog.leaf_hash(str(n).encode()) for n in range(size)]
    tiles = Tiles(Written(tmp_path), "tree")
    for at in range(0, size, 300):
        tiles.extend(leaves[at : at + 300])
    root = tiles.close()
    assert root == tlog.tree_root(leaves)
    named = {str(path.relative_to(tmp_path / "tree")) for path in tmp_path.rglob("*") if path.is_file()}
    assert named == {tile.path for tile in tlog.tiles_for(0, size)}
    report = standalone.Report()
    standalone.check_tree(tmp_path / "tree", "tree", size, root, report)
    assert report.damages == []
    for before in {0, 1, size // 3, size - size % 256, max(0, size - 1), size} & set(range(size + 1)):
        assert standalone.prefix_root(tmp_path / "tree", before) == tlog.tree_root(leaves[:before])
    standalone.check_tree(tmp_path / "tree", "tree", size, bytes(32), report)
    assert report.state("tiles") == standalone.BROKEN
