"""The media store: what stands under a hash has that hash, or nobody is given it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chimera.media.store import Asset, Damage, MediaError, MediaStore, named

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20_000
MP4 = b"\x00\x00\x00\x18ftypisom" + b"film" * 300


async def stream(body: bytes, piece: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(body), piece):
        yield body[at : at + piece]


def test_what_comes_in_as_a_stream_is_named_by_its_hash_and_comes_out_the_same(tmp_path: Path) -> None:
    async def story() -> None:
        store = MediaStore(tmp_path)
        asset = await store.put(stream(PNG, 7_001))
        assert asset == Asset(hashlib.sha256(PNG).hexdigest(), "png", len(PNG))
        assert (asset.kind, asset.media_type) == ("image", "image/png")
        assert await store.get(asset) == PNG
        assert await MediaStore(tmp_path).has(asset)
        assert await store.put(stream(PNG)) == asset, "the same bytes again are the same asset"
        film = await store.put(stream(MP4))
        assert (film.extension, film.kind) == ("mp4", "video")
        assert set(store.assets()) == {asset, film}
        assert await store.verify() == (2, [])
        assert not list((tmp_path / "arriving").iterdir())

    asyncio.run(story())


def test_a_damaged_file_is_given_to_nobody_and_named_by_verify(tmp_path: Path) -> None:
    async def story() -> None:
        store = MediaStore(tmp_path)
        asset = await store.put(stream(PNG))
        path = tmp_path / "sha256" / asset.sha256[:2] / asset.name
        path.write_bytes(PNG[:-1] + b"x")
        with pytest.raises(MediaError, match="damaged"):
            await store.get(asset)
        sound, damaged = await store.verify()
        assert (sound, [type(each) for each in damaged], damaged[0].name) == (0, [Damage], asset.name)
        path.unlink()
        with pytest.raises(MediaError, match="never collected"):
            await store.get(asset)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("body", "largest", "says"),
    [
        (b"<html>", 1 << 20, "neither PNG"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 1 << 20, "neither PNG"),
        (b"", 9, "neither"),
        (PNG, 9999, "more than"),
    ],
)
def test_what_is_no_media_or_too_long_leaves_nothing_behind(body: bytes, largest: int, says: str, tmp_path: Path) -> None:
    async def story() -> None:
        store = MediaStore(tmp_path)
        with pytest.raises(MediaError, match=says):
            await store.put(stream(body), largest=largest)
        assert list(store.assets()) == []

    asyncio.run(story())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_stream_that_breaks_leaves_nothing_behind(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield PNG[:1000]
        raise ConnectionError("gone")

    async def story() -> None:
        with pytest.raises(ConnectionError):
            await MediaStore(tmp_path).put(broken())

    asyncio.run(story())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_job_keeps_its_first_receipt(tmp_path: Path) -> None:
    async def story() -> None:
        store = MediaStore(tmp_path)
        first, second = await store.put(stream(PNG)), await store.put(stream(MP4))
        assert await store.received("../../job") == []
        assert await store.receive("../../job", [first]) == [first]
        assert await store.receive("../../job", [second]) == [first]
        assert await MediaStore(tmp_path).received("../../job") == [first]

    asyncio.run(story())


def test_only_a_hash_with_a_known_extension_names_an_asset() -> None:
    digest = "ab" * 32
    assert named(f"{digest}.png") == (digest, "png")
    assert [named(name) for name in ("x.png", f"{digest}.exe", f"{digest}", f"../{digest}.png", f"{digest.upper()}.png")] == [
        None
    ] * 5
