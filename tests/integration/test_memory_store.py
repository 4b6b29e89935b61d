"""Every store of notes keeps the same contract: upsert by id, one tenant at a time, filters, forgetting, equal builds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from chimera.events.notes import MemoryNoted
from chimera.memory import builds
from chimera.memory.builds import Build
from chimera.memory.contract import Found, MemoryAway, Query
from chimera.memory.embedding import HashedWords, Vector
from chimera.memory.pgvector import PgVector
from chimera.memory.projector import every, made_of, sweep, write
from chimera.memory.recall import Recall
from chimera.memory.store import Store
from chimera.memory.weaviate import Place, Weaviate
from chimera.projections.checkpoints import connect, open_checkpoints
from chimera.projections.schema import migrate
from chimera.projections.write import Moved
from tests.memoryhouse import AVA, BEN, NOW_MS, Keys, note, raw
from tests.memoryservers import weaviate_server

WORDS = HashedWords()


class House(NamedTuple):
    """One store with its live build, and what writes and recalls."""

    connection: psycopg.Connection[Any]
    store: Store
    build: Build
    keys: Keys
    dsn: str
    topic: str

    def put(self, *notes: MemoryNoted) -> None:
        """As the projector does it, on from the checkpoint."""
        start = open_checkpoints(self.connection, "memory", self.build.model_set, "chimera.notes", [0])[0]
        raws = [raw(each, start + n) for n, each in enumerate(notes)]
        write(self.connection, self.store, self.build, made_of(raws, WORDS, self.keys), self.keys)

    def recall(self, text: str, tenant: str = "acme", **more: Any) -> list[str]:
        """The words that are recalled, best first."""
        memory = Recall(self.dsn, self.store, lambda: WORDS, self.keys, lambda: NOW_MS / 1000)
        return [found.text for found in memory.recall(tenant, Query(text, **more))]

    def contents(self, build: Build | None = None) -> list[Found]:
        return [each._replace(sealed={}, note_at=(0, 0)) for each in self.store.contents((build or self.build).number)]


@pytest.fixture(scope="module")
def database(postgres_dsn: str) -> Iterator[str]:
    """One database for all tests of this file, migrated."""
    from tests.conftest import _with_database

    name = "test_memory_store"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    dsn = _with_database(postgres_dsn, name)
    migrate(dsn)
    yield dsn
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def weaviate() -> Iterator[Place]:
    """A server of our own."""
    with weaviate_server() as server:
        yield server.place


@pytest.fixture(params=["postgres", "weaviate"])
def house(database: str, request: pytest.FixtureRequest) -> Iterator[House]:
    """A store of each kind with an empty live build."""
    place = request.getfixturevalue("weaviate") if request.param == "weaviate" else None
    store: Store = PgVector(database) if place is None else Weaviate(lambda: place)
    connection = connect(database)
    for old in builds.unfinished(connection):
        if old.store == store.kind:
            builds.drop(connection, store, old)
    build = builds.begin(connection, store, WORDS)
    builds.swap(connection, build)
    live = builds.live(connection)
    assert live is not None
    yield House(connection, store, live, Keys(), database, "chimera.notes")
    store.close()
    connection.close()


def test_what_fits_best_is_recalled_first_with_its_source_its_taint_and_its_place(house: House) -> None:
    house.put(
        note("Squash soup feeds four for three dollars.", url="https://news.test/squash"),
        note("The harbour market opens at six."),
        note("People asked for lentils."),
    )
    assert house.recall("squash soup")[0] == "Squash soup feeds four for three dollars."
    memory = Recall(house.dsn, house.store, lambda: WORDS, house.keys, lambda: NOW_MS / 1000)
    [best] = memory.recall("acme", Query("squash soup", most=1))
    assert (best.note.url, best.note.taint, best.note.policy_edition) == ("https://news.test/squash", "allowlisted", 1)
    assert (best.note.record_at, best.note.note_at, best.note.agent) == ((3, 7), (0, 0), AVA)
    assert 0 < best.score <= 1
    assert set(best.parts) == {"vector", "keyword", "recency"}
    shown = memory.show("acme", best.note.id)
    assert shown is not None
    assert shown.text == best.text
    assert memory.show("globex", best.note.id) is None


def test_the_same_note_again_changes_nothing_and_a_newer_one_takes_its_place(house: House) -> None:
    first = note("We posted about soup.", kind="post_result", identity="x|1", numbers={"likes": 1.0})
    house.put(first)
    before = house.contents()
    house.put(first, first)
    assert house.contents() == before
    newer = note("We posted about soup.", kind="post_result", identity="x|1", numbers={"likes": 9.0}, ts=NOW_MS + 1)
    house.put(newer, first)
    [kept] = house.contents()
    assert kept.numbers == {"likes": 9.0}
    house.put(first)
    assert [each.numbers for each in house.contents()] == [{"likes": 9.0}], "an older one that is said again takes no place"


def test_a_tenant_never_recalls_what_another_noted(house: House) -> None:
    house.put(note("Squash soup is on the menu.", tenant="acme"), note("Squash soup is our secret.", tenant="globex", agent=BEN))
    assert house.recall("squash soup", "acme") == ["Squash soup is on the menu."]
    assert house.recall("squash soup", "globex") == ["Squash soup is our secret."]
    assert house.recall("squash soup", "acme", agent=BEN) == []
    assert house.recall("squash soup", "initech") == []


def test_agent_kind_taint_and_age_are_filters(house: House) -> None:
    house.put(
        note("Soup of Ava."),
        note("Soup of Ben.", agent=BEN),
        note("Soup, said a stranger.", kind="reply", taint="open", subject="person/1"),
        note("Soup of old.", ts=NOW_MS - 90 * 86_400_000),
    )
    assert house.recall("soup", agent=BEN) == ["Soup of Ben."]
    assert house.recall("soup", kinds=("reply",)) == ["Soup, said a stranger."]
    assert "Soup, said a stranger." not in house.recall("soup", worst="allowlisted")
    assert "Soup of old." not in house.recall("soup", since_ts=NOW_MS - 86_400_000)
    assert len(house.recall("soup")) == 4
    assert len(house.recall("soup", most=2)) == 2


def test_of_two_notes_that_fit_alike_the_newer_comes_first(house: House) -> None:
    house.put(note("Soup again.", identity="old", ts=NOW_MS - 40 * 86_400_000), note("Soup again.", identity="new"))
    memory = Recall(house.dsn, house.store, lambda: WORDS, house.keys, lambda: NOW_MS / 1000)
    assert [found.note.ts for found in memory.recall("acme", Query("soup"))] == [NOW_MS, NOW_MS - 40 * 86_400_000]


def test_somebody_forgotten_is_gone_at_once_and_after_a_rebuild(house: House) -> None:
    notes = [note("Mia hates fennel.", kind="reply", subject="person/mia"), note("Fennel is in season.")]
    house.put(*notes)
    house.keys.forget("person/mia")
    assert house.recall("fennel") == ["Fennel is in season."], "before anybody swept"
    assert sweep(house.connection, house.store, [house.build], house.keys.gone, set()) == house.keys.gone()
    assert [each.kind for each in house.contents()] == ["fact_with_source"], "and then nothing of it is left"
    house.put(notes[0])
    assert len(house.contents()) == 1, "said again it is not kept"
    rebuilt = builds.begin(house.connection, house.store, WORDS)
    open_checkpoints(house.connection, "memory", rebuilt.model_set, "chimera.notes", [0])
    made = made_of([raw(each, n) for n, each in enumerate(notes)], WORDS, house.keys)
    write(house.connection, house.store, rebuilt, made, house.keys, held=False)
    assert house.contents(rebuilt) == house.contents()


def test_somebody_forgotten_is_swept_out_of_builds_that_nobody_reads_too(house: House) -> None:
    house.put(note("Mia hates fennel.", kind="reply", subject="person/mia"), note("Fennel is in season."))
    kept = house.build
    follows = builds.begin(house.connection, house.store, WORDS)
    assert builds.swap(house.connection, follows) == kept
    house.keys.forget("person/mia")
    sweep(house.connection, house.store, every(house.connection, follows), house.keys.gone, set())
    assert [each.kind for each in house.contents(kept)] == ["fact_with_source"]


def test_a_build_takes_vectors_of_the_size_of_its_model(house: House) -> None:
    class Small(HashedWords):
        name = "small/8"
        dimensions = 8

        def embed(self, texts: Sequence[str]) -> list[Vector]:
            return [[1.0 if n == len(text) % 8 else 0.0 for n in range(8)] for text in texts]

    build = builds.begin(house.connection, house.store, Small())
    open_checkpoints(house.connection, "memory", build.model_set, "chimera.notes", [0])
    made = made_of([raw(note("Soup."), 0), raw(note("Market."), 1)], Small(), house.keys)
    write(house.connection, house.store, build, made, house.keys, held=False)
    builds.swap(house.connection, build)
    memory = Recall(house.dsn, house.store, Small, house.keys, lambda: NOW_MS / 1000)
    assert memory.recall("acme", Query("Bread"))[0].text == "Soup."
    with pytest.raises(MemoryAway, match=r"memory holds small/8 .* run `chimera memory rebuild`"):
        house.recall("soup")


def test_a_build_is_swapped_in_whole_and_what_wrote_the_old_one_notices(house: House) -> None:
    house.put(note("Old words."))
    rebuilt = builds.begin(house.connection, house.store, WORDS)
    open_checkpoints(house.connection, "memory", rebuilt.model_set, "chimera.notes", [0])
    write(house.connection, house.store, rebuilt, made_of([raw(note("New words."), 0)], WORDS, house.keys), house.keys, held=False)
    assert house.recall("words") == ["Old words."]
    assert builds.swap(house.connection, rebuilt) == house.build
    assert house.recall("words") == ["New words."]
    with pytest.raises(Moved, match="not the live one"):
        house.put(note("Late words."))
    builds.drop(house.connection, house.store, house.build)
    assert house.recall("words") == ["New words."]


def test_vectors_of_another_embedder_are_not_asked(house: House) -> None:
    class Other(HashedWords):
        name = "other"

    with pytest.raises(MemoryAway, match="chimera memory rebuild"):
        Recall(house.dsn, house.store, Other, house.keys).recall("acme", Query("soup"))
    with pytest.raises(MemoryAway, match="chimera memory rebuild"):
        builds.opened(house.connection, house.store, Other())


def test_words_with_signs_that_a_server_could_stumble_over_are_kept_as_they_are(house: House) -> None:
    odd = "Tabs\tand\nlines \\ and 'quotes' & | ! <-> 100% {json} 🍲 \u202e"
    house.put(note(odd))
    assert house.recall("tabs & lines | 'quotes'") == [odd]
    assert house.recall("!!! ((( ") in ([], [odd])


def test_bytes_that_are_no_note_are_counted_and_stop_nothing(house: House) -> None:
    good = note("Soup.")
    bad, nameless = raw(good, 0)._replace(value=b"{}"), raw(good.model_copy(update={"id": "soup"}), 1)
    open_checkpoints(house.connection, "memory", house.build.model_set, "chimera.notes", [0])
    made = made_of([bad, nameless, raw(good, 2)], WORDS, house.keys)
    write(house.connection, house.store, house.build, made, house.keys)
    row = house.connection.execute(
        "SELECT next_offset, unreadable FROM memory.checkpoints WHERE model_set = %s", (house.build.model_set,)
    ).fetchone()
    assert row == (3, 2)
    assert house.recall("soup") == ["Soup."]


def test_vectors_that_do_not_fit_into_a_page_are_refused_before_anything_is_made(database: str) -> None:
    class Long(HashedWords):
        dimensions = 4_096

    with connect(database) as connection, closing(PgVector(database)) as store:
        before = len(builds.unfinished(connection))
        with pytest.raises(MemoryAway, match="3072 do: choose another model"):
            builds.begin(connection, store, Long())
        assert len(builds.unfinished(connection)) == before


def test_an_address_where_nobody_answers_is_named() -> None:
    with pytest.raises(MemoryAway, match="does not answer"):
        list(Weaviate(lambda: Place("http://127.0.0.1:1", "127.0.0.1:2", None)).contents(1))
    with pytest.raises(MemoryAway, match="key of Weaviate cannot be read"):
        list(Weaviate(lambda: Place("http://127.0.0.1:1", "127.0.0.1:2", Path("/nowhere/key"))).contents(1))
    with pytest.raises(MemoryAway, match="does not answer"):
        Recall("host=127.0.0.1 port=1 dbname=x", PgVector("host=127.0.0.1 port=1"), HashedWords, Keys()).recall(
            "acme", Query("soup")
        )
