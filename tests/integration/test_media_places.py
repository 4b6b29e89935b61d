"""The media store keeps one contract wherever it is: in a directory, in memory, in a bucket of a real S3 server, on a full disk."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore

from chimera.media.place import open_media
from chimera.media.store import Asset, MediaError, MediaStore, path_of
from tests.objectstore import BUCKET, s3_server

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 50_000
MP4 = b"\x00\x00\x00\x18ftypisom" + b"film" * 300
MB = 1024 * 1024


async def stream(body: bytes, piece: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(body), piece):
        yield body[at : at + piece]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server") as environ:
        yield environ


@pytest.fixture(params=["directory", "memory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MediaStore:
    if request.param == "directory":
        return open_media(tmp_path)
    if request.param == "memory":
        return MediaStore(MemoryStore(), "memory")
    for name, value in request.getfixturevalue("bucket").items():
        monkeypatch.setenv(name, value)
    return open_media(tmp_path, f"s3://{BUCKET}/{tmp_path.name}")


def raw(store: MediaStore, asset: Asset, body: bytes) -> None:
    """Put other bytes under an asset's name, past the store."""
    obstore.put(store._store, path_of(asset.name), body)


def test_bytes_come_out_as_they_went_in_whole_and_in_parts(store: MediaStore) -> None:
    async def story() -> None:
        asset = await store.put(stream(PNG, 700_001))
        assert asset == Asset(hashlib.sha256(PNG).hexdigest(), "png", len(PNG))
        assert await store.put(stream(PNG)) == asset
        assert await store.get(asset) == PNG
        assert await store.part(asset, 8, 308) == PNG[8:308]
        assert (await store.size(asset.name), await store.has(asset)) == (len(PNG), True)
        film = await store.put(stream(MP4))
        assert set(store.assets()) == {asset, film}
        assert list(store.left_over()) == []
        assert await store.verify() == (2, [])
        await store.remove(path_of(film.name))
        await store.remove(path_of(film.name))
        assert not await store.has(film)

    asyncio.run(story())


def test_a_flipped_byte_a_cut_and_a_missing_file_are_named_and_given_to_nobody(store: MediaStore) -> None:
    async def story() -> None:
        asset, film = await store.put(stream(PNG)), await store.put(stream(MP4))
        for body in (PNG[:-1] + b"x", PNG[:-1]):
            raw(store, asset, body)
            with pytest.raises(MediaError, match=f"media {asset.name} in .* is damaged: restore it from a copy"):
                await store.get(asset)
            sound, (damage,) = await store.verify()
            assert (sound, damage.name) == (1, asset.name)
        assert await store.put(stream(PNG)) == asset
        assert await store.get(asset) == PNG, "the same bytes put again mend it"
        await store.remove(path_of(film.name))
        with pytest.raises(MediaError, match=f"no media {film.name} in"):
            await store.get(film)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("body", "largest", "says"), [(b"<html>no</html>", MB, "neither PNG"), (PNG, 9 * MB, "more than 9437184 bytes arrived")]
)
def test_what_is_no_media_or_too_long_is_named_and_leaves_nothing(store: MediaStore, body: bytes, largest: int, says: str) -> None:
    async def story() -> None:
        with pytest.raises(MediaError, match=says):
            await store.put(stream(body), largest=largest)
        assert [*store.assets(), *store.left_over()] == []

    asyncio.run(story())


def test_whoever_brings_it_may_break_off_or_be_cancelled_and_nothing_is_half_written(store: MediaStore) -> None:
    went = asyncio.Event()

    async def breaks() -> AsyncIterator[bytes]:
        yield PNG
        raise ConnectionError("gone")

    async def stalls() -> AsyncIterator[bytes]:
        yield PNG
        went.set()
        await asyncio.Event().wait()

    async def story() -> None:
        with pytest.raises(ConnectionError, match="gone"):
            await store.put(breaks())
        task = asyncio.create_task(store.put(stalls()))
        await went.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [*store.assets(), *store.left_over()] == []

    asyncio.run(story())


# --- letting go while somebody writes -------------------------------------------------------------------------------------

LOOKS = ("note_gone", "stamp", "has", "remove", "_noted", "_aside", "_settled")
"""What letting go and putting again ask of the store, one after the other."""


OLD = datetime(2026, 1, 1, tzinfo=UTC)


async def nothing() -> None:
    return None


