"""The sandboxes of foreign servers as one process over HTTP: each at its address, killed and back, files fetched by the guard."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chimera.mcp.gate import Gate
from chimera.mcp.ingest import download
from chimera.mcp.pin import as_text, live_pins
from chimera.mcp.pins import pins_path
from chimera.mcp.places import SANDBOX_MEDIA, address_of
from chimera.mcp.profiles import PROFILES_DIR, load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox.faults import FaultBook, Wish
from chimera.mcp.sandbox.jobs import JobBook
from chimera.mcp.sandbox.vendors import NAMES
from chimera.settings import Settings
from chimera.stack.children import SERVERS, VENDORS, vendors_of

PROFILES = load_profiles()
MOST_MB = 300
"""Of the 600 MB for all sandboxes; x, feeds and writer take the rest."""


class Vendors:
    """The process, on a port that it keeps."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "chimera.mcp.sandbox.vendors", "--data", str(self.home / "mcp" / "vendors")]
        command += ["--port", str(self.port), "--takes", "0.2"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def gone(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.wait(60)
        self.process.stdout.close()

    def memory_mb(self) -> float:
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    @property
    def addresses(self) -> dict[str, str]:
        return {f"{name}_url": f"http://127.0.0.1:{self.port}/{name}/mcp" for name in NAMES}


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("home"))
    made.start()
    yield made
    assert made.process is not None
    made.process.kill()
    made.gone()


def run(vendors: Vendors, story: Callable[[Gate], Awaitable[None]], **more: Any) -> None:
    async def on_call(record: ToolCallRecord) -> None:
        return None

    async def go() -> None:
        async with Gate(PROFILES, vendors.addresses, on_call=on_call, home=vendors.home, **more) as gate:
            await story(gate)

    asyncio.run(asyncio.wait_for(go(), 120))


async def order(gate: Gate, key: str, platform: str, prompt: str = "a boat", **inputs: str) -> Outcome:
    capability = "video.generate" if inputs else "image.generate"
    call = PROFILES.render(capability, {"prompt": prompt, "aspect": "16:9", **inputs}, platform=platform)
    return await gate.send(call, agent="a", tenant="t", account="ava", idempotency_key=key)


async def collect(gate: Gate, capability: str, platform: str, handle: str | None) -> Outcome:
    """Asked again until the job is done."""
    async with asyncio.timeout(60):
        while True:
            outcome = await gate.call(capability, {"handle": handle}, agent="a", tenant="t", account="ava", platform=platform)
            if outcome.result == "ok":
                return outcome
            assert outcome.result in ("submitted", "unknown"), outcome
            await asyncio.sleep(0.05)


async def until_sent(send: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Sent again while it was provably not sent: what the executor does with an approved effect."""
    async with asyncio.timeout(60):
        while True:
            outcome = await send()
            if outcome.result != "not_sent":
                return outcome
            await asyncio.sleep(0.1)


def test_the_stack_knows_every_sandbox_by_its_name_and_starts_those_that_profiles_use() -> None:
    of_the_gate = {"wallet", "ads"}  # what takes money is started by the gate itself, over stdio, when it is called
    assert set(VENDORS) == set(NAMES) - of_the_gate
    where_wanted = {"embeddings"}  # only where a setting says so: test_memory_endpoint.py
    assert set(SERVERS) == set(PROFILES.by_name) - of_the_gate - where_wanted
    assert vendors_of(Settings(_env_file=None)) == ("ideogram", "runway", "instagram", "brave")
    assert vendors_of(Settings(providers={"image": "midjourney"}, mcp={"brave": "http://x"})) == (
        "midjourney",
        "runway",
        "instagram",
    )


def test_every_vendor_lists_the_pinned_tools_at_its_own_address(vendors: Vendors) -> None:
    for name in NAMES:
        path = PROFILES_DIR / f"{name}.yaml"
        assert as_text(asyncio.run(live_pins(path, vendors.addresses, home=vendors.home))) == pins_path(path).read_text(), name


def test_pictures_and_films_come_by_files_and_by_links_into_the_store(vendors: Vendors) -> None:
    async def story(gate: Gate) -> None:
        for platform in ("ideogram", "midjourney"):
            ordered = await order(gate, f"p-{platform}", platform)
            assert ordered.result == "submitted", ordered
            picture = (await collect(gate, "image.collect", platform, ordered.handle)).assets[0]
            assert (await gate.files.store.get(picture))[:4] == b"\x89PNG"
        url = address_of(SANDBOX_MEDIA, picture)
        for platform in ("runway", "luma"):
            ordered = await order(gate, f"f-{platform}", platform, image_url=url)
            assert ordered.result == "submitted", ordered
            film = (await collect(gate, "video.collect", platform, ordered.handle)).assets[0]
            assert (await gate.files.store.get(film))[4:8] == b"ftyp"

    run(vendors, story)


def test_no_argument_names_a_picture_that_is_not_in_the_store(vendors: Vendors) -> None:
    async def story(gate: Gate) -> None:
        for number, url in enumerate(("https://example.com/a.png", f"{SANDBOX_MEDIA}{'0' * 64}.png", "file:///etc/passwd")):
            refused = await order(gate, f"evil-{number}", "runway", image_url=url)
            assert (refused.result, refused.reason) == ("refused", "egress"), refused

    run(vendors, story)


def test_a_link_leads_to_the_asked_server_or_to_a_public_address_and_nowhere_else(vendors: Vendors) -> None:
    async def fetched(url: str, origin: str | None) -> bytes:
        return b"".join([chunk async for chunk in download(url, origin)])

    own = f"http://127.0.0.1:{vendors.port}"
    assert asyncio.run(fetched(f"{own}/healthz", own)) == b"ok"
    for url in (f"{own}/healthz", "http://169.254.169.254/latest", "file:///etc/passwd"):
        with pytest.raises(Exception, match=r"private or local|not http"):
            asyncio.run(fetched(url, None))
    with pytest.raises(Exception, match="private or local"):
        asyncio.run(fetched(f"http://localhost:{vendors.port + 1}/healthz", own))


@pytest.mark.parametrize(("kind", "jobs"), [("die", 0), ("die_after_write", 1)])
def test_a_studio_killed_in_the_middle_of_an_order_leaves_it_unknown_and_makes_it_once(
    kind: str, jobs: int, vendors: Vendors
) -> None:
    book, key = JobBook(vendors.home / "mcp" / "ideogram"), f"killed-{kind}"

    async def story(gate: Gate) -> None:
        assert (await order(gate, f"warm-{kind}", "ideogram")).result == "submitted"
        before = len(book.jobs())
        FaultBook(vendors.home / "mcp" / "ideogram").ask(Wish(kind, "ideogram_generate"))
        lost = await order(gate, key, "ideogram")
        assert (lost.result, lost.reason) == ("unknown", "connection_lost"), lost
        assert len(book.jobs()) == before + jobs
        await asyncio.to_thread(vendors.gone)
        await asyncio.to_thread(vendors.start)
        again = await until_sent(lambda: order(gate, key, "ideogram"))
        assert again.result in ("submitted", "ok"), again
        assert len(book.jobs()) == before + 1

    run(vendors, story)


def test_a_post_goes_out_once_and_is_to_be_seen_on_the_page(vendors: Vendors) -> None:
    async def story(gate: Gate) -> None:
        ordered = await order(gate, "for-post", "ideogram", "a <b>boat</b>")
        picture = (await collect(gate, "image.collect", "ideogram", ordered.handle)).assets[0]
        inputs = {"text": "A <b>boat</b>.", "image_url": address_of(SANDBOX_MEDIA, picture), "disclosure_level": "none"}
        call = PROFILES.render("social.publish", inputs, platform="instagram")
        first, second = [
            await gate.send(call, agent="a", tenant="t", account="ava", idempotency_key="post") for _ in range(2)
        ]  # fmt: skip
        assert (first.result, first.platform_id) == ("ok", second.platform_id), first
        assert first.url is not None
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(str(first.url)).read().decode())
        assert page.count("A &lt;b&gt;boat") == 1
        who = {"agent": "a", "tenant": "t", "account": "ava"}
        seen = await gate.call("social.metrics", {"id": first.platform_id}, **who, platform="instagram")
        assert seen.result == "ok", seen
        wrong = replace(call, arguments={**call.arguments, "caption": "other"})
        assert (await gate.send(wrong, agent="a", tenant="t", account="ava", idempotency_key="post")).result == "refused"

    run(vendors, story)


def test_all_of_them_together_stay_small(vendors: Vendors) -> None:
    began = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{vendors.port}/healthz") as answer:
        assert answer.read() == b"ok"
    assert time.monotonic() - began < 60
    assert vendors.memory_mb() < MOST_MB
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{vendors.port}/runway/files/none.mp4?expires=1&signature=x")
