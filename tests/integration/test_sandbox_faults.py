"""Every fault on every sandbox, through the gate: no more is said than is known, and nothing is made twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mcp.server import Server

from chimera.mcp import connections
from chimera.mcp.gate import Gate
from chimera.mcp.places import SANDBOX_MEDIA, address_of
from chimera.mcp.profiles import Rendered, load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox import ads, chain, feeds, ideogram, instagram, luma, midjourney, runway, search, studio, wallet, x
from chimera.mcp.sandbox.art import picture
from chimera.mcp.sandbox.audience import Audience
from chimera.mcp.sandbox.faults import KINDS, FaultBook, Faults, Wish, Words
from chimera.mcp.sandbox.gram import Gram
from chimera.mcp.sandbox.jobs import JobBook
from chimera.mcp.sandbox.timeline import Timeline
from chimera.mcp.sandbox.vendor import Vendor
from chimera.mcp.sandbox.writer import server as writer
from chimera.media.store import Asset, MediaStore
from tests.clock import Clock
from tests.integration.test_writer_server import ANGLES

PROFILES = load_profiles()
PNG = picture("a boat", longest=64)
FEED = '<rss version="2.0"><channel><title>T</title><item><guid>1</guid><title>One</title></item></channel></rss>'
BASE = "https://studio.invalid"
PAYEE = "0x" + "22" * 20


@dataclass
class Place:
    """One foreign server in this process, a call that succeeds in good weather, and how often it was done."""

    vendor: Vendor | Served
    call: Rendered
    done: Callable[[], int]
    fetch: Callable[[str, str | None], AsyncIterator[bytes]] | None = None
    submits: bool = False


def asset_in(home: Path) -> Asset:
    async def put() -> Asset:
        async def chunks() -> AsyncIterator[bytes]:
            yield PNG

        return await MediaStore(home / "media").put(chunks())

    return asyncio.run(put())


def studio_place(name: str, home: Path, clock: Clock, takes_s: float = 0.0) -> Place:
    book = JobBook(home / "mcp" / name, clock, takes_s)
    module: Any = {"ideogram": ideogram, "midjourney": midjourney, "runway": runway, "luma": luma}[name]
    vendor: Vendor = module.vendor(book)
    vendor.base = BASE
    capability = "image.generate" if name in ("ideogram", "midjourney") else "video.generate"
    inputs = {"prompt": "a boat in the harbour", "aspect": "16:9"}
    if capability == "video.generate":
        inputs["image_url"] = address_of(SANDBOX_MEDIA, asset_in(home))
    call = PROFILES.render(capability, inputs, platform=name)

    def fetch(url: str, origin: str | None) -> AsyncIterator[bytes]:
        return studio.opened(book, module.render, url)

    return Place(vendor, call, lambda: len(book.jobs()), None if name == "ideogram" else fetch, takes_s > 0)


def instagram_place(home: Path, clock: Clock) -> Place:
    gram = Gram(home / "mcp" / "instagram", clock)
    url = address_of(SANDBOX_MEDIA, asset_in(home))
    call = PROFILES.render(
        "social.publish", {"text": "A boat.", "image_url": url, "disclosure_level": "none"}, platform="instagram"
    )
    return Place(instagram.vendor(gram, MediaStore(home / "media"), Audience(gram.directory)), call, lambda: len(gram.posts()))


def search_place(name: str, home: Path) -> Place:
    index = search.Index(home / "mcp" / name, [Path("examples/feeds")])
    vendor = search.brave(index) if name == "brave" else search.tavily(index)
    return Place(vendor, PROFILES.render("search.web", {"query": "harbour market soup"}, platform=name), lambda: 0)


def wallet_place(home: Path, clock: Clock) -> Place:
    ledger = chain.Chain(home / "mcp" / "wallet", clock)
    ledger.wallet("ava")  # given its first money here: a call is then one transaction, and soon done
    inputs = {"amount": "5", "token": ledger.token, "to": PAYEE}
    call = PROFILES.render("wallet.transfer", inputs)
    return Place(wallet.vendor(ledger), call, lambda: int(ledger.token_balance(ledger.token, PAYEE)) // 5, submits=True)


@dataclass
class Served:
    """A sandbox that is served by itself."""

    words: Words
    server: Callable[[Faults], Server[Any]]


def ads_place(home: Path, clock: Clock) -> Place:
    book = ads.OrderBook(home / "mcp" / "ads", clock)
    call = PROFILES.render("ads.boost", {"post_id": "7", "tier": "small", "days": 1})
    served = Served(ads.WORDS, lambda faults: ads.AdsSandbox(book, faults).server())
    return Place(served, call, lambda: int(book.charged_usd() / 5))


def x_place(home: Path, clock: Clock, shows: bool) -> Place:
    timeline = Timeline(home / "mcp" / "x", clock)
    inputs = {"text": "a word", "disclosure_level": "automated"}
    inputs |= {"image_url": address_of(SANDBOX_MEDIA, asset_in(home))} if shows else {}
    call = PROFILES.render("social.publish", inputs, platform="x")
    return Place(Served(x.WORDS, lambda faults: x.XSandbox(timeline, faults).server()), call, lambda: len(timeline.posts()))


def feeds_place(home: Path) -> Place:
    root = home / "mcp" / "feeds"
    root.mkdir(parents=True)
    (root / "feed.xml").write_text(FEED)
    call = PROFILES.render("feeds.read", {"source": str(root / "feed.xml")})
    return Place(Served(feeds.WORDS, lambda faults: feeds.FeedReader([root], faults=faults).server()), call, lambda: 0)


def writer_place() -> Place:
    call = PROFILES.render("text.complete", {"purpose": "angles", "request": ANGLES.model_dump(mode="json")})
    served = Served(writer.WORDS, lambda faults: writer.writer_server(writer.answer_offline, "offline", faults))
    return Place(served, call, lambda: 0)


def place_of(name: str, home: Path, clock: Clock) -> Place:
    if name.startswith("x"):
        return x_place(home, clock, name == "x shows")
    if name == "feeds":
        return feeds_place(home)
    if name == "writer":
        return writer_place()
    if name == "wallet":
        return wallet_place(home, clock)
    if name == "ads":
        return ads_place(home, clock)
    if name == "instagram":
        return instagram_place(home, clock)
    if name in ("brave", "tavily"):
        return search_place(name, home)
    studio_name, _, slow = name.partition(" ")
    return studio_place(studio_name, home, clock, 5.0 if slow else 0.0)


PLACES = (
    "x",
    "x shows",
    "feeds",
    "writer",
    "ideogram",
    "midjourney waits",
    "runway waits",
    "luma waits",
    "instagram",
    "brave",
    "tavily",
    "wallet",
    "ads",
)
"""A profile each, and how it is asked where there are two ways."""
PATIENCE_S = {"x shows": 4.0, "wallet": 2.0}
"""How long a call that hangs is waited for where what comes before the hanging takes its time on a busy machine."""
READS = ("feeds", "writer", "brave", "tavily")
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


async def twice(place: Place, name: str, home: Path, book: FaultBook, patience_s: float) -> tuple[list[Outcome], int]:
    """The same call with the same key again, as the executor makes it; and what was done after the first."""
    records: list[ToolCallRecord] = []

    async def on_call(record: ToolCallRecord) -> None:
        records.append(record)

    server = place.vendor.server(Faults(book, place.vendor.words))
    more: dict[str, Any] = {} if place.fetch is None else {"fetch": place.fetch}
    async with Gate(PROFILES, {f"{name}_url": server}, on_call=on_call, home=home, **more) as gate:

        async def send(timeout_s: float) -> Outcome:
            call = replace(place.call, timeout_s=timeout_s)
            return await gate.send(call, agent="a", tenant="t", account="ava", idempotency_key="k")

        first = await send(patience_s)
        done = place.done()
        second = await send(20.0)
    told = [record.result_class for record in records if record.tool == place.call.tool]
    assert told == [first.result, second.result]
    return [first, second], done


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("kind", OUTCOMES)
def test_the_gate_says_of_a_fault_what_is_known_and_no_more(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "RELIST_S", 0.0)
    book = FaultBook(None)
    place = place_of(name, tmp_path, Clock())
    book.ask(Wish(kind, place.call.tool, 1, 1.0, 0.02 if kind == "slow" else 0.0))
    vendor = name.split()[0]
    patience_s = PATIENCE_S.get(name, 0.3) if kind.startswith("hang") else 20.0
    said, done = asyncio.run(asyncio.wait_for(twice(place, vendor, tmp_path, book, patience_s), 60))
    result, wrote = OUTCOMES[kind]
    good = "submitted" if place.submits else "ok"
    reads = vendor in READS
    assert said[0].result == (good if result == "ok" else result), said[0]
    assert (said[0].reason == "schema_drift") == (kind == "drift")
    assert done == (0 if reads else wrote)
    assert said[1].result == good, said[1]
    assert place.done() == (0 if reads else 1), "the same key makes it no second time"
    assert book.left() == []
    if vendor == "ideogram":
        assert said[1].assets[0].kind == "image"
    if good == "submitted":
        assert said[1].handle
    if said[0].result in ("refused", "not_sent"):
        assert said[0].cost_usd == Decimal(0)


def test_every_profile_is_tried_against_every_kind() -> None:
    no_platform = {"embeddings"}  # stands before an endpoint, whose faults are in test_memory_endpoint.py
    assert {name.split()[0] for name in PLACES} == set(PROFILES.by_name) - no_platform
    # These kill a process: test_mcp_x_sandbox.py, test_vendors_served.py.
    assert set(OUTCOMES) == set(KINDS) - {"die", "die_after_write"}
