"""Open pages are told of changes, in bounded number and for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from starlette.requests import Request

from chimera.control import live
from chimera.control.limits import TooOften
from chimera.control.live import Live

NOBODY = cast(Request, None)


def stream(desk: Live, token: str) -> AsyncIterator[dict[str, str]]:
    return cast(Any, desk.answer(NOBODY, token)).body_iterator


async def opened(desk: Live, token: str) -> AsyncIterator[dict[str, str]]:
    """A page that listens."""
    lines = stream(desk, token)
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    desk.tell("queue", [token])
    assert (await first)["event"] == "queue"
    return lines


def test_a_login_has_so_many_pages_open_and_no_more_while_others_still_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_OF_ONE", 2)
    monkeypatch.setattr(live, "MOST", 3)

    async def pages() -> None:
        desk = Live(cast(Any, None))
        kept = [await opened(desk, "kim"), await opened(desk, "kim")]
        with pytest.raises(TooOften):
            stream(desk, "kim")
        kept.append(await opened(desk, "lee"))
        with pytest.raises(TooOften):
            stream(desk, "ada")
        await cast(Any, kept[0]).aclose()
        await opened(desk, "ada")

    asyncio.run(pages())


def test_a_stream_ends_by_itself_so_that_a_login_that_is_over_hears_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STREAM_S", 0.05)

    async def page() -> list[dict[str, str]]:
        return [line async for line in stream(Live(cast(Any, None)), "kim")]

    assert asyncio.run(page()) == []


def test_read_models_that_are_not_there_yet_leave_the_desk_live_once_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_S", 0.001)
    asked = iter(range(1_000_000))

    async def mark(connection: object) -> str:
        if next(asked) == 0:
            raise psycopg.errors.UndefinedTable("no analytics_v1.reviews")
        return "a card came"

    monkeypatch.setattr(live, "mark", mark)

    async def page() -> dict[str, str]:
        desk = Live(cast(Any, SimpleNamespace(connection=lambda: nullcontext())))
        lines = stream(desk, "kim")
        first = asyncio.ensure_future(anext(lines))
        desk.start()
        try:
            return await asyncio.wait_for(first, 20)
        finally:
            await desk.stop()

    assert asyncio.run(page())["event"] == "queue"
