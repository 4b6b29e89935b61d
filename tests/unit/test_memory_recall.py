"""What is recalled: by meaning and not by words alone, ranked the same wherever it lies, by a model that is what it should be."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import orjson
import pytest

from chimera.commands.subjects import SubjectForgotten, SubjectKeyFiles
from chimera.memory import embedding
from chimera.memory.contract import MemoryAway, Query, ranked, within, worst_of
from chimera.memory.embedding import DIMENSIONS, HashedWords, MiniLM, embedder
from chimera.memory.pgrows import halves
from chimera.memory.pgvector import as_text
from chimera.memory.store import Row, newest, subject_key
from tests.memoryhouse import NOW_MS, InMemory, Keys, note
from tests.paraphrases import PAIRS


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


FIVE = 5
"""As many recollections as a prompt has room for."""


def sentences() -> list[str]:
    """What else is remembered: the sentences of the example feeds."""
    told = " ".join(path.read_text() for path in sorted(Path("examples/feeds").rglob("*")) if path.is_file())
    return [each for each in re.split(r"(?<=[.!?])\s+", re.sub(r"<[^>]+>|&\w+;", " ", told)) if 40 < len(each) < 200]


def found_by(made: embedding.Embedder) -> tuple[int, int]:
    """For how many of the fifty questions the note is among the five recalled, and for how many it is the first."""
    memory = InMemory(made, Keys())
    memory.put([note(text) for text in {*(text for _, text in PAIRS), *sentences()}])
    places = []
    for question, text in PAIRS:
        recalled = [each.text for each in memory.recall("acme", Query(question, most=FIVE))]
        places.append(recalled.index(text) if text in recalled else FIVE)
    return sum(place < FIVE for place in places), places.count(0)


def test_four_of_five_paraphrases_are_found_by_the_default_embedding_and_few_by_the_plumbing_one(
    minilm: MiniLM, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(PAIRS) == 50
    (meaning, first), (hashed, _) = found_by(minilm), found_by(HashedWords())
    with capsys.disabled():
        print(f"\nof 50 paraphrases {meaning} are among the five recalled, {first} the first (limit 40); by hashed words {hashed}")
    assert meaning >= 40
    assert hashed < 20


def test_a_text_has_one_vector_whatever_it_is_embedded_beside(minilm: MiniLM) -> None:
    texts = [text for _, text in PAIRS]
    together = MiniLM().embed(texts)
    alone = [MiniLM().embed([text])[0] for text in texts[:3]]
    assert [list(vector) for vector in together[:3]] == [list(vector) for vector in alone]
    assert {len(vector) for vector in together} == {DIMENSIONS}
    assert sum(float(part) ** 2 for part in together[0]) == pytest.approx(1.0, abs=1e-4)
    assert minilm.embed([]) == []
    assert len(minilm.embed([""])) == 1


def test_a_model_that_is_not_the_one_that_it_should_be_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "vocab.txt"
    other.write_text("[PAD]\n[UNK]\n")
    monkeypatch.setattr(embedding, "VOCABULARY", other)
    with pytest.raises(MemoryAway, match="vocabulary is not what it should be"):
        embedder("minilm")


def test_age_and_shared_words_decide_between_what_means_the_same() -> None:
    memory = InMemory(HashedWords(), Keys())
    old, new = note("Soup is on.", identity="a", ts=NOW_MS - 60 * 86_400_000), note("Soup is on.", identity="b")
    memory.put([old, new])
    assert [each.note.id for each in memory.recall("acme", Query("soup"))] == [new.id, old.id]
    best = memory.recall("acme", Query("soup"))[0]
    assert best.parts["keyword"] == 1.0
    assert best.parts["recency"] == 1.0


def test_what_has_nothing_to_do_with_the_question_is_not_recalled() -> None:
    memory = InMemory(HashedWords(), Keys())
    memory.put([note("Zebras graze.")])
    assert memory.recall("acme", Query("a quiet evening")) == []


def test_a_budget_of_characters_keeps_the_best_and_taint_is_that_of_the_worst() -> None:
    memory = InMemory(HashedWords(), Keys())
    memory.put([note("soup " + "a" * 50, taint="owner"), note("soup soup " + "b" * 500, taint="open")])
    found = memory.recall("acme", Query("soup"))
    assert worst_of(found) == "open"
    assert worst_of([]) == "owner"
    assert len(within(found, 5_000)) == 2
    assert within(found, 10) == []
    assert ranked(Query("soup", most=1), [(each.note, each.text) for each in found], NOW_MS) == found[:1]


def test_of_notes_with_one_id_the_newest_is_kept_whatever_their_order() -> None:
    first, second = note("a", identity="x"), note("b", identity="x", ts=NOW_MS + 1)
    rows = [Row(each, "", [0.0], (0, n)) for n, each in enumerate((first, second))]
    assert newest(rows) == newest(rows[::-1]) == [rows[1]]


def test_who_was_forgotten_is_known_by_the_name_of_the_key_file_and_the_living_are_not_looked_at_twice(tmp_path: Path) -> None:
    keys = SubjectKeyFiles(tmp_path / "keys")
    assert keys.gone() == set()
    for subject in ("person/a", "person/b"):
        keys.key_for(subject)
    assert keys.gone() == set()
    keys.forget("person/a")
    keys.forget("person/never")
    assert keys.gone() == {subject_key("person/a"), subject_key("person/never")} == keys.gone()
    assert SubjectKeyFiles(tmp_path / "keys").gone() == keys.gone()
    with pytest.raises(SubjectForgotten):
        keys.key_for("person/a")


def test_a_vector_is_told_to_postgres_by_the_numbers_that_it_holds(minilm: MiniLM) -> None:
    made = minilm.embed(["bottled plums"])[0]
    assert orjson.loads(as_text(made)) == pytest.approx([float(each) for each in made], rel=1e-6)
    assert as_text((0.5, -1.0)) == "[0.5,-1.0]"
    kept = halves(made)
    assert struct.unpack(">ihh384e", kept) == pytest.approx((4 + 2 * 384, 384, 0, *map(float, made)), abs=1e-3)
    assert halves([float(each) for each in made]) == kept, "plain numbers are rounded as numpy does it"
    with pytest.raises(MemoryAway, match="half precision"):
        halves([1e6])
