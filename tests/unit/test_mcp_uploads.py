"""Files that go up before the call that shows them: exactly the approved bytes, and nothing shown where one is not there."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chimera.mcp.gate import Gate
from chimera.mcp.places import SANDBOX_MEDIA, address_of
from chimera.mcp.profiles import Profiles, Rendered, load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox import x
from chimera.mcp.sandbox.art import film, picture
from chimera.mcp.sandbox.faults import FaultBook, Faults, Wish
from chimera.mcp.sandbox.timeline import PlatformRefused, Timeline
from chimera.mcp.sandbox.x_media import LIVES_S, XMedia
from chimera.media.store import Asset

PROFILES = load_profiles(names=["x"])


class Studio:
    """An X sandbox in this process, a media store with a picture and a film, and gates that come and go."""

    def __init__(self, home: Path, profiles: Profiles = PROFILES, film_takes_s: float = 0.0) -> None:
        self.home, self.profiles, self.now = home, profiles, 1_800_000_000.0
        self.timeline = Timeline(home / "mcp" / "x", lambda: self.now)
        self.media = XMedia(home / "mcp" / "x", lambda: self.now, film_takes_s)
        self.weather = FaultBook(None)
        sandbox = x.XSandbox(self.timeline, Faults(self.weather, x.WORDS), media=self.media)
        self.server = sandbox.server()
        self.records: list[ToolCallRecord] = []
        self.open_gate()

    def open_gate(self, **more: Any) -> None:
        async def on_call(record: ToolCallRecord) -> None:
            self.records.append(record)

        self.gate = Gate(self.profiles, {"x_url": self.server}, on_call=on_call, home=self.home, **more)

    async def keep(self, body: bytes) -> Asset:
        async def whole() -> AsyncIterator[bytes]:
            yield body

        return await self.gate.files.store.put(whole())

    async def send(self, call: Rendered, key: str = "k") -> Outcome:
        return await self.gate.send(call, agent="a", tenant="t", account="ava", idempotency_key=key)

    def tools(self) -> list[str]:
        return [record.tool for record in self.records]


def showing(asset: Asset, text: str = "Soup in season.") -> Rendered:
    inputs = {"text": text, f"{asset.kind}_url": address_of(SANDBOX_MEDIA, asset), "disclosure_level": "automated"}
    return PROFILES.render("social.publish", inputs, platform="x")


def run(studio: Studio, story: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        async with asyncio.timeout(60):
            await story()
        await studio.gate.close()

    asyncio.run(go())


def test_exactly_the_approved_bytes_go_up_in_pieces_and_the_post_shows_them(tmp_path: Path) -> None:
    profile = PROFILES.by_name["x"]
    capabilities = dict(profile.spec.capabilities)
    publish = capabilities["social.publish"]
    assert publish.uploads is not None
    small = publish.uploads.model_copy(update={"piece_bytes": 1000})
    capabilities["social.publish"] = publish.model_copy(update={"uploads": small})
    spec = profile.spec.model_copy(update={"capabilities": capabilities})
    studio = Studio(tmp_path, replace(PROFILES, by_name={"x": replace(profile, spec=spec)}))

    async def story() -> None:
        asset = await studio.keep(picture("a boat", "1:1", 1, 128))
        outcome = await studio.send(showing(asset))
        assert outcome.result == "ok", outcome
        (post,) = studio.timeline.posts("ava")
        assert post.extra["assets"] == [asset.name]
        assert await studio.media.store.get(asset) == await studio.gate.files.store.get(asset)
        pieces = -(-asset.size // 1000)
        assert pieces > 1
        steps = ["initializeMediaUpload", *["appendMediaUpload"] * pieces, "finalizeMediaUpload", "createPosts"]
        assert studio.tools() == steps
        assert {record.correlation for record in studio.records} == {None}
        shown = studio.records[-1]
        assert shown.arguments_sha256 == showing(asset).arguments_sha256, "the record is of what was approved"

    run(studio, story)


def test_a_film_is_waited_for_and_its_id_kept_for_the_next_try(tmp_path: Path) -> None:
    studio = Studio(tmp_path, film_takes_s=3600.0)

    async def story() -> None:
        asset = await studio.keep(film("a boat", 1))
        call = replace(showing(asset), timeout_s=3.0)
        outcome = await studio.send(call)
        assert (outcome.result, outcome.reason) == ("not_sent", "not_uploaded"), outcome
        assert studio.timeline.posts("ava") == []
        studio.now += 3600
        studio.records.clear()
        assert (await studio.send(call)).result == "ok"
        assert studio.tools() == ["getMediaUploadStatus", "createPosts"], "the bytes went up once"

    run(studio, story)


@pytest.mark.parametrize("tool", ["initializeMediaUpload", "appendMediaUpload", "finalizeMediaUpload"])
@pytest.mark.parametrize("kind", ["429", "503", "503_after_write", "nonsense", "error_as_success", "success_as_error"])
def test_whatever_goes_wrong_on_the_way_up_nothing_is_shown_and_the_next_try_shows_it_once(
    tool: str, kind: str, tmp_path: Path
) -> None:
    studio = Studio(tmp_path)

    async def story() -> None:
        asset = await studio.keep(picture("a boat", "1:1", 1, 64))
        studio.weather.ask(Wish(kind, tool))
        outcome = await studio.send(showing(asset))
        assert (outcome.result, outcome.reason) == ("not_sent", "not_uploaded"), outcome
        assert studio.timeline.posts("ava") == []
        assert (await studio.send(showing(asset))).result == "ok"
        assert len(studio.timeline.posts("ava")) == 1

    run(studio, story)


def test_a_post_whose_answer_was_lost_is_not_made_again_by_a_gate_that_sends_the_file_anew(tmp_path: Path) -> None:
    studio = Studio(tmp_path)

    async def story() -> None:
        asset = await studio.keep(picture("a boat", "1:1", 1, 64))
        studio.weather.ask(Wish("503_after_write", "createPosts"))
        assert (await studio.send(showing(asset))).result == "unknown"
        await studio.gate.close()
        studio.open_gate()
        again = await studio.send(showing(asset))
        assert again.result == "ok", again
        assert len(studio.timeline.posts("ava")) == 1

    run(studio, story)


def test_what_is_no_file_of_the_store_never_goes_up(tmp_path: Path) -> None:
    studio = Studio(tmp_path)

    async def story() -> None:
        asset = await studio.keep(picture("a boat", "1:1", 1, 64))
        call = showing(asset)
        absent = address_of(SANDBOX_MEDIA, Asset("a" * 64, "png", 0))
        for place in ("17", absent, "https://evil.example/a.png", "file:///etc/passwd"):
            wrong = replace(call, arguments={**call.arguments, "media": {"media_ids": [place]}})
            outcome = await studio.send(wrong)
            assert (outcome.result, outcome.reason) == ("refused", "egress"), (place, outcome)
        await studio.send(
            replace(call, arguments={**call.arguments, "media": {"media_ids": [call.arguments["media"]["media_ids"][0], 7]}})
        )
        assert studio.timeline.posts() == []
        assert set(studio.tools()) == {"createPosts"}, "nothing went up"

    run(studio, story)


def test_bytes_that_were_changed_in_the_store_do_not_go_up(tmp_path: Path) -> None:
    studio = Studio(tmp_path)

    async def story() -> None:
        asset = await studio.keep(picture("a boat", "1:1", 1, 64))
        (tmp_path / "media" / "sha256" / asset.name[:2] / asset.name).write_bytes(picture("another boat", "1:1", 2, 64))
        outcome = await studio.send(showing(asset))
        assert (outcome.result, outcome.reason) == ("not_sent", "not_uploaded")
        assert "damaged" in outcome.detail
        assert studio.timeline.posts() == []

    run(studio, story)


def test_a_closed_switch_lets_nothing_go_up(tmp_path: Path) -> None:
    studio = Studio(tmp_path)

    async def shut(_: object) -> str | None:
        return "switch:fleet"

    async def story() -> None:
        asset = await studio.keep(picture("a boat", "1:1", 1, 64))
        studio.open_gate(switch=shut)
        assert (await studio.send(showing(asset))).reason == "switch:fleet"
        assert set(studio.tools()) == {"createPosts"}

    run(studio, story)


def test_x_takes_only_what_is_whole_of_the_type_that_was_said_and_the_account_s_own(tmp_path: Path) -> None:
    media = XMedia(tmp_path, lambda: now[0])
    now = [1_800_000_000.0]
    body = picture("a boat", "1:1", 1, 64)

    def up(kind: str = "image/png", total: int = len(body), pieces: tuple[int, ...] = (0,)) -> str:
        asked = {"media_type": kind, "total_bytes": total, "media_category": "tweet_image"}
        made = str(media.act("initializeMediaUpload", asked, "ava")["data"]["id"])
        for number in pieces:
            piece = {"id": made, "segment_index": number, "media": base64.b64encode(body).decode()}
            media.act("appendMediaUpload", piece, "ava")
        media.act("finalizeMediaUpload", {"id": made}, "ava")
        return made

    whole = up()
    assert media.assets("ava", [whole])[0].endswith(".png")
    for wrong, said in (
        ({"kind": "image/jpeg"}, "is image/png"),
        ({"total": len(body) + 1}, "bytes are here"),
        ({"pieces": (1,)}, "bytes are here"),
        ({"kind": "video/mp4"}, "does not go with"),
        ({"total": 6 * 1024 * 1024}, "exceeds"),
    ):
        with pytest.raises(PlatformRefused, match=said):
            up(**wrong)
    with pytest.raises(PlatformRefused, match="invalid"):
        media.assets("ben", [whole])
    with pytest.raises(PlatformRefused, match="no media upload"):
        media.act("finalizeMediaUpload", {"id": whole}, "ben")
    now[0] += LIVES_S + 1
    with pytest.raises(PlatformRefused, match="invalid"):
        media.assets("ava", [whole])
    media.close()
