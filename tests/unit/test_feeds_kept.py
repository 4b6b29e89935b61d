"""A site is asked for its feed once a minute, however many agents read it."""

from __future__ import annotations

import asyncio

from chimera.mcp.sandbox.feeds import KEEP_S, Kept
from tests.clock import Clock


class Site:
    """Counts what is asked of it; says no for as long as it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False
        self.answering = asyncio.Event()
        self.answering.set()

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        await self.answering.wait()
        if self.away:
            raise ConnectionError(url)
        return f"{url} {len(self.asked)}".encode()


def test_readers_at_once_and_within_a_minute_share_one_answer() -> None:
    async def go() -> None:
        site, clock = Site(), Clock(0)
        kept = Kept(site, clock)
        site.answering.clear()
        readers = [asyncio.create_task(kept.get("a")) for _ in range(50)]
        await asyncio.sleep(0)
        readers[0].cancel()  # one that gives up takes the answer from nobody
        site.answering.set()
        answers = await asyncio.gather(*readers[1:])
        assert set(answers) == {b"a 1"}
        clock.now = KEEP_S - 1
        assert await kept.get("a") == b"a 1"
        assert await kept.get("b") == b"b 2"
        clock.now = KEEP_S + 1
        assert await kept.get("a") == b"a 3"

    asyncio.run(go())


def test_a_failure_is_told_to_all_who_waited_and_asked_anew_by_the_next() -> None:
    async def go() -> None:
        site = Site()
        kept = Kept(site, Clock(0))
        site.away = True
        said = await asyncio.gather(*(kept.get("a") for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in said] == [ConnectionError] * 3
        site.away = False
        assert await kept.get("a") == b"a 2"
        assert site.asked == ["a", "a"]

    asyncio.run(go())


def test_no_more_than_a_few_answers_are_kept() -> None:
    async def go() -> None:
        site = Site()
        kept = Kept(site, Clock(0))
        for n in range(100):
            await kept.get(str(n))
        await kept.get("99")
        assert len(site.asked) == 100
        await kept.get("0")  # long gone
        assert site.asked[-1] == "0"

    asyncio.run(go())
