"""Episodes while things die: after a kill -9 of the server in the middle of writing, and after it lost everything, they equal a
rebuild."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import pytest
from redis import Redis

from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.eventlog.cluster import apply
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import end_offsets
from chimera.eventlog.topics import load_topics
from chimera.events.notes import TOPIC, encode
from chimera.memory.contract import MemoryAway
from chimera.memory.episodes.contract import Episodes, Kind, Limits, Moves, Row, Store
from chimera.memory.episodes.inprocess import InProcess
from chimera.memory.episodes.projector import Follower, Sources, catch_up
from chimera.memory.episodes.valkey import Server, Valkey
from chimera.projections.checkpoints import LOG
from chimera.projections.schema import migrate
from tests.episodehouse import NOW_MS, EventTable, Running, valkey_server
from tests.followers import DEADLINE_S, in_a_thread, until
from tests.memoryhouse import AVA, BEN, Keys, note

PEOPLE = 10
LIMITS = Limits(last=5, ttl_ms=100 * 365 * 86_400_000)
"""So long that what the broker stamps today is young at `NOW_MS`."""
Contents = dict[tuple[str, str, Kind, str], list[bytes]]


class Scene:
    """A log with its read model, and notes: what episodes are made of."""

    def __init__(self, bootstrap: str, dsn: str) -> None:
        prefix = f"episodes-{uuid.uuid4().hex[:8]}-"
        self._topics = load_topics().only(TOPIC, LOG).with_prefix(prefix)
        apply(bootstrap, self._topics)
        self.keys = Keys()
        self.sources = Sources(bootstrap, dsn, self.keys, self.keys.gone, prefix + TOPIC, prefix + LOG)
        self._partitions = len(end_offsets(bootstrap, self.sources.log))
        self.table = EventTable(dsn, self._partitions)
        self._said = 0

    def say(self, count: int) -> None:
        """So much more happens, to two agents in three tenants."""
        entries: list[Entry] = []
        for n in range(self._said, self._said + count):
            tenant, agent, person = f"t{n % 3}", (AVA, BEN)[n % 2], f"person/{n % PEOPLE}"
            partition, ts = place(agent, self._partitions), NOW_MS - 1_000_000 + n
            self.table.heard(
                f"x:{n % 5}", f"word {n}", self.keys, subject=person, tenant=tenant, agent=agent, partition=partition, ts=ts
            )
            self.table.add("WorkFailed", {}, ordinal=n, tenant=tenant, agent=agent, partition=partition, ts=ts)
            noted = note(f"Fact {n}.", agent=agent, tenant=tenant, subject=person)
            entries += [Entry(self.sources.log, agent, b"{}", [])] * 2
            entries.append(Entry(self.sources.notes, agent, encode(noted), []))
        self._said += count
        with Appender(self.sources.bootstrap, self._topics, "test") as appender:
            appender.append_many(entries)
        self.table.written(self.sources.log)

    def ends(self) -> dict[tuple[str, int], int]:
        """Where a store stands that holds everything."""
        topics = (self.sources.log, self.sources.notes)
        return {(topic, p): end for topic in topics for p, end in end_offsets(self.sources.bootstrap, topic).items()}

    def rebuilt(self) -> Contents:
        """What a store holds that is made from nothing."""
        store = InProcess(LIMITS, lambda: NOW_MS)
        catch_up(self.sources, store, LIMITS, lambda: NOW_MS)
        return store.contents()


@pytest.fixture
def scene(kafka_bootstrap: str, make_database: Callable[[], str]) -> Iterator[Scene]:
    dsn = make_database()
    migrate(dsn)
    made = Scene(kafka_bootstrap, dsn)
    yield made
    made.table.close()


class Killing(Valkey):
    """Its server dies when it is written to for the second time."""

    def __init__(self, running: Running) -> None:
        super().__init__(running.server, LIMITS, lambda: NOW_MS)
        self._running, self._writes = running, 0
        self.killed = threading.Event()

    def write(self, moves: Moves, rows: Sequence[Row]) -> None:
        self._writes += 1
        if self._writes == 2:
            self._running.kill()
            self.killed.set()
        super().write(moves, rows)


@contextmanager
def following(sources: Sources, store: Store) -> Iterator[Follower]:
    """The projector's follower, in a thread."""
    follower = Follower(sources, store, LIMITS, lambda: NOW_MS)
    with in_a_thread(follower):
        yield follower


def test_a_server_that_is_killed_while_it_is_written_to_or_loses_everything_holds_in_the_end_what_a_rebuild_holds(
    scene: Scene,
) -> None:
    with valkey_server() as running, closing(Valkey(running.server, LIMITS, lambda: NOW_MS)) as read:

        def holds_everything() -> bool:
            try:
                return read.checkpoints() == scene.ends()
            except MemoryAway:  # it is down, or its address answers nobody yet
                return False

        # given a server that dies when it is written to for the second time
        store = Killing(running)
        scene.say(60)
        with following(scene.sources, store) as follower:
            until(holds_everything, "the first words are kept")
            scene.say(120)
            assert store.killed.wait(DEADLINE_S)

            # then it holds in the end what a rebuild holds, each list at its bound
            until(holds_everything, "the server is back and caught up with")
            assert read.contents() == scene.rebuilt()
            assert {len(found) for where, found in read.contents().items() if where[2] == "events"} == {LIMITS.rows}
            until(lambda: follower.trouble == "", "it says that nothing is wrong any more")

            # and so it does when it comes back empty, though nothing new happens
            with Redis.from_url(running.server.url, password=valkey_password(running.server)) as client:
                client.flushall()
            until(holds_everything, "what was lost is made anew")
            assert read.contents() == scene.rebuilt()

            # and somebody forgotten is gone: at once for whoever asks, soon from the server, and from a rebuild
            asked = Episodes(read, scene.keys)
            assert "word 0" in [told.text for told in asked.thread("t0", AVA, "x:0", 99)]
            scene.keys.forget("person/0")
            assert "word 0" not in [told.text for told in asked.thread("t0", AVA, "x:0", 99)]
            assert asked.notes("t0", AVA, 99)
            until(lambda: not mentions(read.contents(), "person/0"), "the rows are taken out")
            assert mentions(read.contents(), "person/1")
            assert not mentions(scene.rebuilt(), "person/0")
        assert holds_everything()


def test_while_no_server_answers_the_follower_says_so_and_goes_on_trying(scene: Scene) -> None:
    with following(scene.sources, Valkey(Server("redis://127.0.0.1:1/0"), LIMITS)) as follower:
        until(lambda: "127.0.0.1:1/0 does not answer" in follower.trouble, "the trouble is named")


def mentions(contents: Contents, subject: str) -> bool:
    """Do any words of this person stand there?"""
    return any(f'"{subject}"'.encode() in body for found in contents.values() for body in found)


def valkey_password(server: Server) -> str:
    assert server.key_file is not None
    return server.key_file.read_text()