class Interrupted(MediaStore):
    """A store where something else happens, once, before the n-th thing that is asked of it."""

    def __init__(self, store: MediaStore, n: int, other: Callable[[], Awaitable[object]]) -> None:
        super().__init__(store._store, store.name)
        self.left, self._other = n, other

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in LOOKS:
            return found

        async def asked(*given: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                await self._other()
            if name == "stamp" and self.left >= 0:
                return 0, OLD  # nobody has put it again yet
            return await found(*given)

        return asked


async def put_until_it_is_there(store: MediaStore) -> Asset:
    """What the store did not take is put once more, as a job does it; nobody lets go of what was put a moment ago."""
    try:
        return await store.put(stream(MP4))
    except MediaError as error:
        if "while it was put again" not in str(error):
            raise
        return await store.put(stream(MP4))


async def is_there_whole(store: MediaStore, asset: Asset) -> None:
    assert await store.get(asset) == MP4
    assert list(store.assets()) == [asset]
    assert await store.gone() == {}


def test_a_file_that_comes_at_any_moment_of_being_let_go_is_there_and_whole(store: MediaStore) -> None:
    async def story(n: int) -> bool:
        asset = await store.put(stream(MP4))
        letting = Interrupted(store, n, lambda: put_until_it_is_there(store))
        went = await letting.let_go(asset, OLD, "old")
        if letting.left >= 0:
            assert went, "nobody came"
            return False
        await is_there_whole(store, asset)
        return True

    moments = [asyncio.run(story(n)) for n in range(8)]
    assert 4 <= sum(moments) < 8, "at every moment, and then at none"


def test_a_file_that_is_let_go_at_any_moment_of_coming_is_there_and_whole(store: MediaStore) -> None:
    async def story(n: int) -> None:
        coming = Interrupted(store, n, lambda: Interrupted(store, 99, nothing).let_go(old, OLD, "old"))
        old = await store.put(stream(MP4))
        await is_there_whole(store, await put_until_it_is_there(coming))

    for n in range(4):
        asyncio.run(story(n))


def test_what_is_put_again_stays_and_whoever_died_while_letting_go_left_nothing_lost(store: MediaStore) -> None:
    async def story() -> None:
        asset = await store.put(stream(MP4))
        stamp = await store.stamp(asset.name)
        assert stamp is not None
        assert not await store.let_go(asset, stamp[1] - timedelta(days=9), "old"), "it was put again since"
        assert (await store.has(asset), await store.gone()) == (True, {})
        aside = f"aside/{asset.name}"
        await obstore.rename_async(store._store, path_of(asset.name), aside)  # killed there, and the note is taken away
        await store.settle()
        assert await store.get(asset) == MP4
        await store.note_gone(asset, "old")
        await obstore.rename_async(store._store, path_of(asset.name), aside)  # killed there, and nobody wants it
        await store.settle()
        assert (list(store.assets()), await store.gone()) == ([], {asset.sha256: "old"})

    asyncio.run(story())


def test_a_job_keeps_its_first_receipt(store: MediaStore) -> None:
    async def story() -> None:
        first, second = await store.put(stream(PNG)), await store.put(stream(MP4))
        assert await store.received("job") == []
        assert await store.receive("job", [first]) == [first]
        assert await store.receive("job", [second]) == [first]
        assert await store.received("job") == [first]

    asyncio.run(story())


def test_a_bucket_that_does_not_answer_or_refuses_is_named(bucket: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (bucket | {"AWS_SECRET_ACCESS_KEY": "wrong"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MediaError, match="the media store s3://auditors/x did not take a file in") as refused:
        asyncio.run(open_media(Path(), "s3://auditors/x").put(stream(PNG)))
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("where", ["s3://", "s3://kim:secret@bucket/x", "ftp://a/b", "s3://b/x?y=1"])
def test_an_address_that_is_none_is_refused_without_what_may_be_a_password(where: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"is no place for media: write s3://bucket/prefix") as refused:
        open_media(tmp_path, where)
    assert "secret" not in str(refused.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    with ExitStack() as closing:
        closing.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
        yield place


def test_a_full_disk_is_named_and_holds_no_half_file(small_disk: Path) -> None:
    async def story() -> None:
        store = MediaStore(small_disk)
        kept = await store.put(stream(MP4))
        with pytest.raises(MediaError, match=r"No space left on device.*make room there"):
            await store.put(stream(PNG))
        assert list(store.assets()) == [kept]
        assert list(store.left_over()) == []

    asyncio.run(story())


_PEAK = """
import asyncio, resource, sys
from pathlib import Path
from chimera.media.store import MediaStore
head, piece = bytes.fromhex("89504e470d0a1a0a0000000000000000"), bytes(1 << 20)
async def megabytes(n):
    yield head
    for _ in range(n):
        yield piece
async def run(n):
    store = MediaStore(Path(sys.argv[1]))
    asset = await store.put(megabytes(n), largest=1 << 40)
    async for _ in store.chunks(asset):
        pass
    await store.remove(f"sha256/{asset.name[:2]}/{asset.name}")
asyncio.run(run(int(sys.argv[2])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_is_flat_in_the_length_of_a_file(tmp_path: Path) -> None:
    small, large = (
        int(subprocess.run([sys.executable, "-c", _PEAK, str(tmp_path), str(n)], check=True, capture_output=True).stdout)
        for n in (8, 256)
    )
    assert large - small < 64 * 1024, (small, large)
