"""Every fault on every sandbox server, through the gate: what it says was never more than is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mcp.server import Server

from chimera.mcp import connections
from chimera.mcp.gate import Gate
from chimera.mcp.profiles import Rendered, load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox import feeds, x
from chimera.mcp.sandbox.faults import KINDS, FaultBook, Faults, Wish
from chimera.mcp.sandbox.feeds import FeedReader
from chimera.mcp.sandbox.timeline import Timeline
from chimera.mcp.sandbox.writer import server as writer
from chimera.mcp.sandbox.x import XSandbox
from tests.integration.test_writer_server import ANGLES

PROFILES = load_profiles(names=["x", "feeds", "writer"])
FEED = '<rss version="2.0"><channel><title>T</title><item><guid>1</guid><title>One</title></item></channel></rss>'


class Place(NamedTuple):
    """One server in bad weather, a call that would succeed in good weather, and what the platform has afterwards."""

    setting: str
    server: Server[Any]
    call: Rendered
    written: Callable[[], int]


def x_place(home: Path, book: FaultBook) -> Place:
    timeline = Timeline(home / "x")
    call = PROFILES.render("social.publish", {"text": "a word", "disclosure_level": "automated"}, platform="x")
    server = XSandbox(timeline, Faults(book, x.WORDS)).server()
    return Place("x_url", server, call, lambda: len(timeline.posts()))


def feeds_place(home: Path, book: FaultBook) -> Place:
    root = home / "mcp" / "feeds"
    root.mkdir(parents=True)
    (root / "feed.xml").write_text(FEED)
    call = PROFILES.render("feeds.read", {"source": str(root / "feed.xml")})
    return Place("feeds_url", FeedReader([root], faults=Faults(book, feeds.WORDS)).server(), call, lambda: 0)


def writer_place(home: Path, book: FaultBook) -> Place:
    inputs = {"purpose": "angles", "request": ANGLES.model_dump(mode="json")}
    call = PROFILES.render("text.complete", inputs)
    server = writer.writer_server(writer.answer_offline, "offline", Faults(book, writer.WORDS))
    return Place("writer_url", server, call, lambda: 0)


PLACES = {"x": x_place, "feeds": feeds_place, "writer": writer_place}
OUTCOMES = {
    "429": ("not_sent", 0),
    "503": ("unknown", 0),
    "503_after_write": ("unknown", 1),
    "hang": ("unknown", 0),
    "hang_after_write": ("unknown", 1),
    "nonsense": ("unknown", 0),
    "nonsense_after_write": ("unknown", 1),
    "error_as_success": ("refused", 0),
    "success_as_error": ("unknown", 1),
    "drift": ("not_sent", 0),
    "slow": ("ok", 1),
}
"""What the gate must say, and what X must have written. `die` kills a process: tests/integration/test_mcp_x_sandbox.py."""


def test_every_kind_of_fault_is_tried() -> None:
    assert set(OUTCOMES) == set(KINDS) - {"die", "die_after_write"}


@pytest.mark.parametrize("server", PLACES)
@pytest.mark.parametrize("kind", OUTCOMES)
def test_the_gate_says_of_a_fault_what_is_known_and_no_more(
    kind: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "RELIST_S", 0.0)
    book = FaultBook(None)
    book.ask(Wish(kind, None, 1, 1.0, 0.05 if kind == "slow" else 0.0))
    place = PLACES[server](tmp_path, book)
    said, written = asyncio.run(asyncio.wait_for(twice(place, tmp_path, 1.0 if kind.startswith("hang") else 10.0), 30))
    result, wrote = OUTCOMES[kind]
    assert said[0].result == result, said[0]
    assert (said[0].reason == "schema_drift") == (kind == "drift")
    assert written == (wrote if server == "x" else 0)
    assert said[1].result == "ok", "the weather is fine again, and the same key finds what was written"
    assert place.written() == (1 if server == "x" else 0)
    assert book.left() == []


async def twice(place: Place, home: Path, patience_s: float) -> tuple[list[Outcome], int]:
    """The same call with the same key again, as the executor makes it; and what was written after the first."""

    async def on_call(_: ToolCallRecord) -> None:
        return None

    async with Gate(PROFILES, {place.setting: place.server}, on_call=on_call, home=home) as gate:

        async def send(timeout_s: float) -> Outcome:
            call = replace(place.call, timeout_s=timeout_s)
            return await gate.send(call, agent="a", tenant="t", account="ava", idempotency_key="k")

        first = await send(patience_s)
        written = place.written()
        return [first, await send(10.0)], written
