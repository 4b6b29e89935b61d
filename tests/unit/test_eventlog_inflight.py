"""What is in flight: the window's bounds, and reports finding their way into event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from chimera.eventlog.bulk import CHUNK, GROUP, Entry, by_partition, chunked
from chimera.eventlog.inflight import BUSY_PER_S, Inbox, Turns, Window
from chimera.eventlog.store import RecordCache
from chimera.events.raw import Position, RawRecord


def test_a_full_window_lets_nobody_in_until_somebody_leaves() -> None:
    window = Window(max_records=2, max_bytes=100)
    assert window.try_enter(1, 10)
    assert window.try_enter(1, 10)
    assert not window.try_enter(1, 10)
    window.leave(1, 10)
    assert window.try_enter(1, 10)


def test_a_window_is_full_by_bytes_too() -> None:
    window = Window(max_records=10, max_bytes=100)
    assert window.try_enter(1, 90)
    assert not window.try_enter(1, 20)


def test_what_is_larger_than_the_whole_window_enters_when_it_is_empty() -> None:
    window = Window(max_records=1, max_bytes=10)
    assert window.try_enter(5, 500)
    assert not window.try_enter(1, 1)


def test_waiting_for_room_ends_at_its_deadline() -> None:
    window = Window(max_records=1, max_bytes=10)
    assert window.try_enter(1, 1)
    assert not window.enter(1, 1, timeout_s=0.01)
    assert window.records == 1


def test_whoever_waits_is_called_once_when_room_appears() -> None:
    window, called = Window(max_records=1, max_bytes=10), list[str]()
    assert window.try_enter(1, 1)
    window.call_on_leave(lambda: called.append("a"))
    assert called == []
    window.leave(1, 1)
    window.leave(0, 0)
    assert called == ["a"]


def test_whoever_asks_after_the_room_appeared_is_called_at_once() -> None:
    called = list[str]()
    Window(max_records=1, max_bytes=10).call_on_leave(lambda: called.append("a"))
    assert called == ["a"]


def test_a_thousand_reports_from_another_thread_all_arrive_in_the_loop() -> None:
    async def run() -> list[int]:
        inbox, loop = Inbox(), asyncio.get_running_loop()
        futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(1000)]
        thread = threading.Thread(target=lambda: [inbox.put(future, n) for n, future in enumerate(futures)])
        thread.start()
        return await asyncio.wait_for(asyncio.gather(*futures), 5)

    assert asyncio.run(run()) == list(range(1000))


def test_a_report_for_a_waiter_that_was_cancelled_is_let_go() -> None:
    async def run() -> int:
        inbox, loop = Inbox(), asyncio.get_running_loop()
        gone: asyncio.Future[int] = loop.create_future()
        there: asyncio.Future[int] = loop.create_future()
        gone.cancel()
        inbox.put(gone, 1)
        inbox.put(there, 2)
        return await asyncio.wait_for(there, 5)

    assert asyncio.run(run()) == 2


def test_a_report_for_a_loop_that_has_ended_harms_nobody() -> None:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[int] = loop.create_future()
    loop.close()
    inbox = Inbox()
    inbox.put(future, 1)
    inbox.put(future, 2)
    assert not future.done()


def record(offset: int, size: int = 1000) -> RawRecord:
    return RawRecord("t", 0, offset, 0, b"k", b"x" * size, [])


def test_the_cache_stays_below_its_bytes_and_forgets_what_was_used_longest_ago() -> None:
    cache = RecordCache(max_bytes=4000)
    cache.put(record(1))
    cache.put(record(2))
    assert cache.get(("t", 0, 1)) == record(1)
    cache.put(record(3))
    assert cache.bytes <= 4000
    assert cache.get(("t", 0, 2)) is None
    assert cache.get(("t", 0, 1)) == record(1)


def test_a_record_larger_than_the_cache_is_not_held() -> None:
    cache = RecordCache(max_bytes=500)
    cache.put(record(1))
    assert cache.bytes == 0
    assert cache.get(("t", 0, 1)) is None


def test_a_bulk_is_sent_partition_by_partition_each_in_its_own_order() -> None:
    homes = [("log", 3), ("log", 1), ("calls", 3), ("log", 0), ("log", 1), ("log", 3)]
    (order,) = by_partition(homes)
    assert [(*homes[n], n) for n in order] == [
        ("calls", 3, 2),
        ("log", 0, 3),
        ("log", 1, 1),
        ("log", 1, 4),
        ("log", 3, 0),
        ("log", 3, 5),
    ]
    groups = list(by_partition([("log", n % 24) for n in range(2 * GROUP + 1)]))
    assert [sorted(group) for group in groups] == [
        list(range(GROUP)), list(range(GROUP, 2 * GROUP)), [2 * GROUP],
    ], "no partition waits for all"  # fmt: skip
    assert GROUP % CHUNK == 0, "a chunk lies within one group, so its places ascend"


class Report:
    """What the client says of a record."""

    def __init__(self, topic: str, partition: int, offset: int, ts: int) -> None:
        self.topic, self.partition, self.offset = (lambda: topic), (lambda: partition), (lambda: offset)
        self.timestamp = lambda: (2, ts)


@pytest.mark.parametrize("topics", [["log"], ["calls", "log"]])
def test_positions_belong_to_their_entries_whatever_the_order_in_which_reports_come(topics: list[str]) -> None:
    window = Window(100, 100_000)
    homes = [(topic, partition) for topic in topics for partition in (2, 10) for _ in range(3)]
    entries = [Entry(topic, "agent/ava", b"x", []) for topic, _ in homes]
    (chunk,) = chunked(entries, homes, window)
    assert window.try_enter(len(homes), chunk.size)
    # Others append to the same partitions: offsets ascend with gaps, and need not ascend from one partition to the next.
    lying = [Position(*home, 90 - 40 * (n // 3) + 2 * n, 1000 + n) for n, home in enumerate(homes)]
    for position in reversed(lying):
        assert not chunk.settled
        chunk.deliver(None, Report(*position))  # type: ignore[arg-type]
    assert chunk.positions() == lying
    assert all(type(position) is Position for position in chunk.positions())
    assert window.records == window.bytes == 0


class Clockwork:
    """A clock that is moved by hand, and turns whose time comes when it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.planned: list[float] = []
        self.begin: Callable[[], object] = lambda: None
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._plan)
        self.turns = Turns(0.04, lambda: self.now)

    def _plan(self, after_s: float, begin: Callable[..., object], *given: object) -> None:
        self.planned.append(after_s)
        self.begin = lambda: begin(*given)

    async def append(self, every_s: float) -> asyncio.Task[None]:
        """One that comes so long after the one before; done where it began at once."""
        self.now += every_s
        task = asyncio.get_running_loop().create_task(self.turns.wait())
        await asyncio.sleep(0)
        return task


def test_appends_begin_at_once_while_few_come(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        given = Clockwork(monkeypatch)
        assert all([(await given.append(1.1 / BUSY_PER_S)).done() for _ in range(int(3 * BUSY_PER_S))])
        assert not given.planned

    asyncio.run(scenario())


def test_appends_begin_together_while_many_come_and_at_once_when_it_is_calm_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        given = Clockwork(monkeypatch)
        tasks = [await given.append(0.5 / BUSY_PER_S) for _ in range(int(3 * BUSY_PER_S))]
        waiting = [task for task in tasks if not task.done()]
        assert len(waiting) > 1
        assert given.planned == [0.04], "one turn for all of them"
        waiting.pop().cancel()  # one that is given up takes nobody along
        given.begin()
        await asyncio.gather(*waiting)
        assert (await given.append(60.0)).done()

    asyncio.run(scenario())
