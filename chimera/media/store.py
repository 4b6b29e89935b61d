"""The media store: content-addressed files under the home, and receipts that say which job brought which of them.

The rule not to break: bytes get their name when all of them are here and hashed; a reader is given only what still has that hash.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import obstore
import orjson
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore

from chimera.errors import ChimeraError

Kind = Literal["image", "video"]

LARGEST = 512 * 1024 * 1024
"""Bytes; what is longer is refused while it comes in."""
CHUNK = 1024 * 1024
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
    """One store directory; many processes may use it at once. Coroutines; nothing is ever overwritten."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._store = LocalStore(root)

    async def put(self, chunks: AsyncIterable[bytes], *, largest: int = LARGEST) -> Asset:
        """Take a stream in; the same bytes again give the same asset. Raises MediaError for what is no media or too long."""
        arriving, digest, size, head = f"arriving/{uuid.uuid4()}", hashlib.sha256(), 0, b""
        try:
            async with obstore.open_writer_async(self._store, arriving) as writer:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > largest:
                        raise MediaError(f"more than {largest} bytes arrived: it is no picture or film that is kept here")
                    head = head if len(head) >= 16 else (head + chunk)[:16]
                    digest.update(chunk)
                    await writer.write(chunk)
            asset = Asset(digest.hexdigest(), _extension(head), size)
            try:
                await obstore.rename_async(self._store, arriving, _path(asset.name), overwrite=False)
            except AlreadyExistsError:
                await obstore.delete_async(self._store, arriving)
            return asset
        except BaseException:
            (self.root / arriving).unlink(missing_ok=True)  # also when cancelled: a part that arrived is nobody's
            raise

    async def chunks(self, asset: Asset) -> AsyncIterator[bytes]:
        """The bytes, in pieces. The last one comes only if the whole has its hash. Raises MediaError."""
        digest, held = hashlib.sha256(), b""
        try:
            found = await obstore.get_async(self._store, _path(asset.name))
        except FileNotFoundError:
            raise MediaError(f"no media {asset.name} in {self.root}: it was never collected, or deleted") from None
        async for chunk in found.stream(min_chunk_size=CHUNK):
            if held:
                yield held
            held = bytes(chunk)
            digest.update(held)
        if digest.hexdigest() != asset.sha256:
            raise MediaError(f"media {asset.name} in {self.root} is damaged: restore it from a copy")
        yield held

    async def get(self, asset: Asset) -> bytes:
        """All bytes, verified. Raises MediaError."""
        return b"".join([chunk async for chunk in self.chunks(asset)])

    async def has(self, asset: Asset) -> bool:
        """Whether the file is there; its bytes are not looked at."""
        try:
            await obstore.head_async(self._store, _path(asset.name))
        except FileNotFoundError:
            return False
        return True

    def place(self, asset: Asset) -> Path:
        """Where the file lies, or would; for whoever serves pieces of what they verified."""
        return self.root / _path(asset.name)

    # --- receipts ----------------------------------------------------------------------------------------------------

    async def receive(self, job: str, assets: list[Asset]) -> list[Asset]:
        """Keep which assets a job brought, and return them; for a job that has a receipt already, what that one says."""
        body = orjson.dumps([asdict(asset) for asset in assets])
        try:
            await obstore.put_async(self._store, _receipt(job), body, mode="create")
        except AlreadyExistsError:
            return await self.received(job)
        return assets

    async def received(self, job: str) -> list[Asset]:
        """What a job brought, in its order; empty while nothing came."""
        try:
            found = await obstore.get_async(self._store, _receipt(job))
        except FileNotFoundError:
            return []
        return [Asset(**each) for each in orjson.loads(bytes(await found.bytes_async()))]

    # --- the whole store ---------------------------------------------------------------------------------------------

    def assets(self) -> Iterator[Asset]:
        """Everything that is kept, in the order of its hashes."""
        for batch in obstore.list(self._store, "sha256"):
            for found in sorted(batch, key=lambda meta: str(meta["path"])):
                digest, _, extension = Path(found["path"]).name.partition(".")
                yield Asset(digest, extension, int(found["size"]))

    async def verify(self) -> tuple[int, list[Damage]]:
        """Read everything again: how many files are what they are called, and what is wrong with the others."""
        sound, damaged = 0, []
        for asset in self.assets():
            try:
                async for _ in self.chunks(asset):
                    continue
                sound += 1
            except MediaError as error:
                damaged.append(Damage(asset.name, str(error)))
        return sound, damaged


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


def _path(name: str) -> str:
    return f"sha256/{name[:2]}/{name}"


def _receipt(job: str) -> str:
    """Jobs are named by hashes; anything else is hashed first, so that no name leads out of the folder."""
    return f"jobs/{hashlib.sha256(job.encode()).hexdigest()}.json"
