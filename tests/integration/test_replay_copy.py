"""Copies for staging and golden corpora on a real log: the same bytes, rulings and tables, nothing that acts, no person's key."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from chimera.commands.keys import log_topics
from chimera.commands.subjects import SubjectKeyFiles
from chimera.eventlog.cluster import apply, require_topics
from chimera.eventlog.copies import BadTarget, target
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.read import end_offsets, read_until
from chimera.eventlog.topics import TopicDrift
from chimera.events import records as rec
from chimera.events.raw import RawRecord
from chimera.events.sealed import seal
from chimera.replay import copying, corpus, look
from chimera.replay.copying import Choice, NothingChosen
from chimera.replay.corpus import BadCorpus
from chimera.replay.look import Log
from tests.integration.projection_data import History, day, enrol, mischief

GOLDEN = Path("tests/golden/corpus")


class Place:
    """Two agents' days, a quarantined third, and words of a stranger under the stranger's key."""

    def __init__(self, bootstrap: str, home: Path) -> None:
        self.bootstrap = bootstrap
        topic = f"copy-{uuid.uuid4().hex[:8]}-chimera.log"
        apply(bootstrap, log_topics(topic))
        self.h = History(topic)

        def partition(name: str) -> int:
            return partition_for(f"agent/{uuid.uuid5(uuid.NAMESPACE_DNS, topic + name)}", 24)

        enrol(self.h, next(name for n in range(10_000) if partition(name := f"neighbour{n}") == partition("ava")))
        self.ava, self.ben = day(self.h, "ava"), day(self.h, "ben")
        mischief(self.h, enrol(self.h, "cy"))
        self.keys = SubjectKeyFiles(home)
        heard = rec.Signal(
            thread="t1", external_id="e1", author=seal(self.keys, "person/1", "stranger"), observed_at=1,
            text=seal(self.keys, "person/1", "secret words"),
        )  # fmt: skip
        signal = rec.SignalObserved(source="x", number=1, cursor="1", items=[heard])
        assert self.h.add(self.ava, signal, actor="worker").outcome == "applied"
        self.h.send(bootstrap)
        self.log = Log(bootstrap, topic, self.h.root.public)
        self.ends = end_offsets(bootstrap, topic)

    def raws(self, topic: str, upto: dict[int, int]) -> list[RawRecord]:
        found = [raw for batch in read_until(self.bootstrap, topic, upto, None, upto) for raw in batch]
        return sorted(found, key=lambda raw: (raw.partition, raw.offset))


@pytest.fixture(scope="module")
def place(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(kafka_bootstrap, tmp_path_factory.mktemp("keys"))


def new_target(place: Place) -> str:
    return f"staging-{uuid.uuid4().hex[:8]}.chimera.log"


def test_a_copy_keeps_bytes_places_and_append_times_and_so_every_ruling(place: Place) -> None:
    plan = copying.plan(place.log, Choice(frozenset({place.ava})), place.ends)
    at = target(new_target(place), place.bootstrap, 24)
    copying.copy(place.log, plan, at, 24)
    chosen = [raw for raw in place.raws(place.log.topic, plan.upto) if raw.key in plan.streams]
    copied = place.raws(at.topic, plan.upto)
    assert [raw._replace(topic="") for raw in copied if raw.key is not None] == [raw._replace(topic="") for raw in chosen]
    assert len(copied) == plan.records + plan.left_out > plan.records
    there = look.at_cut(
        Log(place.bootstrap, at.topic, place.log.root_public), place.ava, look.now(Log(place.bootstrap, at.topic, ""))
    )
    here = look.at_cut(place.log, place.ava, look.now(place.log))
    assert (there.state, there.version, there.record.offset) == (here.state, here.version, here.record.offset)


def test_what_was_sealed_stays_sealed_and_others_words_stay_away(place: Place) -> None:
    plan = copying.plan(place.log, Choice(frozenset({place.ava})), place.ends)
    at = target(new_target(place), place.bootstrap, 24)
    copying.copy(place.log, plan, at, 24)
    values = b"".join(raw.value or b"" for raw in place.raws(at.topic, plan.upto))
    assert b"ciphertext" in values
    assert b"secret words" not in values
    assert b"ben writes post" not in values
    assert b"ava writes post" in values


def test_no_process_starts_on_a_copy(place: Place) -> None:
    at = target(new_target(place), place.bootstrap, 24)
    copying.copy(place.log, copying.plan(place.log, Choice(), place.ends), at, 24)
    with pytest.raises(TopicDrift, match=r"message\.timestamp\.type"):
        require_topics(place.bootstrap, log_topics(at.topic))


@pytest.mark.parametrize("name", ["chimera.log", "chimera.calls", "elsewhere:9092/chimera.log", "__consumer_offsets"])
def test_the_name_of_a_live_topic_is_refused(place: Place, name: str) -> None:
    with pytest.raises(BadTarget, match="is the name of a live topic"):
        target(name, place.bootstrap, 24)


def test_a_log_under_another_name_and_a_copy_that_holds_something_are_refused(place: Place) -> None:
    with pytest.raises(BadTarget, match="its timestamps are the broker's"):
        target(place.log.topic, place.bootstrap, 24)
    used = new_target(place)
    copying.copy(
        place.log, copying.plan(place.log, Choice(frozenset({place.ben})), place.ends), target(used, place.bootstrap, 24), 24
    )
    with pytest.raises(BadTarget, match=r"holds \d+ records"):
        target(used, place.bootstrap, 24)
    with pytest.raises(BadTarget, match="names no topic"):
        target("localhost:9092", place.bootstrap, 24)


def test_who_is_chosen_by_tenant_and_by_time(place: Place) -> None:
    every = copying.plan(place.log, Choice(tenant="acme"), place.ends)
    assert {place.ava.encode(), place.ben.encode()} <= every.streams
    with pytest.raises(NothingChosen, match="loosen --agent, --tenant or --since"):
        copying.plan(place.log, Choice(tenant="nobody"), place.ends)
    with pytest.raises(NothingChosen):
        copying.plan(place.log, Choice(frozenset({place.ava}), since=2**50), place.ends)


# --- corpora ---------------------------------------------------------------------------------------------------------


def test_a_corpus_is_what_it_was_also_when_every_key_is_destroyed(
    place: Place, tmp_path: Path, make_database: Callable[[], str]
) -> None:
    plan = copying.plan(place.log, Choice(frozenset({place.ava, place.ben})), place.ends)
    records, dsn = corpus.take(place.log, plan), make_database()
    about = corpus.freeze(tmp_path / "c", records, 24, place.log.root_public, dsn)
    assert about["records"] == len(records)
    assert about["tables"]["signals"]["rows"] == 1
    assert about["tables"]["events"]["rows"] == len(records)
    assert corpus.load(tmp_path / "c").records == [raw._replace(topic="corpus") for raw in records]
    place.keys.forget("person/1")
    assert corpus.check(tmp_path / "c", dsn) == []
    with pytest.raises(BadCorpus, match="holds a corpus already"):
        corpus.freeze(tmp_path / "c", records, 24, "", None)


def test_a_changed_ruling_and_a_changed_table_are_named(place: Place, tmp_path: Path, make_database: Callable[[], str]) -> None:
    plan, dsn = copying.plan(place.log, Choice(frozenset({place.ben})), place.ends), make_database()
    directory = tmp_path / "c"
    corpus.freeze(directory, corpus.take(place.log, plan), 24, place.log.root_public, dsn)
    about = orjson.loads((directory / corpus.ABOUT).read_bytes())
    about["tables"]["effects"]["sum"] = "1"
    about["tables"]["effects"]["columns"].append("long_gone")
    (directory / corpus.ABOUT).write_bytes(orjson.dumps(about))
    (found,) = corpus.check(directory, dsn)
    assert (found.what, found.where) == ("table", "effects")
    assert found.now.endswith("without long_gone")
    about["tables"] = {}
    about["root_public"] = ""
    (directory / corpus.ABOUT).write_bytes(orjson.dumps(about))
    different = corpus.check(directory, None)
    assert different[0].what == "ruling"
    assert different[0].was.startswith("applied")
    assert different[0].now.startswith("void (forged)")
    corpus.freeze_again(directory, None)
    assert corpus.check(directory, None) == []


def test_an_altered_file_is_noticed(place: Place, tmp_path: Path) -> None:
    plan = copying.plan(place.log, Choice(frozenset({place.ben})), place.ends)
    corpus.freeze(tmp_path / "c", corpus.take(place.log, plan), 24, place.log.root_public, None)
    path = tmp_path / "c" / corpus.RECORDS
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadCorpus, match="was altered"):
        corpus.check(tmp_path / "c", None)
    path.unlink()
    with pytest.raises(BadCorpus, match="is missing"):
        corpus.load(tmp_path / "c")
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(BadCorpus, match="no corpus in"):
        corpus.load(tmp_path / "c")


@pytest.mark.parametrize("directory", sorted(GOLDEN.iterdir()) if GOLDEN.is_dir() else [], ids=lambda path: path.name)
def test_each_golden_corpus_folds_and_rebuilds_to_what_it_was(directory: Path, make_database: Callable[[], str]) -> None:
    assert corpus.load(directory).tables
    assert corpus.check(directory, make_database()) == []
