"""The media store: content-addressed files in a directory or a bucket, and receipts that say which job brought which of them.

The rule not to break: bytes get their name when all of them are here and hashed; a reader is given only what still has that hash.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import obstore
import orjson
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore

from chimera.ending import end_in_order
from chimera.errors import ChimeraError

Kind = Literal["image", "video"]

LARGEST = 512 * 1024 * 1024
"""Bytes; what is longer is refused while it comes in."""
CHUNK = 1024 * 1024
PIECE = 8 * 1024 * 1024
"""Bytes that go to a bucket at once."""
ARRIVING = "arriving"
"""Where files are until they have a name; what is old there came from a process that was killed."""
GONE = "gone"
"""Notes of what was let go."""
ASIDE = "aside"
"""Where a file is for the moment in which it is let go."""
HEAD = 16
SAME_TIME = timedelta(seconds=2)
"""Stores tell the same time to the second or finer, as they are asked."""
_KINDS: tuple[tuple[int, bytes, str, Kind], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png", "image"),
    (0, b"\xff\xd8\xff", "jpg", "image"),
    (8, b"WEBP", "webp", "image"),
    (4, b"ftyp", "mp4", "video"),
    (0, b"\x1aE\xdf\xa3", "webm", "video"),
)
"""(place, bytes there, extension, kind): a file is what its first bytes say, whatever its sender called it."""
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "mp4": "video/mp4", "webm": "video/webm"}


class MediaError(ChimeraError):
    """Media that cannot be kept or given out; the text names it and the way out."""


@dataclass(frozen=True)
class Asset:
    """One file: its SHA-256 (hex), its extension by its first bytes, its size in bytes."""

    sha256: str
    extension: str
    size: int

    @property
    def name(self) -> str:
        """`<sha256>.<extension>`, its name in addresses."""
        return f"{self.sha256}.{self.extension}"

    @property
    def kind(self) -> Kind:
        return next(kind for _, _, extension, kind in _KINDS if extension == self.extension)

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.extension]


@dataclass(frozen=True)
class Damage:
    """What `verify` found wrong with one file."""

    name: str
    what: str


class MediaStore:
    """One store: a directory, or a bucket by its object store and name. Many processes may use it at once. Coroutines.

    What stands under a name never changes, but for being put again: that mends it where it was damaged.
    """

    def __init__(self, root: Path | ObjectStore, name: str = "") -> None:
        end_in_order()
        if isinstance(root, Path):
            root.mkdir(parents=True, exist_ok=True)
            self._store: ObjectStore = LocalStore(root)
        else:
            self._store = root
        self.name = name or str(root)
        """What people are told of where it is."""

    async def put(self, chunks: AsyncIterable[bytes], *, largest: int = LARGEST) -> Asset:
        """Take a stream in, in pieces of constant size; the same bytes again give the same asset.

        It has its name when all of it is here and hashed. Raises MediaError for what is no media, too long, or finds no room.
        """
        arriving, digest, size, head = f"{ARRIVING}/{uuid.uuid4()}", hashlib.sha256(), 0, b""

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size, head
            async for chunk in chunks:
                size += len(chunk)
                if size > largest:
                    raise MediaError(f"more than {largest} bytes arrived: it is no picture or film that is kept here")
                head = head if len(head) >= HEAD else (head + chunk)[:HEAD]
                digest.update(chunk)
                yield chunk

        with self._told("take a file in"):
            await obstore.put_async(self._store, arriving, counted(), chunk_size=PIECE, max_concurrency=2)
            try:
                asset = Asset(digest.hexdigest(), _extension(head), size)
                await obstore.rename_async(self._store, arriving, path_of(asset.name))
            except BaseException:
                await obstore.delete_async(self._store, arriving)  # also when cancelled: a part that arrived is nobody's
                raise
        await self._back(asset)
        return asset

    async def chunks(self, asset: Asset) -> AsyncIterator[bytes]:
        """The bytes, in pieces. The last one comes only if the whole has its hash. Raises MediaError."""
        digest, held = hashlib.sha256(), b""
        with self._told(f"read {asset.name}"):
            try:
                found = await obstore.get_async(self._store, path_of(asset.name))
            except FileNotFoundError:
                raise MediaError(f"no media {asset.name} in {self.name}: it was never collected, or deleted") from None
            async for chunk in found.stream(min_chunk_size=CHUNK):
                if held:
                    yield held
                held = bytes(chunk)
                digest.update(held)
        if digest.hexdigest() != asset.sha256:
            raise MediaError(f"media {asset.name} in {self.name} is damaged: restore it from a copy")
        yield held

    async def get(self, asset: Asset) -> bytes:
        """All bytes, verified. Raises MediaError."""
        return b"".join([chunk async for chunk in self.chunks(asset)])

    async def save(self, asset: Asset, to: Path) -> None:
        """Write a verified copy: whole, or not at all. Raises MediaError, OSError."""
        draft = f"{to}.{uuid.uuid4().hex[:8]}.part"
        try:
            with open(draft, "wb") as file:  # noqa: ASYNC230  # a file of this machine
                async for chunk in self.chunks(asset):
                    file.write(chunk)
            os.replace(draft, to)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(draft)
            raise

    async def part(self, asset: Asset, start: int, end: int) -> bytes:
        """Bytes `start` to before `end`, for players; a part has no hash, so it is not verified. Raises MediaError."""
        with self._told(f"read {asset.name}"):
            try:
                return bytes(await obstore.get_range_async(self._store, path_of(asset.name), start=start, end=end))
            except FileNotFoundError:
                raise MediaError(f"no media {asset.name} in {self.name}: it was never collected, or deleted") from None

    async def size(self, name: str) -> int | None:
        """How long the file of that name is, in bytes; None where it is not here. Raises MediaError."""
        stamp = await self.stamp(name)
        return None if stamp is None else stamp[0]

    async def stamp(self, name: str) -> tuple[int, datetime] | None:
        """Bytes of the file of that name, and when it was put last; None where it is not here. Raises MediaError."""
        with self._told(f"look for {name}"):
            try:
                found = await obstore.head_async(self._store, path_of(name))
            except FileNotFoundError:
                return None
        return int(found["size"]), found["last_modified"]

    async def has(self, asset: Asset) -> bool:
        """Whether the file is there; its bytes are not looked at. Raises MediaError."""
        return await self.size(asset.name) is not None

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """A store's own trouble, in words that name it."""
        try:
            yield
        except AlreadyExistsError:
            raise
        except BaseError as error:
            said = str(error).partition("\n")[0]
            room = ": make room there" if "No space left" in said or "StorageFull" in str(error) else ""
            raise MediaError(f"the media store {self.name} did not {what}: {said}{room}") from error

    # --- receipts ----------------------------------------------------------------------------------------------------

    async def receive(self, job: str, assets: list[Asset]) -> list[Asset]:
        """Keep which assets a job brought, and return them; for a job that has a receipt already, what that one says."""
        body = orjson.dumps([asdict(asset) for asset in assets])
        with self._told("keep a receipt"):
            try:
                await obstore.put_async(self._store, _receipt(job), body, mode="create")
            except AlreadyExistsError:
                return await self.received(job)
        return assets

    async def received(self, job: str) -> list[Asset]:
        """What a job brought, in its order; empty while nothing came."""
        with self._told("read a receipt"):
            try:
                found = await obstore.get_async(self._store, _receipt(job))
            except FileNotFoundError:
                return []
            return [Asset(**each) for each in orjson.loads(bytes(await found.bytes_async()))]

    # --- the whole store ---------------------------------------------------------------------------------------------

    def assets(self) -> Iterator[Asset]:
        """Everything that is kept, in the order of its hashes. Raises MediaError."""
        for asset, _ in self.kept():
            yield asset

    def kept(self) -> Iterator[tuple[Asset, datetime]]:
        """Everything that is kept and when it was last put, in the order of its hashes. Raises MediaError."""
        with self._told("list its files"):
            found = [each for batch in obstore.list(self._store, "sha256") for each in batch]
        for each in sorted(found, key=lambda meta: str(meta["path"])):
            digest, _, extension = Path(each["path"]).name.partition(".")
            yield Asset(digest, extension, int(each["size"])), each["last_modified"]

    def left_over(self) -> Iterator[tuple[str, int, datetime]]:
        """(path, bytes, when) of what arrived and never got a name. Raises MediaError."""
        with self._told("list what arrives"):
            for batch in obstore.list(self._store, ARRIVING):
                for each in batch:
                    yield str(each["path"]), int(each["size"]), each["last_modified"]

    def answers(self) -> None:
        """Return where the store is there and lets itself be listed. Raises MediaError."""
        with self._told("answer"):
            next(iter(obstore.list(self._store, ARRIVING, chunk_size=1)), None)

    async def remove(self, path: str) -> None:
        """Delete what stands at a path of this store; that it is gone already is well. Raises MediaError."""
        with self._told(f"delete {path}"):
            try:
                await obstore.delete_async(self._store, path)
            except FileNotFoundError:
                return

    # --- letting go --------------------------------------------------------------------------------------------------
    # Somebody may put a file again while it is let go, and a record name it then. Whoever lets go notes it first, looks when it
    # was put last, takes it aside, and deletes it only if the note still stands; whoever puts takes the note away, then looks
    # whether the file is there. Whatever order that comes in, one of the two sees the other.

    async def let_go(self, asset: Asset, put: datetime, why: str) -> bool:
        """Delete a file that was put last at `put` and note why; False, and it stays, where it was put again. Raises MediaError."""
        await self.note_gone(asset, why)
        stamp = await self.stamp(asset.name)
        if stamp is None:
            return True
        if abs(stamp[1] - put) > SAME_TIME:
            await self.remove(_note(asset.name))
            return False
        return await self._aside(asset)

    async def _aside(self, asset: Asset) -> bool:
        aside = f"{ASIDE}/{asset.name}"
        with self._told(f"let {asset.name} go"):
            try:
                await obstore.rename_async(self._store, path_of(asset.name), aside)
            except FileNotFoundError:
                return True  # somebody else let it go
        return await self._settled(asset.name)

    async def _settled(self, name: str) -> bool:
        """Of a file that is aside: gone for good where the note stands, else back in its place."""
        if await self._noted(name):
            await self.remove(f"{ASIDE}/{name}")
            return True
        with self._told(f"bring {name} back"), suppress(FileNotFoundError):  # another one was faster
            await obstore.rename_async(self._store, f"{ASIDE}/{name}", path_of(name))
        return False

    async def settle(self) -> None:
        """End what whoever was killed while letting go has left aside. Raises MediaError."""
        with self._told("list what is aside"):
            found = [Path(each["path"]).name for batch in obstore.list(self._store, ASIDE) for each in batch]
        for name in found:
            await self._settled(name)

    async def _back(self, asset: Asset) -> None:
        """Of a file that was just put: nobody may think that it was let go."""
        if not await self._noted(asset.name):
            return
        await self.remove(_note(asset.name))
        if not await self.has(asset):
            raise MediaError(f"the media store {self.name} let {asset.name} go while it was put again: put it once more")

    async def _noted(self, name: str) -> bool:
        with self._told(f"look what became of {name}"):
            try:
                await obstore.head_async(self._store, _note(name))
            except FileNotFoundError:
                return False
        return True

    async def note_gone(self, asset: Asset, why: str) -> None:
        """Remember that a file was let go and why, so that nobody looks for it. Raises MediaError."""
        body = orjson.dumps({"name": asset.name, "why": why})
        with self._told(f"note what became of {asset.name}"):
            await obstore.put_async(self._store, _note(asset.name), body)

    async def gone(self) -> dict[str, str]:
        """SHA-256 -> why, of everything that was let go and did not come back. Raises MediaError."""
        found: dict[str, str] = {}
        with self._told("list what was let go"):
            for batch in obstore.list(self._store, GONE):
                for each in batch:
                    note = orjson.loads(bytes(await (await obstore.get_async(self._store, each["path"])).bytes_async()))
                    found[note["name"].partition(".")[0]] = note["why"]
        return found

    async def check(self, asset: Asset) -> Damage | None:
        """Read a file again: what is wrong with it, or None. Raises MediaError where the store does not answer."""
        try:
            async for _ in self.chunks(asset):
                continue
        except MediaError as error:
            if error.__cause__ is not None:  # the store's own trouble says nothing of the file
                raise
            return Damage(asset.name, str(error))
        return None

    async def verify(self) -> tuple[int, list[Damage]]:
        """Read everything again: how many files are what they are called, and what is wrong with the others."""
        found = [await self.check(asset) for asset in self.assets()]
        damaged = [each for each in found if each is not None]
        return len(found) - len(damaged), damaged


def named(name: str) -> tuple[str, str] | None:
    """(sha256, extension) of an asset's name, or None where it is none."""
    digest, _, extension = name.partition(".")
    right = len(digest) == 64 and set(digest) <= set("0123456789abcdef") and extension in MEDIA_TYPES
    return (digest, extension) if right else None


def _extension(head: bytes) -> str:
    for at, magic, extension, _ in _KINDS:
        if head[at : at + len(magic)] == magic:
            return extension
    raise MediaError("what arrived is neither PNG, JPEG, WebP, MP4 nor WebM: look at what the server sent")


def path_of(name: str) -> str:
    return f"sha256/{name[:2]}/{name}"


def _note(name: str) -> str:
    return f"{GONE}/{name}.json"


def _receipt(job: str) -> str:
    """Jobs are named by hashes; anything else is hashed first, so that no name leads out of the folder."""
    return f"jobs/{hashlib.sha256(job.encode()).hexdigest()}.json"
