"""The notary on a real broker: it signs what Kafka holds, goes on after a kill, and names the record that reads differently."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from chimera import failpoints
from chimera.audit import notary, proof, tlog
from chimera.audit.leaf import leaf_of
from chimera.audit.notary import LogChanged, Notary, directory_of, make_notary_key, retire_notary_key, rotate_notary_key
from chimera.audit.note import BadNote, Verifier
from chimera.audit.tree import CHECKPOINT, StoredTree, TreeDamaged
from chimera.commands.keys import KeyTrouble, load_installation, make_keys
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.read import read_until
from chimera.eventlog.topics import TopicSet, load_topics
from chimera.events.raw import RawRecord
from chimera.failpoints import Injected

TOPIC = "chimera.security"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_keys(tmp_path)
    make_notary_key(tmp_path)
    return tmp_path


@pytest.fixture
def source(kafka_bootstrap: str) -> Callable[[], tuple[str, TopicSet]]:
    """Makes a fresh topic; its prefix and the topic set that appends to it."""

    def make() -> tuple[str, TopicSet]:
        prefix = f"notary-{uuid.uuid4().hex[:8]}-"
        topics = load_topics().only(TOPIC).with_prefix(prefix)
        apply(kafka_bootstrap, topics)
        return prefix, topics

    return make


def append(bootstrap: str, topics: TopicSet, prefix: str, texts: list[str]) -> None:
    with Appender(bootstrap, topics, "test") as appender:
        for n, text in enumerate(texts):
            appender.append_blocking(prefix + TOPIC, "kim", text.encode(), [("ce_id", str(n).encode()), ("ce_type", b"Login")])


def sign_all(made: Notary, upto: int) -> None:
    for _ in range(600):
        if sum(writer.next_index for writer in made.writers.values()) >= upto:
            break
        made.step(0.1)
    made.sign()
    assert made.signed() == upto


def everything(bootstrap: str, topic: str) -> list[RawRecord]:
    return [raw for batch in read_until(bootstrap, topic, [0]) for raw in batch]


def trusted(home: Path) -> list[Verifier]:
    origin = notary.origin_of(load_installation(home).installation, TOPIC, 0)
    return notary.load_notary_keys(home).verifiers(origin)


def test_what_kafka_holds_is_signed_and_each_record_is_proven(
    home: Path, kafka_bootstrap: str, source: Callable[[], tuple[str, TopicSet]]
) -> None:
    prefix, topics = source()
    append(kafka_bootstrap, topics, prefix, [f"login {n}" for n in range(300)])
    first = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    sign_all(first, 300)
    first.close()
    old = (directory_of(home, TOPIC, 0) / CHECKPOINT).read_bytes()

    # given it was killed after it took in records that it had not signed
    append(kafka_bootstrap, topics, prefix, ["more"] * 300)
    killed = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    killed.step(5.0)
    killed.close()

    # then the next one signs what is there, and the tree begins with the one before
    again = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    sign_all(again, 600)
    again.close()
    records = everything(kafka_bootstrap, prefix + TOPIC)
    tree = StoredTree(directory_of(home, TOPIC, 0), 600)
    note = (tree.directory / CHECKPOINT).read_bytes()
    assert tree.root() == tlog.tree_root(tlog.leaf_hash(leaf_of(raw)) for raw in records)
    for index in (0, 299, 300, 599):
        proof.check(proof.prove(tree, index, note), trusted(home), records[index])
    before = notary.signed_checkpoint(tree.directory, trusted(home)[0].name, trusted(home))
    assert before is not None
    old_root = StoredTree(tree.directory, 300).root()
    tlog.check_consistency(300, 600, old_root, tree.root(), tlog.consistency_proof(300, 600, tree.hash))
    assert proof.check(proof.prove(StoredTree(tree.directory, 300), 7, old), trusted(home), records[7])[0].root == old_root


@pytest.mark.parametrize("point", ["notary.taken", "notary.written"])
def test_a_notary_cut_off_before_its_signature_makes_the_same_tree_again_and_signs_it(
    point: str, home: Path, kafka_bootstrap: str, source: Callable[[], tuple[str, TopicSet]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, topics = source()
    append(kafka_bootstrap, topics, prefix, [f"login {n}" for n in range(10)])
    first = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    sign_all(first, 10)
    first.close()
    signed = (directory_of(home, TOPIC, 0) / CHECKPOINT).read_bytes()

    append(kafka_bootstrap, topics, prefix, ["more"] * 300)
    monkeypatch.setenv(failpoints.VARIABLE, f"{point}=error#1")
    with failpoints.armed(home, "notary"):
        cut_off = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
        with pytest.raises(Injected, match=point):
            sign_all(cut_off, 310)
        cut_off.close()
    assert [line["point"] for line in failpoints.fired(home)] == [point]
    assert (directory_of(home, TOPIC, 0) / CHECKPOINT).read_bytes() == signed, "nothing new is signed"

    again = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    sign_all(again, 310)
    again.close()
    records = everything(kafka_bootstrap, prefix + TOPIC)
    assert StoredTree(directory_of(home, TOPIC, 0), 310).root() == tlog.tree_root(tlog.leaf_hash(leaf_of(raw)) for raw in records)


def test_bytes_that_read_differently_stop_the_notary_and_are_named(
    home: Path, kafka_bootstrap: str, source: Callable[[], tuple[str, TopicSet]]
) -> None:
    prefix, topics = source()
    append(kafka_bootstrap, topics, prefix, ["a", "b", "c"])
    made = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    sign_all(made, 3)
    made.close()
    signed = (directory_of(home, TOPIC, 0) / CHECKPOINT).read_bytes()

    other, topics = source()
    append(kafka_bootstrap, topics, other, ["a", "forged", "c"])
    with pytest.raises(LogChanged, match=r"\[0\]@0 reads differently from what was signed \(appended\); it was Login 0"):
        Notary(kafka_bootstrap, home, TOPIC, prefix=other)  # even the time at which a record came is signed

    shorter, topics = source()
    append(kafka_bootstrap, topics, shorter, ["a"])
    with pytest.raises(LogChanged, match="ends at 1, but 3 records of it were signed"):
        Notary(kafka_bootstrap, home, TOPIC, prefix=shorter)
    assert (directory_of(home, TOPIC, 0) / CHECKPOINT).read_bytes() == signed


def test_a_tree_whose_own_files_are_damaged_is_told_from_a_changed_log(
    home: Path, kafka_bootstrap: str, source: Callable[[], tuple[str, TopicSet]]
) -> None:
    prefix, topics = source()
    append(kafka_bootstrap, topics, prefix, ["a", "b", "c"])
    made = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    sign_all(made, 3)
    made.close()
    bundle = directory_of(home, TOPIC, 0) / "tile" / "entries" / "000.p" / "3"
    bundle.write_bytes(bundle.read_bytes().replace(b"Login", b"Lagin"))
    with pytest.raises(TreeDamaged, match="is not what its tile says"):
        Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)


def test_a_rotated_key_and_the_one_before_both_sign_until_it_is_retired(
    home: Path, kafka_bootstrap: str, source: Callable[[], tuple[str, TopicSet]]
) -> None:
    prefix, topics = source()
    (before,) = trusted(home)
    made = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    rotate_notary_key(home)
    append(kafka_bootstrap, topics, prefix, ["a"])
    sign_all(made, 1)
    directory = directory_of(home, TOPIC, 0)
    now, also = trusted(home)
    assert also == before
    for who in (before, now):
        assert notary.signed_checkpoint(directory, before.name, [who]) is not None
    with pytest.raises(KeyTrouble, match="--retire"):
        rotate_notary_key(home)
    retire_notary_key(home)
    append(kafka_bootstrap, topics, prefix, ["b"])
    sign_all(made, 2)
    made.close()
    assert notary.signed_checkpoint(directory, now.name, [now]) is not None
    with pytest.raises(BadNote, match="signed this note"):
        notary.signed_checkpoint(directory, before.name, [before])


def test_a_tree_that_does_not_grow_is_signed_by_the_new_key_before_the_one_before_may_go(
    home: Path, kafka_bootstrap: str, source: Callable[[], tuple[str, TopicSet]]
) -> None:
    # given a tree that was signed, and a rotation after which nothing more is appended
    prefix, topics = source()
    append(kafka_bootstrap, topics, prefix, ["a"])
    made = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    sign_all(made, 1)
    rotate_notary_key(home)
    now, _ = trusted(home)
    # then the key before cannot go: nobody could tell any more whose tree it is
    with pytest.raises(KeyTrouble, match=r"checkpoint is not signed by the present key yet.*run notary"):
        retire_notary_key(home)
    # until the notary that runs has signed it, or one that starts
    made.sign()
    made.close()
    assert notary.signed_checkpoint(directory_of(home, TOPIC, 0), now.name, [now]) is not None
    retire_notary_key(home)
    again = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    rotate_notary_key(home)
    again.close()
    Notary(kafka_bootstrap, home, TOPIC, prefix=prefix).sign()
    retire_notary_key(home)
    Notary(kafka_bootstrap, home, TOPIC, prefix=prefix).close()


def test_gos_own_transparency_log_code_agrees(
    home: Path, tmp_path: Path, kafka_bootstrap: str, source: Callable[[], tuple[str, TopicSet]]
) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go here to be the second opinion")
    prefix, topics = source()
    append(kafka_bootstrap, topics, prefix, [f"login {n}" for n in range(300)])
    made = Notary(kafka_bootstrap, home, TOPIC, prefix=prefix)
    sign_all(made, 300)
    made.close()
    directory = directory_of(home, TOPIC, 0)
    work = tmp_path / "go"
    shutil.copytree(Path(__file__).parent / "conformance", work)
    for name in ("go.mod", "main.go"):
        (work / f"{name}.txt").rename(work / name)
    env = {**os.environ, "GOFLAGS": "-mod=mod", "GOCACHE": str(tmp_path / "cache")}
    built = subprocess.run(
        [go, "build", "-o", "judge", "."], cwd=work, env=env, capture_output=True, text=True, check=False, timeout=200
    )
    if built.returncode and "golang.org/x/mod" in built.stderr and "dial" in built.stderr:
        pytest.skip(f"golang.org/x/mod cannot be fetched here: {built.stderr[-200:]}")
    assert built.returncode == 0, built.stderr
    for index in (0, 255, 299):
        one = proof.prove(StoredTree(directory, 300), index, (directory / CHECKPOINT).read_bytes())
        (tmp_path / "one.tlog-proof").write_bytes(one.text())
        argv = [str(work / "judge"), trusted(home)[0].line, str(tmp_path / "one.tlog-proof"), str(directory)]
        judged = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert judged.stdout == f"signed size=300 included={index} extends=100 tiles=ok\n", judged.stderr
