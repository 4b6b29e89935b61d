"""Records of calls on their way to the log: gathered, in order, waited for only where a call may have changed the world."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.eventlog.bulk import Entry
from chimera.processors import calllog
from chimera.processors.calllog import CallLog

PATIENCE_S = 60.0


class Log:
    """A log that can be held shut, and that may refuse an append."""

    def __init__(self) -> None:
        self.appends: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.refuses = False

    def append_many(self, entries: Sequence[Entry]) -> None:
        self.asked.set()
        assert self.open.wait(PATIENCE_S)
        if self.refuses:
            raise ChimeraError("the broker is away")
        self.appends.append([entry.key for entry in entries])

    @property
    def keys(self) -> list[str]:
        return [key for each in self.appends for key in each]


def call(n: int) -> Entry:
    return Entry("chimera.calls", f"agent/{n}", b"{}", [])


def told(then: Callable[[], Awaitable[None]]) -> None:
    async def soon() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await then()

    asyncio.run(soon())


def test_looks_are_not_waited_for_and_share_one_append() -> None:
    log = Log()

    async def looking() -> None:
        calls = CallLog(log.append_many)
        for n in range(20):
            await calls.put(call(n), wait=False)
        assert log.appends == []
        await calls.close()

    told(looking)
    assert log.appends == [[f"agent/{n}" for n in range(20)]]


def test_a_look_is_appended_though_nothing_follows_it() -> None:
    log = Log()

    async def looking() -> None:
        await CallLog(log.append_many).put(call(1), wait=False)
        assert await asyncio.to_thread(log.asked.wait, PATIENCE_S)

    told(looking)


def test_a_call_that_may_have_changed_the_world_is_in_the_log_before_its_caller_goes_on() -> None:
    log = Log()

    async def acting() -> None:
        calls = CallLog(log.append_many)
        await calls.put(call(1), wait=False)
        await calls.put(call(2), wait=True)
        assert log.keys == ["agent/1", "agent/2"]

    told(acting)


def test_calls_that_act_soon_after_another_share_one_append(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calllog, "APART_S", 3600.0)
    log = Log()

    async def acting() -> None:
        held, time_comes = asyncio.Event(), asyncio.Event()

        async def wait(seconds: float) -> None:
            held.set()
            await time_comes.wait()

        calls = CallLog(log.append_many, wait)
        await calls.put(call(1), wait=True)
        second = asyncio.create_task(calls.put(call(2), wait=True))
        await held.wait()
        third = asyncio.create_task(calls.put(call(3), wait=True))
        await asyncio.sleep(0)
        assert log.keys == ["agent/1"]
        time_comes.set()
        await asyncio.gather(second, third)

    told(acting)
    assert log.appends == [["agent/1"], ["agent/2", "agent/3"]]


def test_what_the_broker_does_not_take_is_said_and_the_next_is_appended(caplog: pytest.LogCaptureFixture) -> None:
    log = Log()

    async def acting() -> None:
        calls = CallLog(log.append_many)
        log.refuses = True
        await calls.put(call(1), wait=True)
        log.refuses = False
        await calls.put(call(2), wait=True)

    told(acting)
    assert log.keys == ["agent/2"]
    assert "of 1 records some could not be appended to chimera.calls" in caplog.text


def test_records_that_are_lost_on_the_way_to_the_producer_are_said_to_be_and_their_callers_go_on(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    monkeypatch.setenv(failpoints.VARIABLE, "calls.taken=error#1")

    async def acting() -> None:
        calls = CallLog(log.append_many)
        await calls.put(call(1), wait=True)
        await calls.put(call(2), wait=True)

    with failpoints.armed(tmp_path, "gate"):
        told(acting)
    assert [line["point"] for line in failpoints.fired(tmp_path)] == ["calls.taken"]
    assert log.keys == ["agent/2"]
    assert "of 1 records some could not be appended to chimera.calls" in caplog.text


def test_calls_wait_for_room_while_the_broker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calllog, "MOST_WAITING", 3)
    log = Log()

    async def looking() -> None:
        calls = CallLog(log.append_many)
        log.open.clear()
        acting = asyncio.create_task(calls.put(call(0), wait=True))
        assert await asyncio.to_thread(log.asked.wait, PATIENCE_S)
        for n in (1, 2, 3):
            await calls.put(call(n), wait=False)
        fourth = asyncio.create_task(calls.put(call(4), wait=False))
        await asyncio.sleep(0)
        assert not fourth.done()
        assert calls.waiting == 3
        log.open.set()
        await fourth
        await acting
        await calls.close()

    told(looking)
    assert log.keys == [f"agent/{n}" for n in range(5)]
